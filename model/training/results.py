"""What a training reports while it runs and at its end."""

import dataclasses
from collections.abc import Mapping, Sequence

from model.training.interest_choice import InterestChoice
from model.training.warm_start import WarmStarted


@dataclasses.dataclass(frozen=True)
class Progress:
    """State of a running training, for a progress line.

    Attributes:
      step: Number of steps done.
      max_steps: Largest number of steps.
      examples_per_second: Speed over the last block of steps.
      loss: Mean loss over the last block of steps.
      validation_recall: Recall of the last validation pass; None before the first.
      best_recall: Recall of the best pass; None before the first.
      seconds_left: Estimated time until ``max_steps`` or ``max_seconds``; early stopping
        may end the training sooner.
      history: The validation passes so far, including those before a resume, as in
        ``TrainingResult``.
    """

    step: int
    max_steps: int
    examples_per_second: float
    loss: float
    validation_recall: float | None
    best_recall: float | None
    seconds_left: float
    history: Sequence[Mapping[str, float]]


@dataclasses.dataclass(frozen=True)
class TrainingResult:
    """Outcome of a training. The model holds the best weights.

    Attributes:
      steps: Number of steps done.
      resumed_from_step: Step of the checkpoint from which an interrupted training
        resumed; 0 if the training was not interrupted.
      best_step: Step of the best validation pass.
      best_recall: Recall@N of that pass.
      stopped_by: ``patience``, ``max_steps`` or ``max_seconds``.
      seconds: Training and validation time, including the time before a resume.
      examples_per_second: Speed of the training steps, without validation.
      history: One entry per validation pass: step, loss (not at step 0), seconds, recall,
        learning_rate, active_interests, interest_cosine, and repeat_offset if the model has
        ``repeat``.
      warm_start: What was carried over from an earlier model; None for a training from
        scratch.
      from_nothing_because: Why a training that is configured to continue from an earlier
        model started from scratch; empty if it did continue, or has no such configuration.
      num_interests: K of the model.
      interest_choice: The comparison of several interests with one; None if there was none.
    """

    steps: int
    resumed_from_step: int
    best_step: int
    best_recall: float
    stopped_by: str
    seconds: float
    examples_per_second: float
    history: list[dict[str, float]]
    warm_start: WarmStarted | None
    from_nothing_because: str
    num_interests: int
    interest_choice: InterestChoice | None = None
