"""The compiled MovieLens pipeline, executed as Kubeflow would, against the local run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow_model_analysis as tfma

from contract.evaluation_outputs import CANDIDATE
from devtools.ir_runner import IrRunner
from pipeline import config as config_lib
from pipeline.kubeflow import spec
from pipeline.kubeflow.compile import compile_pipeline

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).resolve().parents[3]
_CONFIG = _ROOT / "configs" / "movielens-100k.yaml"
_SETTINGS = [
    "training.max_steps=300",
    "training.eval_every_steps=100",
    "evaluation.confidence_intervals=false",
    "evaluation.min_lift_over_popularity=-1.0",
]
_IMAGE = "registry/mind@sha256:" + "0" * 64
# The seed is the same, but sums on several threads are not always in one order.
_NOISE = 0.02
_READS_THE_WORLD = {"last-pushed", "evaluator", "pusher"}
# The manifest carries the Evaluator's metrics, so a new evaluation makes a new bundle.
_TAKES_THE_EVALUATION = {"index-builder", "index-validator"}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    settings = [
        *_SETTINGS,
        f"kubeflow.storage_root={folder / 'storage'}",
        "kubeflow.steps={example-gen: {cache: true}}",
    ]
    path = compile_pipeline(config_lib.load(_CONFIG, settings), _IMAGE).write(folder / "mind.yaml")
    return spec.load(path), folder


@pytest.fixture(scope="module")
def first_run(compiled):
    pipeline, folder = compiled
    runner = IrRunner(pipeline, folder / "ir")
    return runner, runner.run({})


def _states(results):
    return {name: result.state for name, result in results.items()}


def test_every_step_runs_to_the_push(compiled, first_run):
    _, results = first_run
    assert set(_states(results).values()) == {"succeeded"}, results
    pushed = results["pusher"].outputs["pushed_model"]["metadata"]
    versions = [path.name for path in (compiled[1] / "storage/serving_models").glob("*/[0-9]*")]
    assert versions == [pushed["pushed_version"]]


def test_metrics_are_those_of_the_local_run(first_run, tmp_path):
    runner, results = first_run
    flags = [f"--set={setting}" for setting in _SETTINGS]
    subprocess.run(
        [
            sys.executable,
            "local_runner.py",
            f"--config={_CONFIG}",
            f"--output_dir={tmp_path}",
            *flags,
        ],
        cwd=_ROOT,
        check=True,
    )
    (summary,) = tmp_path.glob("runs/*/*/summary.json")
    local = json.loads(summary.read_text())["metrics"]["mind"]["overall"]
    evaluation = tfma.load_eval_result(
        str(runner.output_path(results["evaluator"], "evaluation")),
        model_name=CANDIDATE,
    )
    (overall,) = [metrics for key, metrics in evaluation.slicing_metrics if not key]
    for name in ("recall_at_50", "ndcg_at_50", "recall_at_10"):
        kubeflow = overall[""][""][name]["doubleValue"]
        assert kubeflow == pytest.approx(local[name]["value"], abs=_NOISE), name


def test_second_run_is_served_from_cache(compiled, first_run):
    pipeline, folder = compiled
    states = _states(IrRunner(pipeline, folder / "ir").run({}))
    ran = {name for name, state in states.items() if state != "cached"}
    assert ran == _READS_THE_WORLD | _TAKES_THE_EVALUATION
