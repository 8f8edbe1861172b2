"""A training that continues from an earlier model with other vocabularies."""

import dataclasses
import math

import numpy as np
import pytest
import tensorflow as tf

from model.catalogue import Catalogue
from model.config import EncoderConfig, ModelConfig, RepeatConfig, TrainingConfig, WarmStartConfig
from model.network.mind import MindModel
from model.training.loop import WarmStart, fit
from model.training.optimizer import LazyAdam
from model.training.validation import evaluate
from model.training.warm_start import generation_of, restore_state, save_state
from tests.unit.model.training.toy_training import MODEL, TRAINING

_DIM = 4
_MODEL = ModelConfig(embedding_dim=_DIM, num_interests=2, history_length=5, hidden_units=(6,))
_OLD_TOKENS = {
    "item_id": [b"a", b"b", b"c"],
    "item_genre": [b"war", b"noir"],
    "profile_age": None,
    "profile_job": [b"nurse"],
}
# "c" and "noir" are gone, "a" and "b" have changed places.
_NEW_TOKENS = {
    "item_id": [b"b", b"new, described", b"a", b"new, in company", b"new, alone"],
    "item_genre": [b"drama", b"war"],
    "profile_age": None,
    "profile_job": [b"pilot", b"nurse"],
}


def _model(counts, genres, jobs, seed=1, config=_MODEL):
    catalogue = Catalogue(
        np.array([0, *counts]),
        {"item_genre": np.array([[0], *[[g] for g in genres]], np.int32)},
        {"item_genre": 3},
    )
    training = TrainingConfig(num_negatives=2, seed=seed)
    return MindModel(config, training, catalogue, {"profile_age": 4, "profile_job": jobs})


_WITH_REPEAT = dataclasses.replace(_MODEL, repeat=RepeatConfig())


def _optimizer(model):
    optimizer = LazyAdam(0.01)
    optimizer.build(model.trainable_variables)
    return optimizer


def _sequences(rows):
    data = {
        "sequence": tf.ragged.constant(rows, dtype=tf.int32),
        "num_context": tf.zeros([len(rows)], tf.int32),
        "profile": {"profile_age": tf.zeros([len(rows)], tf.int32)},
    }
    return tf.data.Dataset.from_tensor_slices(data).batch(2)


@pytest.fixture
def config():
    return _MODEL


@pytest.fixture
def old(tmp_path, config):
    """A model after some steps, and the directory of its state."""
    model = _model([5, 4, 3], [1, 2, 0], jobs=2, config=config)
    optimizer = _optimizer(model)
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        weight.assign(rng.normal(size=weight.shape))
        for moment in optimizer.moments(weight):
            moment.assign(rng.uniform(size=weight.shape))
    optimizer.iterations.assign(700)
    save_state(str(tmp_path / "state"), model, optimizer, _OLD_TOKENS, generation=2)
    return model, optimizer, str(tmp_path / "state")


@pytest.fixture
def restored(old, config):
    model = _model([6, 5, 4, 3, 2], [1, 2, 0, 0, 0], jobs=3, seed=9, config=config)
    before = {name: table.numpy() for name, table in model.embedding_tables.items()}
    optimizer = _optimizer(model)
    # Item 4 stands beside items 1 ("b") and 3 ("a"), and beside 2, which is new itself.
    done = restore_state(
        old[2], model, optimizer, _NEW_TOKENS, _sequences([[1, 4, 3, 2], [5], [4, 1]]), "fail"
    )
    return model, optimizer, done, before


