"""The search: what is suggested, stopped early, and repeated after an interruption."""

import dataclasses

import optuna
import pytest

from pipeline import config as config_lib
from pipeline.tune import space as space_lib
from pipeline.tune.study import Study

_EVERY = 10
_SPACE = space_lib.SpaceConfig(
    random_trials=3,
    prune_after_trials=2,
    prune_after_passes=2,
    parameters={
        "training.learning_rate": space_lib.ParameterConfig(low=1e-4, high=1e-1, log=True),
        "model.num_interests": space_lib.ParameterConfig(low=1, high=8),
        "model.hidden_units": space_lib.ParameterConfig(choices=([64], [256, 64])),
    },
)


class _Killed(BaseException):
    """The process is gone; nothing more is written."""


def _open(path, **changes):
    config = config_lib.load(None, (), {"data.interactions.files": ["log.csv"]})
    dimensions = space_lib.dimensions(_SPACE, config, "space.yaml")
    return Study(path, dataclasses.replace(_SPACE, **changes), dimensions, _EVERY)


@pytest.fixture
def open_study(tmp_path):
    return lambda **changes: _open(tmp_path / "study.db", **changes)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A search of six trials that nothing interrupted; read it only."""
    return _search(_open(tmp_path_factory.mktemp("whole") / "study.db"), 6)


def _recall(values):
    """A recall that the values decide, with its best at few interests and two layers."""
    return 1 / values["model.num_interests"] + len(values["model.hidden_units"]) / 10


def _search(study, trials, killed_in=None):
    """Searches until so many trials are finished, each with a curve of four passes."""
    while len(study.finished()) < trials:
        running = study.begin()
        if running.trial.number == killed_in:
            raise _Killed
        for number in range(1, 5):
            reached = _recall(running.trial.values) * number / 4
            if running.validated(number * _EVERY, reached):
                running.pruned()
                break
        else:
            running.complete(_recall(running.trial.values), 40, 1.0)
    return study


def _values(study):
    return [trial.values for trial in study.finished()]


def test_the_configuration_itself_is_the_first_trial(open_study):
    first = open_study().begin().trial
    assert first.values == {
        "training.learning_rate": 3e-3,
        "model.num_interests": 4,
        "model.hidden_units": [256],
    }


def test_equal_seeds_suggest_the_same_and_others_do_not(whole, open_study, tmp_path):
    found = _values(whole)
    # Three are drawn at random, the others by what was found.
    assert len({str(values) for values in found}) == 6
    assert _values(_search(open_study(), 6)) == found
    assert _values(_search(_open(tmp_path / "other.db", seed=2), 6)) != found


@pytest.mark.parametrize("killed_in", [0, 2, 5])
def test_a_killed_search_ends_as_an_uninterrupted_one(whole, open_study, killed_in):
    with pytest.raises(_Killed):
        _search(open_study(), 6, killed_in)
    resumed = _search(open_study(), 6)
    assert _values(resumed) == _values(whole)
    assert [t.state for t in resumed.finished()] == [t.state for t in whole.finished()]
    assert resumed.best().values == whole.best().values
    killed, again = (resumed.trials()[number] for number in (killed_in, killed_in + 1))
    assert (killed.state, killed.why) == ("failed", "interrupted")
    assert (again.attempt_of, again.values) == (killed.number, killed.values)


def test_a_trial_killed_again_and_again_is_still_the_same_trial(open_study):
    for _ in range(3):
        open_study().begin()
    again = open_study().begin().trial
    assert (again.number, again.attempt_of) == (3, 0)


def test_a_trial_killed_before_it_had_its_values_gets_the_same_ones(whole, open_study, monkeypatch):
    study = _search(open_study(), 3)

    def killed(*_args, **_kwargs):
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(optuna.Trial, "suggest_int", killed)  # the second of the three values
        with pytest.raises(_Killed):
            study.begin()
    assert _values(_search(open_study(), 4)) == _values(whole)[:4]


def test_a_trial_below_the_median_is_stopped_after_the_passes_that_all_are_given(open_study):
    study = open_study()
    for recall in (0.2, 0.4, 0.6):
        running = study.begin()
        assert not any(running.validated(step, recall) for step in (10, 20, 30))
        running.complete(recall, 30, 1.0)
    bad = study.begin()
    assert [bad.validated(step, 0.3) for step in (10, 20)] == [False, True]
    bad.pruned()
    good = study.begin()
    assert [good.validated(step, 0.5) for step in (10, 20)] == [False, False]


def test_without_pruning_no_trial_is_stopped(open_study):
    study = open_study(prune=False)
    for recall in (0.5, 0.5, 0.0):
        running = study.begin()
        assert not any(running.validated(step, recall) for step in (10, 20, 30))
        running.complete(recall, 30, 1.0)


def test_a_trial_that_fails_by_itself_is_not_repeated(open_study):
    study = _search(open_study(), 1)
    study.begin().failed("out of memory")
    study = open_study()
    after = study.begin().trial
    assert study.trials()[1].why == "out of memory"
    assert after.attempt_of == after.number == 2


def test_the_configuration_itself_is_tried_again_if_it_failed(open_study):
    study = open_study()
    own = study.begin()
    own.failed("the disk is full")
    assert open_study().begin().trial.values == own.trial.values


def test_the_best_is_a_complete_trial(open_study):
    study = open_study()
    for recall in (0.2, 0.4, 0.4):
        running = study.begin()
        running.complete(recall, 30, 1.0)
    stopped = study.begin()
    stopped.validated(10, 0.9)
    stopped.pruned()
    assert study.best().number == 1
    assert study.finished()[3].recall == 0.9
    assert study.finished()[3].state == "pruned"


def test_what_decides_the_recall_is_said_to_matter(open_study):
    study = _search(open_study(prune=False), 12)
    found = study.importances()
    assert max(found, key=found.get) == "model.num_interests"
