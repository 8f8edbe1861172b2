"""The course of a tuning, with trainings that a formula stands in for."""

import dataclasses
import json
import os
from pathlib import Path

import pytest

from pipeline import config as config_lib
from pipeline.tune import __main__ as command
from pipeline.tune import isolated, tuner
from report import tuning as page

_SPACE = """
random_trials: 2
prune_after_trials: 2
prune_after_passes: 1
parameters:
  training.learning_rate: {low: 1.0e-3, high: 1.0e-2}
  model.num_interests: {choices: [1, 2, 4, 8]}
"""
_METRICS = ("recall_at_50", "ndcg_at_50", "hit_rate_at_50")


class Killed(BaseException):
    """The process is gone; nothing more is written."""


class Trainings:
    """Stands in for the processes that train and judge.

    Attributes:
      calls: Names of the steps and what they were given.
      fails: Errors by the number of the training from 0, or what is to be returned.
    """

    def __init__(self):
        self.calls = []
        self.fails = {}

    def __call__(self, function, arguments, log_file, on_message=None):
        name = function.rpartition(".")[2]
        self.calls.append((name, arguments))
        return getattr(self, f"_{name}")(arguments, on_message)

    def configs(self):
        return [arguments["config"] for name, arguments in self.calls if name == "train"]

    def count(self, name):
        return sum(called == name for called, _ in self.calls)

    def _begin(self, arguments, on_message):
        return "key"

    def _train(self, arguments, on_message):
        config, place = arguments["config"], arguments["place"]
        place.checkpoints.mkdir(parents=True, exist_ok=True)
        outcome = self.fails.get(self.count("train") - 1)
        if isinstance(outcome, BaseException):
            raise outcome
        if outcome is not None:
            return outcome
        recall = recall_of(config)
        if any(on_message((step, recall * step / 500)) for step in (250, 500)):
            return {"stopped": True}
        place.checkpoints.rmdir()
        place.model.mkdir()
        return {"recall": recall, "best_step": 500, "seconds": 1.5}

    def _judge(self, arguments, on_message):
        for role in ("candidate", "baseline"):
            assert arguments[role].model.exists()
        return {
            "metrics": [{"name": name, "default": 0.2, "winner": 0.25} for name in _METRICS],
            "difference": {"value": 0.05, "low": 0.01, "high": 0.09, "people": 94},
        }


def recall_of(config):
    """Best with one interest and a high learning rate."""
    return 0.1 / config.model.num_interests + 10 * config.training.learning_rate


@pytest.fixture
def trainings(monkeypatch):
    stand_in = Trainings()
    monkeypatch.setattr(isolated, "call", stand_in)
    return stand_in


@pytest.fixture
def tune(tmp_path, monkeypatch, request):
    """Calls the command; returns its exit code. The page is drawn where a test asks for it."""
    if not hasattr(request, "param"):
        monkeypatch.setattr(tuner.Tuning, "_draw", lambda self, places: None)
    (tmp_path / "space.yaml").write_text(_SPACE)
    (tmp_path / "run.yaml").write_text(
        "data: {interactions: {files: [log.csv]}}\n"
        "training: {warm_start: {steps: 7}}\n"
        f"output_dir: {tmp_path}/out\n"
    )

    def call(*arguments):
        return command.main(
            [f"--config={tmp_path}/run.yaml", f"--space={tmp_path}/space.yaml", *arguments]
        )

    return call


@pytest.fixture
def results(tmp_path):
    return tmp_path / "out" / "tuning" / "mind" / "key"


def _record(results):
    return json.loads((results / "tuning.json").read_text())


def _models(results):
    return {path.parent.name for path in results.glob("trials/*/model")}


@pytest.mark.parametrize("tune", ["with its page"], indirect=True)
def test_a_tuning_from_beginning_to_end(tune, trainings, results, capsys):
    assert tune("--trials=6") == 0
    record = _record(results)
    winner = record["trials"][record["winner"]]
    default = record["trials"][record["default"]]
    assert len(record["trials"]) == 6
    assert winner["recall"] > default["recall"] == pytest.approx(0.055)
    # Every trial starts from nothing; what is written goes on from the model in service.
    assert {config.training.warm_start for config in trainings.configs()} == {None}
    written = config_lib.load(results / "winner.yaml")
    assert written.training.warm_start.steps == 7
    trained = next(c for c in trainings.configs() if recall_of(c) == winner["recall"])
    assert written == dataclasses.replace(
        trained,
        training=dataclasses.replace(trained.training, warm_start=written.training.warm_start),
    )
    # Only the two models that were judged are left, and no checkpoint.
    assert _models(results) == {"0000", f"{record['winner']:04d}"}
    assert not list(results.glob("trials/*/checkpoints"))
    shown = capsys.readouterr().out
    (line,) = (line for line in shown.splitlines() if line.startswith("recall_at_50, test"))
    figures = "0.2000 0.2500 +0.0500 (95 % interval +0.0100 to +0.0900, 94 people)"
    assert " ".join(line.split()[2:]) == figures
    assert "The winner is better than the default recipe, by 25.0%." in shown
    assert str(results / "winner.yaml") in shown
    assert (results / "history.html").read_text().count('<svg role="img"') == 3


