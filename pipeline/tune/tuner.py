"""Runs a tuning from beginning to end."""

import dataclasses
import datetime
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contract.config_types import to_dict
from contract.errors import UserError
from pipeline import config as config_lib
from pipeline.config import RunConfig
from pipeline.output_layout import OutputLayout
from pipeline.source_digest import PROJECT_ROOT
from pipeline.tune import isolated, record
from pipeline.tune.places import TrialPlaces, TuningPlaces
from pipeline.tune.space import Dimension, SpaceConfig
from pipeline.tune.study import RunningTrial, Study, Trial

# This many failures in a row are assumed to have one cause, which would affect further trials too.
_FAILURES_IN_A_ROW = 3
_STEPS = "pipeline.tune.steps"
_PAGE_COMMAND = "report.tuning"  # run as a command: this package must not import `report`


class TuningError(UserError):
    """A tuning cannot continue."""


@dataclasses.dataclass(frozen=True)
class Tuning:
    """A search, and the locations of its outputs.

    Attributes:
      config: The configuration, whose recipe is the default.
      space: How to search.
      dimensions: The dimensions to search.
      span: Newest span of the log; empty if its files have no spans.
      log_file: File for the output of TensorFlow and TFX.
      say: Shows a line to the user.
    """

    config: RunConfig
    space: SpaceConfig
    dimensions: Sequence[Dimension]
    span: str
    log_file: Path
    say: Callable[[str], None]

    def run(self, trials: int, timeout: float | None) -> None:
        """Searches, evaluates the winner once, and writes its configuration.

        Args:
          trials: Total number of trials to finish, including those of earlier calls.
          timeout: Seconds after which no further trial begins; None means no limit.

        Raises:
          TuningError: the default recipe, or several trials in a row, failed.
        """
        places = self.begin()
        study = self.open(places)
        self.search(study, places, trials, timeout)
        self.conclude(study, places)

    def begin(self) -> TuningPlaces:
        """Prepares the data that trials train on; returns the places of the tuning."""
        started = time.monotonic()
        key = self._call("begin", config=self.config, space=self.space)
        layout = OutputLayout(Path(self.config.output_dir).resolve(), self.config.name)
        places = TuningPlaces(layout.tunings / key)
        places.root.mkdir(parents=True, exist_ok=True)
        self.say(
            f"Data ready after {_duration(time.monotonic() - started)}; results in {places.root}"
        )
        return places

    def open(self, places: TuningPlaces) -> Study:
        """Opens the study, creating it if necessary."""
        every = self.config.training.eval_every_steps
        return Study(places.database, self.space, self.dimensions, every)

    def search(
        self, study: Study, places: TuningPlaces, trials: int, timeout: float | None = None
    ) -> None:
        """Trains until ``trials`` trials are finished; reads no person of the test split."""
        deadline = time.monotonic() + (float("inf") if timeout is None else timeout)
        done = study.finished()
        if done:
            self.say(f"Continuing after {len(done)} finished trials")
        failures = 0
        while len(study.finished()) < trials:
            _check_default(study)
            if time.monotonic() >= deadline:
                self.say(f"No further trial after {timeout:g} seconds")
                break
            running = study.begin()
            why = self._train(running, places)
            failures = failures + 1 if why else 0
            if why and (failures == _FAILURES_IN_A_ROW or not study.finished()):
                raise TuningError(
                    f"{failures} trial(s) failed one after another; the last one: {why}"
                )
            self._keep_models(study, places)
            self._write_record(study, places)

    def conclude(self, study: Study, places: TuningPlaces) -> None:
        """Compares the winner with the default recipe on test people, and writes the results."""
        winner = study.best()
        if winner is None:
            raise TuningError(
                "No trial is complete, so there is no recipe to evaluate. Repeat the command "
                "with a longer --timeout."
            )
        _check_default(study)
        default = study.finished()[0]
        self._write_winner(winner, places)
        judgements = record.read_judgements(places.judgements)
        if winner.values == default.values:
            self.say("No trial was better than the configuration itself on validation people.")
        else:
            found = next((j for j in judgements if j["winner"] == winner.attempt_of), None)
            if found is None:
                found = {"winner": winner.attempt_of, **self._judge(winner, default, places)}
                judgements.append(found)
                record.write_json(places.judgements, judgements)
            self.say("")
            self.say(record.table(found, default, winner, self._validated))
            self.say(record.verdict(found))
            if len(judgements) > 1:
                self.say(
                    f"These test people have judged {len(judgements)} winners of this search; the "
                    "more winners they judge, the less a single interval means."
                )
        self._write_record(study, places)
        self.say(f"\nWinner    {places.winner}")
        self._draw(places)

    @property
    def _validated(self) -> str:
        """Name of the metric by which trials are selected."""
        return f"recall@{self.config.evaluation.primary_cutoff}"

    def _train(self, running: RunningTrial, places: TuningPlaces) -> str:
        """Trains one trial; returns why it failed, or an empty string."""
        trial = running.trial
        name = f"Trial {trial.number:>3}  "
        if trial.attempt_of != trial.number:
            name += f"(again trial {trial.attempt_of}) "
        own = {dimension.key: dimension.own for dimension in self.dimensions}
        what = record.values_text(trial.values, own)
        place = places.trial(trial.attempt_of)
        started = time.monotonic()
        try:
            config = self._recipe(trial.values)
        except config_lib.ConfigError as error:
            running.pruned(f"refused: {error}")
            self.say(f"{name}refused  {what}: {error}")
            return ""
        try:
            result = self._fit(config, place, running.validated)
        except isolated.IsolatedError as error:
            running.failed(str(error))
            self.say(f"{name}failed   {what}: {error}")
            return str(error)
        took = _duration(time.monotonic() - started)
        if "recall" in result:
            running.complete(**result)
            outcome = f"{self._validated} {result['recall']:.4f}"
        else:
            why = result.get("diverged", "")
            running.pruned(f"diverged: {why}" if why else "")
            outcome = "diverged" if why else "stopped early"
            shutil.rmtree(place.checkpoints, ignore_errors=True)
        self.say(f"{name}{outcome:<17} {took:>8}  {what}")
        return ""

    def _recipe(self, values: Mapping[str, Any]) -> RunConfig:
        """Returns the configuration of a trial: a single training, which starts from scratch."""
        once = {"training.warm_start": None, "training.try_one_interest": False}
        return config_lib.replaced(self.config, {**values, **once}, "the search space")

    def _fit(
        self,
        config: RunConfig,
        place: TrialPlaces,
        validated: Callable[[int, float], bool] | None = None,
    ) -> dict[str, Any]:
        return self._call(
            "train",
            lambda point: validated(*point) if validated else False,
            config=config,
            place=place,
        )

    def _judge(self, winner: Trial, default: Trial, places: TuningPlaces) -> dict[str, Any]:
        self.say("Evaluating the winner on test people")
        for trial in (winner, default):
            place = places.trial(trial.attempt_of)
            if not place.model.exists():
                self.say(f"Training trial {trial.number} again, because its model was removed")
                self._fit(self._recipe(trial.values), place)
        return self._call(
            "judge",
            config=self.config,
            candidate=places.trial(winner.attempt_of),
            baseline=places.trial(default.attempt_of),
        )

    def _call(
        self, step: str, on_message: Callable[[Any], Any] | None = None, **arguments: Any
    ) -> Any:
        return isolated.call(
            f"{_STEPS}.{step}", {"span": self.span, **arguments}, self.log_file, on_message
        )

    def _keep_models(self, study: Study, places: TuningPlaces) -> None:
        """Removes all models except those that may be evaluated."""
        finished = study.finished()
        kept = {trial.attempt_of for trial in (study.best(), finished[0]) if trial}
        for trial in finished:
            if trial.attempt_of not in kept:
                shutil.rmtree(places.trial(trial.attempt_of).model, ignore_errors=True)

    def _write_winner(self, winner: Trial, places: TuningPlaces) -> None:
        config = config_lib.replaced(self.config, winner.values, "the search space")
        places.winner.write_text(
            f"# Trial {winner.number} of a tuning: {self._validated} {winner.recall:.4f} on "
            f"validation people.\n{config_lib.to_yaml(config)}",
            encoding="utf-8",
        )

    def _write_record(self, study: Study, places: TuningPlaces) -> None:
        winner = study.best()
        record.write_json(
            places.record,
            {
                "name": self.config.name,
                "validated": self._validated,
                "space": to_dict(self.space),
                "trials": [record.trial_facts(trial) for trial in study.trials()],
                "default": study.finished()[0].number if study.finished() else None,
                "winner": winner.number if winner else None,
                "importances": study.importances(),
                "judgements": record.read_judgements(places.judgements),
            },
        )

    def _draw(self, places: TuningPlaces) -> None:
        command = [sys.executable, "-m", _PAGE_COMMAND, str(places.root)]
        drawn = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True)
        if drawn.returncode:
            self.say(f"No page was written: {drawn.stderr.strip().splitlines()[-1]}")
        else:
            self.say(f"History   {places.page}")


def _check_default(study: Study) -> None:
    """Raises if the configuration itself could not be trained: all trials compare with it."""
    for default in study.finished()[:1]:
        if default.state != "complete":
            raise TuningError(
                f"The configuration itself could not be trained to its end: {default.why}. Fix "
                "this before tuning."
            )


def _duration(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))
