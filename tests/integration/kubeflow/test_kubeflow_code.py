"""What Kubeflow's own API server code says of the compiled file.

Needs a program that uploads, runs and schedules a file by that code, without a cluster:

  KFP_CHECK='PROGRAM ARGUMENT…' make test-slow

It is called with the compiled file and the parameters of a run as JSON, ends with 0 if
everything was accepted, and prints where the Argo workflow is that Kubeflow made of it.
"""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.config import load
from pipeline.kubeflow.compile import compile_pipeline

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("KFP_CHECK" not in os.environ, reason="KFP_CHECK names no program"),
]

_ROOT = Path(__file__).resolve().parents[3]
_IMAGE = "registry/mind@sha256:" + "0" * 64
_CONFIGS = sorted(path.name for path in (_ROOT / "configs").glob("*.yaml"))


def _check(path, parameters):
    return subprocess.run(
        [*shlex.split(os.environ["KFP_CHECK"]), str(path), json.dumps(parameters)],
        capture_output=True,
        text=True,
    )


def _compiled(name, folder):
    return compile_pipeline(load(_ROOT / "configs" / name), _IMAGE).write(folder / name)


@pytest.mark.parametrize("name", _CONFIGS)
def test_every_configuration_is_accepted(name, tmp_path):
    finished = _check(_compiled(name, tmp_path), {"training_max_steps": 50, "span": "20260101"})
    assert finished.returncode == 0, finished.stdout + finished.stderr
    for step in ("upload", "run", "schedule"):
        assert f"{step}: accepted" in finished.stdout


def _parameters(node):
    """Values of the retry parameters anywhere in a workflow."""
    if isinstance(node, dict):
        if str(node.get("name", "")).startswith("retry-") and "value" in node:
            yield node["name"], str(node["value"])
        for child in node.values():
            yield from _parameters(child)
    elif isinstance(node, list):
        for child in node:
            yield from _parameters(child)


def test_retries_have_a_limit_in_the_workflow_that_argo_gets(tmp_path):
    finished = _check(_compiled("movielens-100k.yaml", tmp_path), {})
    workflows = re.findall(r"Argo workflow of \d+ lines in (\S+)", finished.stdout)
    assert workflows
    for path in workflows:
        text = Path(path).read_text()
        given = [(n, v) for n, v in _parameters(yaml.safe_load(text)) if "{{" not in v]
        limits = [v for n, v in given if n == "retry-backoff-max-duration"]
        limits += re.findall(r"maxDuration: \"?(\d+)\"?", text)  # KFP 2.4 to 2.13
        assert limits
        assert {int(limit) for limit in limits} == {7 * 24 * 3600}


def test_a_wrong_parameter_is_refused(tmp_path):
    finished = _check(_compiled("movielens-100k.yaml", tmp_path), {"training_max_steps": "many"})
    assert finished.returncode == 1
    assert "RUN REFUSED" in finished.stdout