def test_more_trials_go_on_and_a_known_winner_is_not_judged_again(tune, trainings, results, capsys):
    assert tune("--trials=3") == 0
    assert trainings.count("judge") == 1
    winner = _record(results)["winner"]
    assert tune("--trials=3") == 0
    assert (trainings.count("train"), trainings.count("judge")) == (3, 1)
    # The winner stays the same for as long as nothing is better.
    trainings.fails = {3: {"diverged": "The loss is nan"}, 4: {"diverged": "The loss is nan"}}
    assert tune("--trials=5") == 0
    assert _record(results)["winner"] == winner
    assert (trainings.count("train"), trainings.count("judge")) == (5, 1)
    assert "Continuing after 3 finished trials" in capsys.readouterr().out


def test_a_second_winner_is_judged_and_the_repetition_is_said(tune, trainings, results, capsys):
    assert tune("--trials=2") == 0
    first = _record(results)["winner"]
    better = {"recall": 0.9, "best_step": 500, "seconds": 1.0}
    trainings.fails = {2: better}
    (results / "trials" / "0002" / "model").mkdir(parents=True)
    assert tune("--trials=3") == 0
    assert _record(results)["winner"] == 2 != first
    assert trainings.count("judge") == 2
    assert "These test people have judged 2 winners" in capsys.readouterr().out


def test_a_killed_tuning_goes_on_and_ends_with_the_trials_that_were_asked_for(
    tune, trainings, results
):
    trainings.fails = {1: Killed()}
    with pytest.raises(Killed):
        tune("--trials=4")
    # What the killed training had left serves its repetition.
    assert (results / "trials" / "0001" / "checkpoints").exists()
    assert tune("--trials=4") == 0
    trials = _record(results)["trials"]
    assert [trial["state"] for trial in trials].count("failed") == 1
    assert [trial["attempt_of"] for trial in trials] == [0, 1, 1, 3, 4]
    finished = [trial for trial in trials if trial["state"] in ("complete", "pruned")]
    assert len(finished) == 4
    places = [a["place"].root.name for name, a in trainings.calls if name == "train"]
    assert places == ["0000", "0001", "0001", "0003", "0004"]


def test_ctrl_c_is_one_line_and_130(tune, trainings, capsys):
    trainings.fails = {1: KeyboardInterrupt()}
    assert tune("--trials=3") == command.EXIT_INTERRUPTED == 130
    assert capsys.readouterr().err == (
        "Interrupted. Repeat the command to resume the trial that was running.\n"
    )


def test_a_trial_that_fails_is_no_finished_one(tune, trainings, results, capsys):
    trainings.fails = {1: isolated.IsolatedError("The process was ended by SIGKILL.")}
    assert tune("--trials=3") == 0
    states = [trial["state"] for trial in _record(results)["trials"]]
    assert states.count("failed") == 1
    assert len(states) == 4
    assert "ended by SIGKILL" in capsys.readouterr().out


def test_three_failures_in_a_row_end_the_tuning(tune, trainings, capsys):
    trainings.fails = dict.fromkeys((1, 2, 3), isolated.IsolatedError("A disk is full"))
    assert tune("--trials=9") == command.EXIT_FAILED == 1
    error = capsys.readouterr().err
    assert "3 trial(s) failed one after another; the last one: A disk is full" in error
    assert "Details: " in error


def test_a_configuration_that_fails_itself_ends_the_tuning_until_it_is_mended(
    tune, trainings, results, capsys
):
    trainings.fails = {0: isolated.IsolatedError("No event is left")}
    assert tune("--trials=2") == command.EXIT_FAILED
    assert "No event is left" in capsys.readouterr().err
    trainings.fails = {}
    assert tune("--trials=2") == 0
    own = _record(results)["trials"][1]
    assert _record(results)["default"] == 1
    assert own["values"] == {"training.learning_rate": 0.003, "model.num_interests": 4}