def test_rows_and_moments_go_with_their_tokens(old, restored):
    (old_model, old_optimizer, _), (model, optimizer, _, before) = old, restored
    pairs = {  # (new row, old row)
        "item_id": [(0, 0), (1, 2), (3, 1)],
        "item_genre": [(0, 0), (2, 1)],
        "profile_age": [(0, 0), (1, 1), (2, 2), (3, 3)],
        "profile_job": [(0, 0), (2, 1)],
    }
    for name, rows in pairs.items():
        table, old_table = model.embedding_tables[name], old_model.embedding_tables[name]
        variables = [table, *optimizer.moments(table)]
        old_variables = [old_table, *old_optimizer.moments(old_table)]
        for variable, old_variable in zip(variables, old_variables, strict=True):
            for row, old_row in rows:
                np.testing.assert_array_equal(variable[row], old_variable[old_row], err_msg=name)
        new = sorted(set(range(table.shape[0])) - {row for row, _ in rows})
        for moment in optimizer.moments(table):
            assert not moment.numpy()[new].any()
    np.testing.assert_array_equal(
        model.embedding_tables["item_genre"][1], before["item_genre"][1], "drama is drawn anew"
    )


@pytest.mark.parametrize("config", [_MODEL, _WITH_REPEAT])
def test_all_other_weights_are_the_old_ones(old, restored, config):
    (old_model, old_optimizer, _), (model, optimizer, _, _) = old, restored
    tables = {table.name for table in model.embedding_tables.values()}
    others = [w for w in model.trainable_variables if w.name not in tables]
    # The map, two of positions, two dense layers of two; and of the repeat path two more of two,
    # and its trust in the interests.
    assert len(others) == (12 if config.repeat else 7)
    found = {w.name: w for w in old_model.trainable_variables}
    for weight in others:
        np.testing.assert_array_equal(weight, found[weight.name], err_msg=weight.name)
        for moment, expected in zip(
            optimizer.moments(weight), old_optimizer.moments(found[weight.name]), strict=True
        ):
            np.testing.assert_array_equal(moment, expected, err_msg=weight.name)
    assert int(optimizer.iterations) == 700


def test_new_items_start_where_they_are_best_known(old, restored):
    (old_model, _, _), (model, _, _, before) = old, restored
    table = model.embedding_tables["item_id"].numpy()
    old_table = old_model.embedding_tables["item_id"].numpy()
    # Item 2 is of genre 2, "war", which was the old genre 1.
    war = old_model.embedding_tables["item_genre"].numpy()[1]
    np.testing.assert_allclose(table[2], war, rtol=1e-6)
    # Item 4: in the first sequence beside b and a, in the second beside b.
    a, b = old_table[1], old_table[2]
    np.testing.assert_allclose(table[4], ((a + b) / 2 + b) / 2, rtol=1e-6)
    np.testing.assert_array_equal(table[5], before["item_id"][5])


def test_what_was_carried_over_is_counted(restored):
    done = restored[2]
    assert done.generation == 3
    assert done.kept == {"item_id": 2, "item_genre": 1, "profile_age": 3, "profile_job": 1}
    assert done.new == {"item_id": 3, "item_genre": 1, "profile_age": 0, "profile_job": 1}
    assert done.gone == {"item_id": 1, "item_genre": 1, "profile_age": 0, "profile_job": 0}
    assert done.not_fitting == []


def test_a_changed_network_fails_with_the_weights_named(old):
    config = dataclasses.replace(_MODEL, hidden_units=(7,))
    model = _model([6, 5], [1, 2], jobs=3, config=config)
    tokens = {**_NEW_TOKENS, "item_id": [b"b", b"a"]}
    with pytest.raises(ValueError, match=r"3 weights do not fit.*expected \[12, 7\], .* \[12, 6\]"):
        _flat(restore_state, old[2], model, _optimizer(model), tokens, _sequences([[1]]), "fail")


def _flat(function, *arguments):
    try:
        function(*arguments)
    except ValueError as error:
        raise ValueError(str(error).replace("\n", " ")) from None


def test_the_part_of_a_changed_network_that_fits_is_kept(old):
    config = dataclasses.replace(_MODEL, hidden_units=(7,))
    model = _model([6, 5], [1, 2], jobs=3, config=config)
    before = {w.name: w.numpy() for w in model.trainable_variables}
    tokens = {**_NEW_TOKENS, "item_id": [b"b", b"a"]}
    done = restore_state(old[2], model, _optimizer(model), tokens, _sequences([[1]]), "start_anew")
    assert [name.partition("/")[0] for name in done.not_fitting] == [
        "projection_0",
        "projection_0",
        "projection_1",
    ]
    for weight in model.trainable_variables:
        same = np.array_equal(weight, before[weight.name])
        assert same == (weight.name.removesuffix(":0") in done.not_fitting), weight.name


