"""Where a run takes place: the few settings in which local and Kubeflow runs differ.

``pipeline.kubeflow.target`` creates the target of a run on Kubeflow.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_metadata.proto import metadata_store_pb2
from tfx import v1 as tfx

from components.example_gen.forgotten import read_forgotten
from components.example_gen.inputs import find_inputs, fingerprint
from contract import manifest
from contract.config_types import strict_json, to_dict
from pipeline import entries, eval_config
from pipeline.config import RunConfig
from pipeline.output_layout import OutputLayout
from pipeline.source_digest import source_digest
from retrieval.versions import newest_version

_MANIFEST_PACKAGES = ("tfx", "tensorflow", "tensorflow-recommenders", "scann")


@dataclasses.dataclass(frozen=True)
class RunTarget:
    """Root directories, destinations and run facts of one target.

    Attributes:
      pipeline_root: Root of all artifacts.
      push_destination: Directory that the server watches.
      checkpoint_dir: Directory of checkpoints, from which an interrupted training resumes.
      bad_rows_dir: Directory of rejected input rows.
      span_store: Directory in which the spans of a window are stored as they were read.
      accepted_data_dir: Directory of the record of the data that the gate last accepted.
      input_fingerprint: Digest of the input files.
      run_key: Digest of configuration, data and the code that makes a model: equal keys mean equal
        models.
      baseline_version: Pushed version to compare with; empty means the newest at run time.
      forgotten: List of people and items that must not be read; empty if there is none.
      span: Replaces ``{SPAN}`` in the configured files.
      enable_cache: Whether to reuse the outputs of unchanged steps.
      trainer_gpus: Number of GPUs of the Trainer; it stops if TensorFlow sees none of them.
      beam_args: Beam pipeline options.
      metadata_connection_config: Connection to ML Metadata; None if the target has its own.
    """

    pipeline_root: str
    push_destination: str
    checkpoint_dir: str
    bad_rows_dir: str
    span_store: str
    accepted_data_dir: str
    input_fingerprint: str
    run_key: str
    baseline_version: str = ""
    forgotten: str = ""
    span: str = ""
    enable_cache: bool = True
    trainer_gpus: int = 0
    beam_args: Sequence[str] = ()
    metadata_connection_config: metadata_store_pb2.ConnectionConfig | None = None

    def manifest(self, config: RunConfig) -> str:
        """Returns the run facts for the bundle's manifest, as JSON."""
        facts: dict[str, Any] = {
            manifest.NAME: config.name,
            manifest.RUN_KEY: self.run_key,
            manifest.DATA_DIGEST: self.input_fingerprint,
            manifest.SOURCE_DIGEST: model_digest(),
            manifest.LOCK_DIGEST: _lock_digest(),
            manifest.PRIMARY_METRIC: eval_config.primary_metric(config.evaluation),
            manifest.CONFIG: comparable(config),
            manifest.VERSIONS: {name: metadata.version(name) for name in _MANIFEST_PACKAGES},
        }
        if self.forgotten:  # a refresh of the items must not restore a forgotten one
            facts[manifest.CONFIG]["data"]["forgotten"] = self.forgotten
        return strict_json(facts)


def local_target(
    config: RunConfig, *, span: str = "", enable_cache: bool = True, beam_args: Sequence[str] = ()
) -> RunTarget:
    """Returns the target of ``local_runner.py``: everything is below ``output_dir``."""
    layout = OutputLayout(Path(config.output_dir).resolve(), config.name)
    inputs = find_inputs(config.data, span)
    forgotten = config.data.forgotten
    if not forgotten and layout.forgotten.exists():
        forgotten = str(layout.forgotten)
    input_fingerprint = fingerprint(inputs, read_forgotten(forgotten).digest)
    run_key = digest(comparable(config), input_fingerprint, model_digest())
    push_destination = config.push.destination or str(layout.serving_models)
    return RunTarget(
        pipeline_root=str(layout.pipeline_root),
        push_destination=push_destination,
        checkpoint_dir=str(layout.checkpoints / training_key(config, input_fingerprint)),
        bad_rows_dir=str(layout.bad_rows),
        span_store=str(layout.spans),
        accepted_data_dir=str(layout.accepted_data),
        input_fingerprint=input_fingerprint,
        run_key=run_key,
        # Exclude the version that this very configuration has pushed before: rerunning an unchanged
        # pipeline then compares with the same baseline, so that the whole run comes from the cache.
        baseline_version=newest_version(push_destination, other_than_run_key=run_key),
        forgotten=forgotten,
        span=inputs.span,
        enable_cache=enable_cache,
        beam_args=tuple(beam_args),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(layout.metadata)
        ),
    )


def training_key(config: RunConfig, input_fingerprint: str) -> str:
    """Returns a digest of everything that a training depends on, and of nothing else.

    The checkpoint directory is a parameter of the Trainer: if it depended on more code, editing
    that code would repeat the training.
    """
    values = comparable(config)
    return digest(
        [values[section] for section in ("data", "model", "training")],
        input_fingerprint,
        source_digest(*entries.TRAINING),
    )


def model_digest() -> str:
    """Returns a digest of the code that the pushed model depends on."""
    return source_digest(*entries.PUSHED_MODEL, alone=[entries.WIRING])


def _lock_digest() -> str:
    """Returns a digest of the pinned packages; empty if the project was installed without them."""
    lock = Path(__file__).resolve().parents[1] / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest()[:16] if lock.is_file() else ""


def comparable(config: RunConfig) -> dict[str, Any]:
    """Returns the configuration without settings that do not affect the model, such as paths."""
    values = to_dict(config)
    del values["output_dir"], values["push"], values["retention"], values["kubeflow"]
    del values["data"]["forgotten"]  # its content is part of the input's fingerprint
    return values


def digest(*parts: Any) -> str:
    """Returns the hexadecimal digest of JSON values."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
