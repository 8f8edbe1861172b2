"""The search itself: Optuna's study, kept in a database so that a killed search can resume."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from pipeline.tune.space import Dimension, SpaceConfig

# Attributes of a trial.
_FIRST_ATTEMPT = "first_attempt"
_WHY = "why"
_BEST_STEP = "best_step"
_SECONDS = "seconds"

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclasses.dataclass(frozen=True)
class Trial:
    """One attempt to train with certain values.

    Attributes:
      number: Number of the attempt, from 0.
      attempt_of: Number of the first attempt with these values, which is that of an earlier trial
        if this one repeats it after an interruption.
      values: Plain values by dotted key.
      state: ``complete``, ``pruned``, ``failed`` or ``running``.
      recall: Best validation Recall@N; the last one if the trial was pruned; None if there is none.
      curve: Validation Recall@N by step.
      best_step: Step at which a complete trial reached ``recall``.
      seconds: Duration of a complete training.
      why: Why the trial was pruned or failed, if its curve does not explain it.
    """

    number: int
    attempt_of: int
    values: Mapping[str, Any]
    state: str
    recall: float | None
    curve: Mapping[int, float]
    best_step: int | None
    seconds: float | None
    why: str


class Study:
    """A search whose suggestions depend on the seed and on the results of its trials.

    They do not depend on interruptions: a search that is killed and resumed makes the same
    suggestions as it would have made without the interruption.

    Args:
      path: Path of the database; created if it does not exist.
      space: How to search.
      dims: The dimensions to search.
      eval_every_steps: Number of steps between two validation passes.
    """

    def __init__(
        self, path: Path, space: SpaceConfig, dims: Sequence[Dimension], eval_every_steps: int
    ):
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        self._dimensions = dims
        self._study = optuna.create_study(
            study_name="recipe",
            storage=f"sqlite:///{path}",
            direction="maximize",
            load_if_exists=True,
            pruner=_pruner(space, eval_every_steps),
        )
        self._recover()
        found = self._study.get_trials(deepcopy=False)
        if all(trial.state == TrialState.FAIL for trial in found):
            # The configuration itself comes first, because all other trials are compared with it.
            own = {dimension.key: _stored(dimension, dimension.own) for dimension in dims}
            self._study.enqueue_trial(own, user_attrs={_FIRST_ATTEMPT: 0} if found else None)

    def trials(self) -> list[Trial]:
        """Returns all attempts, oldest first, except those that are waiting."""
        found = self._study.get_trials(deepcopy=False)
        return [self._trial(t) for t in found if t.state != TrialState.WAITING]

    def finished(self) -> list[Trial]:
        """Returns the trials that are complete or were pruned, oldest first."""
        found = self._study.get_trials(deepcopy=False, states=_FINISHED)
        return [self._trial(t) for t in found]

    def best(self) -> Trial | None:
        """Returns the complete trial with the best validation Recall@N; the oldest of several."""
        complete = [trial for trial in self.finished() if trial.state == "complete"]
        return max(complete, key=lambda trial: trial.recall or 0.0, default=None)

    def begin(self) -> "RunningTrial":
        """Begins a trial: an interrupted one again if there is one, otherwise a new one."""
        found = self._study.get_trials(deepcopy=False)
        waiting = next((t for t in found if t.state == TrialState.WAITING), None)
        number = waiting.number if waiting else len(found)
        first = waiting.user_attrs.get(_FIRST_ATTEMPT, number) if waiting else number
        # Repetitions before it are not draws of their own.
        draw = sum(_FIRST_ATTEMPT not in t.user_attrs for t in found[:first])
        entropy = np.random.SeedSequence([self._space.seed, draw])
        self._study.sampler = optuna.samplers.TPESampler(
            seed=int(entropy.generate_state(1)[0]),
            n_startup_trials=self._space.random_trials,
            constant_liar=False,
        )
        asked = self._study.ask()
        for dimension in self._dimensions:
            _suggest(asked, dimension)
        (frozen,) = (t for t in self._study.get_trials() if t.number == asked.number)
        return RunningTrial(self._study, asked, self._trial(frozen))

    def importances(self) -> dict[str, float]:
        """Returns the share of the differences between complete trials that each key explains."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({trial.value for trial in complete}) < 4:
            return {}  # too few trials
        found = optuna.importance.get_param_importances(
            self._study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
        )
        return {key: float(value) for key, value in found.items()}

    def _recover(self) -> None:
        """Marks running trials, whose process is gone, as failed, and queues them again."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in running:
            self._study.tell(trial.number, state=TrialState.FAIL)
            # If a trial was killed before all its values were drawn, they are drawn again: the same
            # draws give the same values.
            whole = len(trial.params) == len(self._dimensions)
            self._study.enqueue_trial(
                trial.params if whole else {},
                user_attrs={_FIRST_ATTEMPT: trial.user_attrs.get(_FIRST_ATTEMPT, trial.number)},
            )

    def _trial(self, frozen: FrozenTrial) -> Trial:
        failed = frozen.state == TrialState.FAIL
        choices = {dimension.key for dimension in self._dimensions if dimension.choices}
        curve = dict(sorted(frozen.intermediate_values.items()))
        recall = frozen.value if frozen.state == TrialState.COMPLETE else None
        if recall is None and curve:
            recall = list(curve.values())[-1]
        return Trial(
            number=frozen.number,
            attempt_of=frozen.user_attrs.get(_FIRST_ATTEMPT, frozen.number),
            values={
                key: json.loads(value) if key in choices else value
                for key, value in frozen.params.items()
            },
            state="failed" if failed else frozen.state.name.lower(),
            recall=recall,
            curve=curve,
            best_step=frozen.user_attrs.get(_BEST_STEP),
            seconds=frozen.user_attrs.get(_SECONDS),
            # A trial that failed by itself would have a reason.
            why=frozen.user_attrs.get(_WHY, "interrupted" if failed else ""),
        )


class RunningTrial:
    """A trial that is being trained."""

    def __init__(self, study: optuna.Study, asked: optuna.Trial, trial: Trial):
        self._study = study
        self._asked = asked
        self.trial = trial

    def validated(self, step: int, recall: float) -> bool:
        """Adds a point of the validation curve; returns whether to stop the trial."""
        self._asked.report(recall, step)
        return self._asked.should_prune()

    def complete(self, recall: float, best_step: int, seconds: float) -> None:
        """Ends a trial that was trained to completion."""
        self._asked.set_user_attr(_BEST_STEP, best_step)
        self._asked.set_user_attr(_SECONDS, seconds)
        self._study.tell(self._asked, recall)

    def pruned(self, why: str = "") -> None:
        """Ends a trial that is worse than others; ``why`` is for reasons beyond its curve."""
        if why:
            self._asked.set_user_attr(_WHY, why)
        self._study.tell(self._asked, state=TrialState.PRUNED)

    def failed(self, why: str) -> None:
        """Ends a trial that says nothing about its values."""
        self._asked.set_user_attr(_WHY, why)
        self._study.tell(self._asked, state=TrialState.FAIL)


def _pruner(space: SpaceConfig, eval_every_steps: int) -> optuna.pruners.BasePruner:
    if not space.prune:
        return optuna.pruners.NopPruner()
    return optuna.pruners.MedianPruner(
        n_startup_trials=space.prune_after_trials,
        n_warmup_steps=space.prune_after_passes * eval_every_steps,
    )


def _stored(dimension: Dimension, value: Any) -> Any:
    """Converts a value for the study, which stores choices of any type as JSON."""
    return json.dumps(value) if dimension.choices else value


def _suggest(asked: optuna.Trial, dimension: Dimension) -> None:
    key, low, high = dimension.key, dimension.low, dimension.high
    if dimension.choices:
        asked.suggest_categorical(key, [json.dumps(choice) for choice in dimension.choices])
    elif isinstance(low, int) and isinstance(high, int):
        asked.suggest_int(key, low, high, log=dimension.log)
    else:
        asked.suggest_float(key, low or 0.0, high or 0.0, log=dimension.log)