def test_a_configuration_that_diverges_cannot_be_compared_with(tune, trainings, capsys):
    trainings.fails = {0: {"diverged": "The loss is nan at step 5"}}
    assert tune("--trials=2") == command.EXIT_FAILED
    assert (
        "The configuration itself could not be trained to its end: diverged: The loss is nan"
        in capsys.readouterr().err
    )


def test_a_diverging_trial_is_worse_than_others_and_counts(tune, trainings, results):
    trainings.fails = {1: {"diverged": "The loss is nan at step 5"}}
    assert tune("--trials=3") == 0
    diverged = _record(results)["trials"][1]
    assert (diverged["state"], diverged["why"]) == (
        "pruned",
        "diverged: The loss is nan at step 5",
    )
    assert len(_record(results)["trials"]) == 3


def test_without_anything_better_no_test_person_is_asked(tune, trainings, results, capsys):
    assert tune("--trials=1") == 0
    assert trainings.count("judge") == 0
    assert "No trial was better than the configuration itself" in capsys.readouterr().out
    assert config_lib.load(results / "winner.yaml").training.learning_rate == 0.003


def test_a_model_that_is_gone_is_trained_again(tune, trainings, results, tmp_path):
    def without_models(arguments, on_message):
        raise Killed

    trainings._judge = without_models
    with pytest.raises(Killed):
        tune("--trials=3")
    del trainings._judge
    (results / "trials" / "0000" / "model").rmdir()
    assert tune("--trials=3") == 0
    assert (trainings.count("train"), trainings.count("judge")) == (4, 2)
    assert trainings.configs()[3] == trainings.configs()[0]


def test_no_trial_begins_after_the_time_is_up(tune, trainings, results, monkeypatch):
    clock = iter(range(0, 100_000, 40))  # seconds, at every look
    monkeypatch.setattr(tuner.time, "monotonic", lambda: next(clock))
    assert tune("--trials=50", "--timeout=400") == 0
    assert 1 <= trainings.count("train") < 10
    assert (results / "winner.yaml").exists()


def test_time_that_is_up_before_the_first_trial_is_said(tune, trainings, capsys):
    assert tune("--trials=2", "--timeout=0") == command.EXIT_FAILED
    assert "Repeat the command with a longer --timeout" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--set=model.droput=0.1"], "Did you mean 'model.dropout'?"),
        (["--space=/nowhere.yaml"], "/nowhere.yaml: no such configuration file"),
    ],
)
def test_a_wrong_configuration_is_bad_usage(tune, trainings, capsys, arguments, expected):
    assert tune(*arguments) == command.EXIT_USAGE == 2
    assert expected in capsys.readouterr().err
    assert not trainings.calls


def test_a_missing_optuna_is_named(tune, capsys, monkeypatch):
    monkeypatch.setattr(command.importlib.util, "find_spec", lambda name: None)
    assert tune() == command.EXIT_FAILED
    assert "needs Optuna" in capsys.readouterr().err


def test_no_trials_are_bad_usage(tune, capsys):
    with pytest.raises(SystemExit) as stopped:
        tune("--trials=0")
    assert stopped.value.code == command.EXIT_USAGE
    assert "expected a number of 1 or more, received 0" in capsys.readouterr().err


def test_a_space_that_was_widened_is_said(tune, trainings, capsys):
    assert tune("--trials=1", "--set=training.learning_rate=0.5") == 0
    assert (
        "training.learning_rate: widened to include the configuration's own 0.5"
        in capsys.readouterr().out
    )


def test_two_tunings_in_one_output_directory_are_refused(tune, trainings, tmp_path, capsys):
    from pipeline import run_lock

    (tmp_path / "out").mkdir()
    with run_lock.exclusive(tmp_path / "out"):
        assert tune("--trials=1") == command.EXIT_FAILED
    assert f"is in use by process {os.getpid()}" in capsys.readouterr().err


def test_the_page_of_a_tuning_that_is_not_over(tune, trainings, results, capsys):
    trainings.fails = {2: Killed()}
    with pytest.raises(Killed):
        tune("--trials=4")
    assert page.main([str(results)]) == 0
    text = (results / "history.html").read_text()
    assert "on validation people" in text
    assert "Test people" not in text
    assert page.main([str(Path(results) / "nowhere")]) == 1
    assert "expected the record of a tuning" in capsys.readouterr().err