def test_a_directory_without_state_has_no_generation(tmp_path, old):
    assert generation_of(str(tmp_path / "nothing")) is None
    assert generation_of(old[2]) == 2


_TRAINING = dataclasses.replace(TRAINING, max_steps=40, warm_start=WarmStartConfig())


def _fit(data, folder, name, source="", config=_TRAINING, on_progress=None, network=MODEL):
    model = MindModel(network, config, data.catalogue)
    tokens = {"item_id": [str(n).encode() for n in range(data.catalogue.num_items)]}
    warm_start = WarmStart(source, str(folder / f"state-{name}"), tokens)
    validation = data.validation(MODEL.history_length)
    result = fit(
        model,
        data.dataset(),
        validation,
        config,
        str(folder / name),
        on_progress=on_progress,
        warm_start=warm_start,
    )
    return model, result, warm_start.save_to


def test_a_warm_start_begins_at_the_earlier_recall_and_counts_its_own_steps(toy_data, tmp_path):
    first, _, state = _fit(toy_data, tmp_path, "first")
    steps = []
    _, result, next_state = _fit(
        toy_data, tmp_path, "second", state, on_progress=lambda p: steps.append(p.step)
    )
    metrics = evaluate(first, toy_data.validation(10), (10,), exclude_history=False)
    assert result.history[0]["step"] == 0
    assert result.history[0]["recall"] == pytest.approx(metrics["recall@10"])
    assert steps == [20, 40]
    assert result.steps == 40
    assert result.best_recall >= result.history[0]["recall"]
    assert result.warm_start.kept == {"item_id": toy_data.catalogue.num_items}
    assert [generation_of(state), generation_of(next_state)] == [0, 1]


def test_a_training_that_only_harms_leaves_the_earlier_weights(toy_data, tmp_path):
    first, _, state = _fit(toy_data, tmp_path, "first")
    config = dataclasses.replace(_TRAINING, learning_rate=1.0)
    second, result, _ = _fit(toy_data, tmp_path, "second", state, config)
    assert result.best_step == 0
    losses = [entry["loss"] for entry in result.history if "loss" in entry]
    assert len(losses) == len(result.history) - 1  # no loss was measured at step 0
    assert all(math.isfinite(loss) for loss in losses)
    for weight, expected in zip(second.trainable_variables, first.trainable_variables, strict=True):
        np.testing.assert_array_equal(weight, expected, err_msg=weight.name)


def test_an_encoder_goes_on_from_its_weights(toy_data, tmp_path):
    network = dataclasses.replace(MODEL, encoder=EncoderConfig(layers=2))
    config = dataclasses.replace(_TRAINING, max_steps=20, batch_size=16)
    first, _, state = _fit(toy_data, tmp_path, "first", config=config, network=network)
    names = [weight.name for weight in first.trainable_variables]
    assert len(set(names)) == len(names)  # the state is kept by name
    still = dataclasses.replace(config, learning_rate=1e-12)
    second, result, _ = _fit(toy_data, tmp_path, "second", state, still, network=network)
    assert not result.warm_start.not_fitting
    for weight, expected in zip(second.trainable_variables, first.trainable_variables, strict=True):
        np.testing.assert_allclose(weight, expected, atol=1e-6, err_msg=weight.name)


def test_a_killed_warm_start_ends_with_the_weights_of_an_uninterrupted_one(toy_data, tmp_path):
    _, _, state = _fit(toy_data, tmp_path, "first")
    whole, expected, _ = _fit(toy_data, tmp_path, "whole", state)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 20:
            raise Killed

    with pytest.raises(Killed):
        _fit(toy_data, tmp_path, "killed", state, on_progress=kill)
    resumed, result, _ = _fit(toy_data, tmp_path, "killed", state)
    assert result.resumed_from_step == 20
    assert result.warm_start == expected.warm_start
    for weight, other in zip(resumed.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(weight, other, err_msg=weight.name)
