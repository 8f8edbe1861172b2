"""A day killed in any of its steps: the run after it ends like a day that nothing disturbed."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from contract.manifest import TRAINING_STATE_DIR
from pipeline.output_layout import OutputLayout
from retrieval.manifest import read_manifest
from retrieval.versions import complete_versions
from tests.e2e import planted

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).resolve().parents[2]
_DAYS = ("2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26")
_STEPS = (
    "example-gen",
    "statistics-gen",
    "data-gate",
    "schema",
    "example-validator",
    "anomaly-gate",
    "transform",
    "baseline-builder",
    "last-pushed",
    "trainer",
    "evaluator",
    "item-knn-evaluator",
    "model-gate",
    "index-builder",
    "index-validator",
    "pusher",
)


class Days:
    """A log of four days; the output directory after the run of the third is kept."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.layout = OutputLayout(folder / "output", "mind")
        planted.write_days(folder / "logs", _DAYS, 300)
        for day in _DAYS[1:3]:  # before the first day there is nothing to train on
            assert self.start(day).wait() == 0
        shutil.copytree(folder / "output", folder / "kept")
        self.undisturbed = self.finish()

    def start(self, day: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [
                sys.executable,
                str(_ROOT / "local_runner.py"),
                *planted.flags_of_days(self._folder / "logs"),
                f"--output_dir={self._folder / 'output'}",
                f"--span={day}",
                "--require_push",
            ],
            cwd=_ROOT,
        )

    def restore(self) -> None:
        """Goes back to the end of the third day."""
        shutil.rmtree(self._folder / "output")
        shutil.copytree(self._folder / "kept", self._folder / "output")

    def finish(self) -> dict[str, Any]:
        """Runs the last day to its end; returns what it made."""
        assert self.start(_DAYS[-1]).wait() == 0
        base = self.layout.serving_models
        version = base / complete_versions(str(base))[-1]
        manifest = read_manifest(str(version))
        assert manifest is not None
        examples = Path(manifest["examples"]).parent
        return {
            "number of versions": len(complete_versions(str(base))),
            "examples": {
                path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in sorted(examples.rglob("*.gz"))
            },
            "metrics": {
                # Beam adds up people in any order, which shows in the sixteenth digit.
                name: round(found["value"], 12)
                for name, found in manifest["metrics"].items()
                if "value" in found
            },
            "generation": manifest["generation"],
            "bundle": _variables(version / "variables" / "variables"),
            "training state": _variables(version / TRAINING_STATE_DIR / "state"),
        }


def _variables(prefix: Path) -> dict[str, Any]:
    """Every variable of a checkpoint, as something that compares bit for bit."""
    reader = tf.train.load_checkpoint(str(prefix))

    def content(values: np.ndarray) -> Any:
        # The bytes of an array of texts are addresses.
        return values.tolist() if values.dtype == object else values.tobytes()

    return {
        name: content(np.asarray(reader.get_tensor(name)))
        for name in sorted(reader.get_variable_to_shape_map())
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH" and not _is_unused(name, reader)
    }


def _is_unused(name: str, reader: Any) -> bool:
    """Whether ScaNN has no use for this part of its state with this kind of index.

    It then keeps a scalar there that nobody has initialized: two indexes built of the same
    vectors by two processes differ in it.
    """
    return name.startswith("search/_state/") and not reader.get_variable_to_shape_map()[name]


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    return Days(tmp_path_factory.mktemp("days"))


@pytest.mark.parametrize("step", _STEPS)
def test_a_day_that_was_killed_ends_like_one_that_was_not(days, step):
    days.restore()
    before = set((days.layout.pipeline_root / step).rglob("*"))
    run = days.start(_DAYS[-1])
    # TFX makes the directories of a step's outputs when the step begins.
    while not set((days.layout.pipeline_root / step).rglob("*")) - before:
        assert run.poll() is None, f"the run ended before {step} began"
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    versions = complete_versions(str(days.layout.serving_models))
    assert len(versions) in (2, 3)  # the Pusher may have been faster
    assert days.finish() == days.undisturbed


def test_the_day_after_goes_on_from_it(days):
    assert days.undisturbed["generation"] == 2
    assert days.undisturbed["number of versions"] == 3
