"""A tuning as a user runs it: killed in a trial, gone on with, and its winner run as a pipeline.

From the kill to the judgement the people of the test split are not there.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import local_runner
from pipeline import config as config_lib
from pipeline.output_layout import OutputLayout
from pipeline.tune import isolated
from pipeline.tune import space as space_lib
from pipeline.tune.tuner import Tuning
from tests.e2e import planted

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).resolve().parents[2]
_TRIALS = 3
_CONFIG = """
data: {{interactions: {{files: [{log}], user_column: who, item_column: what,
                        timestamp_column: when}}}}
output_dir: {output}
model: {{embedding_dim: 32, num_interests: 2, history_length: 10, hidden_units: [32]}}
training:
  # So low that nothing is learnt, and whatever is drawn is better.
  learning_rate: 1.0e-6
  max_steps: 200
  eval_every_steps: 50
  checkpoint_every_steps: 50
  batch_size: 256
  num_negatives: 128
evaluation: {{exclude_history: false, item_knn: false, confidence_intervals: false}}
index: {{num_queries: 50}}
"""
_SPACE = """
random_trials: 3
parameters:
  training.learning_rate: {low: 1.0e-2, high: 3.0e-2}
  model.hidden_units: {choices: [[32], [32, 16]]}
"""


class Project:
    """A user's folder with a log, a configuration and a search space."""

    def __init__(self, folder: Path):
        self.output = folder / "output"
        self.config, self.space = folder / "run.yaml", folder / "space.yaml"
        planted.write_log(folder / "my.csv", people=150)
        self.config.write_text(_CONFIG.format(log=folder / "my.csv", output=self.output))
        self.space.write_text(_SPACE)
        self.said: list[str] = []

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "pipeline.tune",
                f"--config={self.config}",
                f"--space={self.space}",
                f"--trials={_TRIALS}",
            ],
            cwd=_ROOT,
        )

    def tuning(self) -> Tuning:
        """The same tuning in this process, step by step."""
        config = config_lib.load(self.config)
        space = space_lib.load_space(self.space)
        dimensions = space_lib.dimensions(space, config, str(self.space))
        log_file = OutputLayout(self.output, config.name).log_file("20261126-000000")
        return Tuning(config, space, dimensions, "", log_file, self.said.append)


class _WithoutTestPeople:
    """Takes the test split out of all artifacts, and puts it back."""

    def __init__(self, output: Path):
        self._hidden = {
            split: split.with_name("hidden")
            for split in output.glob("pipeline/mind/*/*/*/Split-test")
        }

    def __enter__(self) -> None:
        nodes = {split.parents[2].name for split in self._hidden}
        assert nodes >= {"example-gen", "transform"}
        for split, hidden in self._hidden.items():
            split.rename(hidden)

    def __exit__(self, *_: object) -> None:
        for split, hidden in self._hidden.items():
            hidden.rename(split)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("user"))
    killed = project.start()
    deadline = time.monotonic() + 1800
    # TensorFlow writes this file last: from then on the checkpoint counts.
    while not list(project.output.glob("tuning/mind/*/trials/0001/checkpoints/latest/checkpoint")):
        assert killed.poll() is None, "the tuning ended before the second trial's checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()

    tuning = project.tuning()
    places = tuning.begin()
    with _WithoutTestPeople(project.output):
        study = tuning.open(places)
        tuning.search(study, places, _TRIALS)
        with pytest.raises(isolated.IsolatedError):
            tuning.conclude(study, places)
    tuning.conclude(study, places)
    project.places = places
    project.record = json.loads(places.record.read_text())
    return project


def test_the_killed_trial_is_repeated_and_all_trials_are_finished(project):
    trials = project.record["trials"]
    assert [(t["number"], t["attempt_of"]) for t in trials] == [(0, 0), (1, 1), (2, 1), (3, 3)]
    assert (trials[1]["state"], trials[1]["why"]) == ("failed", "interrupted")
    assert [t["state"] for t in trials].count("complete") == _TRIALS
    assert trials[2]["values"] == trials[1]["values"]
    # It went on from the checkpoint, and its curve is whole.
    report = json.loads((project.places.trial(1).run / "training_report.json").read_text())
    assert report["resumed_from_step"] >= 50
    assert [step for step, _ in trials[2]["curve"]] == [50, 100, 150, 200]


def test_test_people_are_asked_once_after_the_search(project):
    # The search above ran without them, and no judgement was possible.
    (judgement,) = project.record["judgements"]
    winner = project.record["trials"][project.record["winner"]]
    assert judgement["winner"] == winner["attempt_of"] != 0
    difference = judgement["difference"]
    assert difference["people"] == 150
    primary = judgement["metrics"][0]
    assert primary["name"] == "recall_at_50_history_included"
    assert difference["value"] == pytest.approx(primary["winner"] - primary["default"], abs=1e-9)
    assert 0 < difference["low"] < difference["value"] < difference["high"]
    assert any("The winner is better than the default recipe" in line for line in project.said)


def test_the_written_configuration_trains_the_winner(project):
    assert local_runner.main([f"--config={project.places.winner}"]) == 0
    (summary,) = project.output.glob("runs/mind/*/summary.json")
    found = json.loads(summary.read_text())
    winner = project.record["trials"][project.record["winner"]]
    assert found["training"]["best_recall"] == winner["recall"]
    (judgement,) = project.record["judgements"]
    primary = judgement["metrics"][0]
    assert found["metrics"]["mind"]["overall"][primary["name"]]["value"] == pytest.approx(
        primary["winner"], abs=1e-9
    )
    # Only what a tuning does not need had to be made.
    states = {step["id"]: step["state"] for step in found["steps"]}
    assert (states["transform"], states["trainer"]) == ("cached", "ran")
