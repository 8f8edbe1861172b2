"""``run_fn`` on Transform's output: what each worker writes and removes."""

import dataclasses
import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
import tensorflow_transform as tft

from contract.config_types import from_dict, to_dict
from contract.manifest import TRAINING_STATE_DIR
from contract.training_report import TRAINING_REPORT
from model.config import WarmStartConfig
from model.tfx_functions import trainer
from model.tfx_functions.training_setup import TrainerConfig
from model.training.interest_choice import InterestChoice
from model.training.warm_start import generation_of, interests_of, why_from_nothing
from retrieval.manifest import write_manifest
from tests import trained_export, worker_processes
from tests.unit.model.tfx_functions.trainer_worker import fn_args

_WORKER = Path(__file__).with_name("trainer_worker.py")


def _result(process: subprocess.Popen) -> dict[str, list[str]]:
    return json.loads(worker_processes.finish(process).splitlines()[-1])


@pytest.mark.slow
def test_of_two_workers_the_chief_alone_exports(trained, tmp_path):
    shutil.copytree(trained / "transform", tmp_path / "transform")
    output = tft.TFTransformOutput(str(tmp_path / "transform"))
    trained_export.write_transformed_examples(tmp_path / "examples", output)
    processes = [
        # Not imported there: TensorFlow must not have run before the workers meet.
        worker_processes.start(
            _WORKER,
            tmp_path,
            json.dumps(trained_export.preprocessing_config()),
            "multi_worker_mirrored",
            tf_config=tf_config,
        )
        for tf_config in worker_processes.cluster(2)
    ]
    chief, other = (_result(process) for process in processes)
    checkpoints = str(tmp_path / "checkpoints" / "run")
    assert chief == {"exported": [str(tmp_path / "export")], "removed": [checkpoints]}
    assert other == {"exported": [], "removed": [f"{checkpoints}-worker-1"]}
    assert not list((tmp_path / "checkpoints").iterdir())
    exported = tf.saved_model.load(str(tmp_path / "export"))
    assert set(exported.signatures) == {"evaluate", "serving_default", "user_interests"}
    report = json.loads((tmp_path / "model_run" / TRAINING_REPORT).read_text())
    assert report["steps"] == 4
    assert len(list((tmp_path / "model_run").glob("events.*"))) == 1


def test_what_progress_raises_ends_the_training_before_the_export(trained, tmp_path):
    class Stopped(Exception):
        pass

    def stop(progress):
        histories.append([entry["step"] for entry in progress.history])
        raise Stopped

    histories = []
    shutil.copytree(trained / "transform", tmp_path / "transform")
    output = tft.TFTransformOutput(str(tmp_path / "transform"))
    trained_export.write_transformed_examples(tmp_path / "examples", output)
    args = fn_args(tmp_path, trained_export.preprocessing_config())
    with pytest.raises(Stopped):
        trainer.run_fn(args, stop)
    assert not (tmp_path / "export").exists()
    with pytest.raises(Stopped):
        trainer.run_fn(args, stop)  # goes on from the checkpoint of step 2
    assert histories == [[2], [2, 4]]


def test_accelerators_that_tensorflow_does_not_see_stop_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr(
        tf.config,
        "list_physical_devices",
        lambda kind=None: (
            [tf.config.PhysicalDevice("/physical_device:CPU:0", "CPU")] if kind != "GPU" else []
        ),
    )
    args = fn_args(tmp_path, trained_export.preprocessing_config())
    args.custom_config["num_accelerators"] = 1
    with pytest.raises(RuntimeError, match=r"given 1 accelerator.*sees only /physical_device:CPU"):
        trainer.run_fn(args)
    assert not list(tmp_path.iterdir())  # it stops before it reads or writes anything


@pytest.fixture(scope="module")
def pushed(trained, tmp_path_factory):
    """Arguments of a training, and the directory of a model that it can go on from."""
    folder = tmp_path_factory.mktemp("days")
    shutil.copytree(trained / "transform", folder / "transform")
    output = tft.TFTransformOutput(str(folder / "transform"))
    trained_export.write_transformed_examples(folder / "examples", output)
    warm_start = WarmStartConfig(steps=2, full_every=3)
    args = fn_args(folder, trained_export.preprocessing_config(), warm_start=warm_start)
    args.base_model, args.hyperparameters = None, None
    trainer.run_fn(args)
    write_manifest(str(folder / "export"), {"run_key": "first"})
    return folder, args


