"""What a training tells of itself, while it runs and at its end."""

import dataclasses
from collections.abc import Mapping, Sequence

from model.training.interest_choice import InterestChoice
from model.training.warm_start import WarmStarted


@dataclasses.dataclass(frozen=True)
class Progress:
    """State of a running training, for a progress line.

    Attributes:
      step: Steps done.
      max_steps: Steps at most.
      examples_per_second: Over the last call.
      loss: Mean over the last call.
      validation_recall: Of the last validation pass; None before the first.
      best_recall: Of the best pass; None before the first.
      seconds_left: Until ``max_steps`` or ``max_seconds``; early stopping may
        end the training sooner.
      history: The validation passes so far, also those before a resume, as in
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
    """What a training did. The model holds the best weights.

    Attributes:
      steps: Steps done.
      resumed_from_step: Step of the checkpoint that an interrupted training went
        on from; 0 for one that was not interrupted.
      best_step: Step of the best validation pass.
      best_recall: Its Recall@N.
      stopped_by: ``patience``, ``max_steps`` or ``max_seconds``.
      seconds: Training and validation time, including that before a resume.
      examples_per_second: Training steps only.
      history: One entry per validation pass: step, loss (not at step 0), seconds, recall,
        learning_rate, active_interests, interest_cosine.
      warm_start: What was carried over from an earlier model; None for a training from
        nothing.
      from_nothing_because: Why a training that might have gone on from an earlier model did not;
        empty if it did, or could not be asked to.
      num_interests: K of the model.
      interest_choice: How it was chosen between several interests and one; None if it was
        not.
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
