"""The loop: it learns, stops, keeps the best and survives a crash."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from model.config import EncoderConfig, RepeatConfig
from model.network.mind import MindModel
from model.training.input_pipeline import training_batches
from model.training.loop import fit
from model.training.optimizer import LazyAdam
from model.training.results import TrainingResult
from model.training.validation import ValidationData, evaluate
from tests.unit.model.training.toy_training import MODEL, TRAINING


def _fit(
    data, directory, config=TRAINING, on_progress=None, network=MODEL, **kwargs
) -> tuple[MindModel, TrainingResult]:
    model = MindModel(network, config, data.catalogue)
    validation = data.validation(MODEL.history_length)
    result = fit(
        model, data.dataset(), validation, config, str(directory), on_progress=on_progress, **kwargs
    )
    return model, result


_ENCODER = dataclasses.replace(MODEL, encoder=EncoderConfig(layers=1))
_REPEAT = dataclasses.replace(MODEL, repeat=RepeatConfig())


def _weights(model):
    return {w.name: w.numpy() for w in model.weights}


class Uninterrupted:
    """A training by ``TRAINING`` from start to end, and all that it left."""

    def __init__(self, data, folder):
        self.directory = folder / "checkpoints"
        self.logs = folder / "logs"
        self.progress = []
        self.model, self.result = _fit(
            data, self.directory, on_progress=self.progress.append, log_dir=str(self.logs)
        )


@pytest.fixture(scope="module")
def whole(toy_data, tmp_path_factory):
    """Read it only."""
    return Uninterrupted(toy_data, tmp_path_factory.mktemp("whole"))


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(whole, toy_data, tmp_path):
    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 40:
            raise Killed  # after the checkpoint of step 40

    with pytest.raises(Killed):
        _fit(toy_data, tmp_path, on_progress=kill)
    progress = []
    resumed, result = _fit(toy_data, tmp_path, on_progress=progress.append)
    assert [p.step for p in progress] == [60]  # only what was missing
    assert list(progress[0].history) == result.history  # also what was before
    expected = whole.result
    for name, value in _weights(whole.model).items():
        np.testing.assert_array_equal(_weights(resumed)[name], value, err_msg=name)
    assert result.best_step == expected.best_step
    assert [h["recall"] for h in result.history] == [h["recall"] for h in expected.history]
    assert [h["loss"] for h in result.history] == [h["loss"] for h in expected.history]


@pytest.mark.parametrize("network", [MODEL, _REPEAT])
def test_a_repetition_with_the_same_data_ends_with_the_weights_that_were_chosen(
    toy_data, tmp_path, network
):
    config = dataclasses.replace(TRAINING, plateau_patience=1, early_stopping_patience=9)
    first, chosen = _fit(
        toy_data, tmp_path / "first", dataclasses.replace(config, max_steps=40), network=network
    )
    history = [*chosen.history, {"step": 60, "learning_rate": 1.0, "recall": 0.0}]
    again, result = _fit(
        toy_data,
        tmp_path / "again",
        dataclasses.replace(config, max_steps=chosen.best_step),
        network=network,
        repeats=history,
    )
    for name, value in _weights(first).items():
        np.testing.assert_array_equal(_weights(again)[name], value, err_msg=name)
    assert [entry["step"] for entry in result.history] == [chosen.best_step]
    assert result.best_recall == chosen.best_recall


def test_a_repetition_keeps_the_rates_and_the_last_weights(toy_data, tmp_path):
    rates = [0.01, 0.5, 0.01]
    history = [{"step": 20 * n, "learning_rate": r} for n, r in enumerate(rates, start=1)]
    _, result = _fit(toy_data, tmp_path / "harmed", repeats=history)
    (entry,) = result.history
    assert (entry["step"], result.best_step) == (60, 60)
    assert entry["learning_rate"] == pytest.approx(0.01)
    even = [{**pass_, "learning_rate": 0.01} for pass_ in history]
    _, unharmed = _fit(toy_data, tmp_path / "even", repeats=even)
    assert result.best_recall != unharmed.best_recall


@pytest.mark.slow
@pytest.mark.parametrize("network", [_ENCODER, _REPEAT])
def test_a_killed_training_with_more_parts_ends_with_the_same_weights(toy_data, tmp_path, network):
    config = dataclasses.replace(TRAINING, max_steps=40, batch_size=16)
    whole, expected = _fit(toy_data, tmp_path / "whole", config, network=network)
    first, last = expected.history[0]["loss"], expected.history[-1]["loss"]
    assert last < first - 0.2  # it learns

    def kill(progress):
        if progress.step == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(toy_data, tmp_path / "killed", config, kill, network)
    resumed, result = _fit(toy_data, tmp_path / "killed", config, network=network)
    assert result.resumed_from_step == 20
    for name, value in _weights(whole).items():
        np.testing.assert_array_equal(_weights(resumed)[name], value, err_msg=name)


def test_steps_after_the_last_checkpoint_are_done_again(toy_data, tmp_path):
    config = dataclasses.replace(TRAINING, eval_every_steps=15, checkpoint_every_steps=40)
    whole, _ = _fit(toy_data, tmp_path / "whole", config)

    def kill(progress):
        if progress.step >= 45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(toy_data, tmp_path / "killed", config, kill)
    resumed, _ = _fit(toy_data, tmp_path / "killed", config)
    for name, value in _weights(whole).items():
        np.testing.assert_array_equal(_weights(resumed)[name], value, err_msg=name)


def test_keras_fit_takes_the_same_steps(toy_data, tmp_path):
    config = dataclasses.replace(TRAINING, max_steps=20)
    looped, _ = _fit(toy_data, tmp_path, config)
    mind = MindModel(MODEL, config, toy_data.catalogue)
    mind.compile(LazyAdam(config.learning_rate))
    batches = training_batches(
        toy_data.dataset(), MODEL.history_length, config.batch_size, config.seed
    )
    mind.fit(batches, steps_per_epoch=20, verbose=0)
    for name, value in _weights(looped).items():
        np.testing.assert_allclose(_weights(mind)[name], value, atol=1e-5, err_msg=name)


def test_training_learns_and_the_best_weights_are_kept(toy_data, tmp_path):
    config = dataclasses.replace(TRAINING, max_steps=400, eval_every_steps=50)
    model, result = _fit(toy_data, tmp_path, config)
    # Two of six groups are a person's own: 10 items by chance find 10 of 48.
    assert result.best_recall > 2 * 10 / 48
    recalls = {h["step"]: h["recall"] for h in result.history}
    assert result.best_recall == max(recalls.values()) == recalls[result.best_step]
    validation = toy_data.validation(MODEL.history_length)
    metrics = evaluate(model, validation, (10,), exclude_history=False)
    assert metrics["recall@10"] == pytest.approx(result.best_recall)
    losses = [h["loss"] for h in result.history]
    assert losses[-1] < losses[0]


def test_validation_people_are_sampled_over_the_whole_file():
    data = ValidationData(
        history=np.arange(10)[:, np.newaxis],
        targets=tf.ragged.constant([[i] * (1 + i % 2) for i in range(10)]),
        profile={"age": np.arange(10)},
    )
    sampled = data.sample(4)
    np.testing.assert_array_equal(sampled.history[:, 0], [0, 3, 6, 9])
    np.testing.assert_array_equal(sampled.profile["age"], [0, 3, 6, 9])
    np.testing.assert_array_equal(sampled.targets, [[0, -1], [3, 3], [6, -1], [9, 9]])
    assert len(data.sample(99).history) == 10


def test_training_stops_when_recall_stops_rising(toy_data, tmp_path):
    # A vanishing learning rate: the first pass stays the best.
    config = dataclasses.replace(
        TRAINING, learning_rate=1e-12, max_steps=10_000, early_stopping_patience=3
    )
    _, result = _fit(toy_data, tmp_path, config)
    assert (result.stopped_by, result.best_step, result.steps) == ("patience", 20, 80)


def test_training_stops_in_time(toy_data, tmp_path):
    config = dataclasses.replace(TRAINING, max_seconds=1, max_steps=10**6, eval_every_steps=10**6)
    _, result = _fit(toy_data, tmp_path, config)
    assert result.stopped_by == "max_seconds"
    assert result.steps < 10**6
    assert result.history[-1]["step"] == result.steps  # the last state was validated


def test_progress_counts_down(whole):
    seen = whole.progress
    assert [p.step for p in seen] == [20, 40, 60]
    assert [p.max_steps for p in seen] == [60] * 3
    assert seen[-1].seconds_left == 0
    assert seen[0].seconds_left > seen[1].seconds_left > 0
    assert seen[0].validation_recall is not None


def test_a_directory_of_another_configuration_is_refused(whole, toy_data):
    config = dataclasses.replace(TRAINING, learning_rate=0.5)
    with pytest.raises(ValueError, match="checkpoints of another configuration"):
        _fit(toy_data, whole.directory, config)


def test_a_diverging_loss_is_an_error(toy_data, tmp_path):
    config = dataclasses.replace(TRAINING, learning_rate=1e30)
    model = MindModel(dataclasses.replace(MODEL, normalize=False), config, toy_data.catalogue)
    validation = toy_data.validation(MODEL.history_length)
    with pytest.raises(FloatingPointError, match="Lower learning_rate"):
        fit(model, toy_data.dataset(), validation, config, str(tmp_path))


def test_scalars_for_tensorboard(whole):
    (file,) = whole.logs.iterdir()
    tags = {
        (event.step, value.tag)
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    for tag in ("loss", "validation/recall@10", "validation/active_interests",
                "validation/interest_cosine"):  # fmt: skip
        assert {(20, tag), (40, tag), (60, tag)} <= tags
