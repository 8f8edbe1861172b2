"""Compiled pipelines against the ones in the repository.

The golden files are for people: JSON within JSON is opened, what differs with
every edit of a source file or release is replaced. After a wanted change:

  UPDATE_GOLDEN=1 python -m pytest tests/golden
"""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract.config_types import from_dict
from pipeline.config import RunConfig
from pipeline.kubeflow.compile import compile_pipeline

_HERE = Path(__file__).parent
_CONFIG = {
    "name": "golden",
    "data": {
        "interactions": {"files": ["s3://data/events/{SPAN}/*.parquet"]},
        "items": {"files": ["s3://data/items.parquet"], "title_column": "title"},
        "split": {"protocol": "time"},
    },
    "kubeflow": {"trainer_gpus": 1},
}
# Repeats the input definitions of the component.
_INPUTS_SPEC = "--json_serialized_inputs_spec_args"
_MANIFEST_VERSIONS = ("tfx", "tensorflow", "tensorflow-recommenders", "scann")
_DIGEST = re.compile(r"\b[0-9a-f]{16}\b")


@pytest.mark.parametrize(
    ("target", "pipeline_root"),
    [("kfp", "minio://mlpipeline/v2/artifacts"), ("vertex", "gs://bucket/root")],
)
def test_compiled_pipeline_is_the_reviewed_one(target, pipeline_root):
    image = "registry/mind@sha256:" + "0" * 64
    compiled = compile_pipeline(from_dict(RunConfig, _CONFIG), image, target, pipeline_root)
    text = yaml.safe_dump_all(
        [_readable(document) for document in yaml.safe_load_all(compiled.to_yaml())],
        sort_keys=True,
        width=100,
    )
    golden = _HERE / f"{target}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        golden.write_text(text)
    assert text.splitlines() == golden.read_text().splitlines()


def _retry_policies(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        if "retryPolicy" in node:
            yield node["retryPolicy"]
        for child in node.values():
            yield from _retry_policies(child)


@pytest.mark.parametrize("target", ["kfp", "vertex"])
def test_every_retry_has_its_duration(target):
    documents = yaml.safe_load_all((_HERE / f"{target}.yaml").read_text())
    policies = [policy for document in documents for policy in _retry_policies(document)]
    assert policies
    assert all(int(p["backoffMaxDuration"].removesuffix("s")) >= 3600 for p in policies)


def _readable(value: Any, key: str = "", in_json: bool = False) -> Any:
    if isinstance(value, dict):
        # Hyperparameters are reviewed where they are set, not here.
        if in_json and key in ("model", "training"):
            return sorted(value)
        return {name: _readable(child, name, in_json) for name, child in value.items()}
    if isinstance(value, list):
        kept = [v for i, v in enumerate(value) if i == 0 or value[i - 1] != _INPUTS_SPEC]
        return [_readable(child, in_json=in_json) for child in kept]
    if key == "instanceSchema":  # TFX's, the same for every use of the type
        return yaml.safe_load(value)["title"]
    if key == "sdkVersion" or key in _MANIFEST_VERSIONS:
        return "VERSION"
    if not isinstance(value, str):
        return value
    if value.startswith(("{", "[")) and value != "{{$}}":
        return _readable(json.loads(value), in_json=True)
    return _DIGEST.sub("DIGEST", value)
