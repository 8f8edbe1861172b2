"""The training on all events, on what Transform and ``run_fn`` left."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_transform as tft

from contract.config_types import from_dict
from contract.training_report import TRAINING_REPORT
from model.tfx_functions import trainer
from model.tfx_functions.final_training import train_on_all
from model.tfx_functions.training_setup import TrainerConfig, set_up
from model.training import loop
from tests import trained_export
from tests.unit.model.tfx_functions.trainer_worker import fn_args

_SPLITS = ("train", "catalog", "eval", "rest")


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory):
    """A folder with a judged model, and the arguments with which it was trained."""
    folder = tmp_path_factory.mktemp("judged")
    shutil.copytree(trained / "transform", folder / "transform")
    output = tft.TFTransformOutput(str(folder / "transform"))
    trained_export.write_transformed_examples(folder / "examples", output)
    splits = folder / "examples"
    shutil.copytree(splits / "Split-train", splits / "Split-rest")
    args = fn_args(folder, trained_export.preprocessing_config(), train_on_all=True)
    trainer.run_fn(args)
    return folder, args


def _files(folder):
    return {split: [str(folder / "examples" / f"Split-{split}" / "*")] for split in _SPLITS}


def _train(judged, name, **changes):
    folder, args = judged
    report = json.loads((folder / "model_run" / TRAINING_REPORT).read_text())
    run = folder / f"judged-{name}"
    run.mkdir(exist_ok=True)
    (run / TRAINING_REPORT).write_text(json.dumps({**report, **changes, "name": name}))
    steps = train_on_all(
        from_dict(TrainerConfig, args.custom_config),
        args.transform_output,
        _files(folder),
        str(run),
        "",
        str(folder / name / "export"),
        str(folder / name / "run"),
    )
    return steps, folder / name


def _history(*rates):
    return [{"step": 2 * i, "learning_rate": rate} for i, rate in enumerate(rates, start=1)]


@pytest.fixture(scope="module")
def final(judged):
    """Of a judged training of 4 steps, the last two of them at a smaller rate."""
    history = _history(0.003, 0.0009)
    return _train(judged, "final", best_step=4, history=history)


def test_it_repeats_the_steps_that_were_judged(final, judged):
    steps, folder = final
    assert steps == 4
    report = json.loads((folder / "run" / TRAINING_REPORT).read_text())
    assert (report["steps"], report["best_step"]) == (4, 4)
    # One validation, of what is exported, at the rate of the last steps.
    (entry,) = report["history"]
    assert (entry["step"], entry["learning_rate"]) == (4, pytest.approx(0.0009))
    steps, _ = _train(judged, "shorter", best_step=2, history=_history(0.003, 0.0009))
    assert steps == 2


def test_it_trains_on_train_and_rest_together(judged):
    folder, args = judged
    config = from_dict(TrainerConfig, args.custom_config)
    files = _files(folder)
    setup = set_up(config, args.transform_output, files["train"], files["catalog"], files["eval"])

    def number(sequences):
        return sum(int(rows["sequence"].nrows()) for rows in sequences)

    both = setup.read_sequences([*files["train"], *files["rest"]])
    assert number(both) == 2 * number(setup.sequences) > 0


def test_what_is_exported_has_the_items_and_counts_of_the_judged_model(judged, final):
    exported = tf.saved_model.load(str(final[1] / "export"))
    first = tf.saved_model.load(str(judged[0] / "export"))
    assert exported.item_ids.numpy().tolist() == first.item_ids.numpy().tolist()
    assert exported.train_counts.numpy().tolist() == first.train_counts.numpy().tolist()
    assert not np.array_equal(exported.item_vectors, first.item_vectors)


def test_rates_are_those_of_the_judged_training(judged, final):
    first = tf.saved_model.load(str(final[1] / "export")).item_vectors.numpy()
    _, folder = _train(judged, "even", best_step=4, history=_history(0.003, 0.003))
    other = tf.saved_model.load(str(folder / "export")).item_vectors.numpy()
    assert not np.array_equal(first, other)


def test_a_judged_training_that_changed_nothing_is_not_repeated(judged):
    steps, folder = _train(judged, "nothing", best_step=0, history=[])
    assert steps == 0
    assert not folder.exists()


def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(
    judged, final, monkeypatch
):
    class Killed(Exception):
        pass

    save = loop._Trainer._save

    def killed(self):
        save(self)
        raise Killed

    arguments = {"best_step": 4, "history": _history(0.003, 0.0009)}
    monkeypatch.setattr(loop._Trainer, "_save", killed)
    with pytest.raises(Killed):
        _train(judged, "killed", **arguments)
    monkeypatch.undo()
    steps, folder = _train(judged, "killed", **arguments)
    report = json.loads((folder / "run" / TRAINING_REPORT).read_text())
    assert (steps, report["resumed_from_step"]) == (4, 2)
    expected = tf.saved_model.load(str(final[1] / "export")).item_vectors.numpy()
    found = tf.saved_model.load(str(folder / "export")).item_vectors.numpy()
    np.testing.assert_array_equal(found, expected)
    assert not list((judged[0] / "checkpoints").rglob("checkpoint"))
