"""``run_fn`` on Transform's output: what each worker writes and removes."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf
import tensorflow_transform as tft

from contract.training_report import TRAINING_REPORT
from model.tfx_functions import trainer
from tests import trained_export, worker_processes
from tests.unit.model.tfx_functions.trainer_worker import fn_args

_WORKER = Path(__file__).with_name("trainer_worker.py")


def _result(process: subprocess.Popen) -> dict[str, list[str]]:
    return json.loads(worker_processes.finish(process).splitlines()[-1])


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