@pytest.mark.parametrize(
    ("asked", "full_every", "because", "steps"),
    [
        (None, 3, "", 2),
        ({"from_nothing_because": ""}, 3, "", 2),
        ({"from_nothing_because": "drift (item_drift)"}, 3, "drift (item_drift)", 4),
        (None, 1, "training.warm_start.full_every is 1", 4),
    ],
)
def test_a_training_that_starts_from_nothing_says_why(
    pushed, tmp_path, asked, full_every, because, steps
):
    folder, args = pushed
    config = from_dict(TrainerConfig, args.custom_config)
    warm_start = dataclasses.replace(config.training.warm_start, full_every=full_every)
    training = dataclasses.replace(config.training, warm_start=warm_start)
    args = SimpleNamespace(
        **{
            **vars(args),
            "base_model": str(folder / "export"),
            "hyperparameters": asked,
            "serving_model_dir": str(tmp_path / "export"),
            "model_run_dir": str(tmp_path / "run"),
            "custom_config": to_dict(dataclasses.replace(config, training=training)),
        }
    )
    trainer.run_fn(args)
    report = json.loads((tmp_path / "run" / TRAINING_REPORT).read_text())
    assert report["from_nothing_because"] == because
    assert report["steps"] == steps
    assert (report["warm_start"] is None) == bool(because)
    state = str(tmp_path / "export" / TRAINING_STATE_DIR)
    assert (generation_of(state), why_from_nothing(state)) == (0 if because else 1, because)


def test_the_first_training_says_that_there_is_no_model(pushed):
    state = str(pushed[0] / "export" / TRAINING_STATE_DIR)
    assert why_from_nothing(state) == "no model in service has a training state"


@pytest.mark.parametrize("kept", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_what_was_kept_of_several_interests_and_one_is_exported(
    pushed, tmp_path, monkeypatch, kept
):
    _, args = pushed
    config = from_dict(TrainerConfig, args.custom_config)
    config = dataclasses.replace(
        config,
        training=dataclasses.replace(config.training, try_one_interest=True),
        checkpoint_dir=str(tmp_path / "checkpoints" / "run"),
    )
    compared = []

    def choose(several, one, people, cutoff, exclude_history):
        compared.append((several.num_interests, one.num_interests))
        return InterestChoice(kept, 2, cutoff, 0.25, 0.5, -0.1, 0.6, len(people.history))

    monkeypatch.setattr(trainer, "choose_interests", choose)
    first = {
        **vars(args),
        "serving_model_dir": str(tmp_path / "export"),
        "model_run_dir": str(tmp_path / "run"),
        "custom_config": to_dict(config),
    }
    trainer.run_fn(SimpleNamespace(**first))
    assert compared == [(2, 1)]
    report = json.loads((tmp_path / "run" / TRAINING_REPORT).read_text())
    assert report["num_interests"] == kept
    assert report["interest_choice"]["recall_with_several"] == 0.5
    exported = tf.saved_model.load(str(tmp_path / "export"))
    interests = exported.signatures["user_interests"].structured_outputs["interests"]
    assert interests.shape[1] == kept
    state = tmp_path / "export" / TRAINING_STATE_DIR
    assert interests_of(str(state)) == kept
    assert [path.name for path in state.parent.iterdir()] == [state.name]
    assert not list((tmp_path / "checkpoints" / "run").iterdir())

    # The next day goes on with what was kept, and compares nothing.
    write_manifest(str(tmp_path / "export"), {"run_key": "first"})
    following = {
        "base_model": str(tmp_path / "export"),
        "serving_model_dir": str(tmp_path / "next"),
        "model_run_dir": str(tmp_path / "next_run"),
    }
    trainer.run_fn(SimpleNamespace(**first | following))
    report = json.loads((tmp_path / "next_run" / TRAINING_REPORT).read_text())
    assert report["warm_start"]["generation"] == 1
    assert (report["num_interests"], report["interest_choice"]) == (kept, None)
    assert compared == [(2, 1)]
