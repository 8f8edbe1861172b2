"""Runs the real executor on small files and reads what it wrote."""

import dataclasses
import json
import os
import pathlib
from typing import Any

import apache_beam as beam
import tensorflow as tf
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import standard_artifacts

from components.example_gen.config import DataConfig
from components.example_gen.executor import Executor
from contract.config_types import from_dict, to_json

BEAM_ARGS = ["--runner=DirectRunner", "--direct_running_mode=in_memory"]


@dataclasses.dataclass
class Ingested:
    """What one run wrote.

    Attributes:
      examples: The artifact.
      splits: By split, its rows as plain dictionaries, shard by shard.
      report: The ingest report.
      bad_rows: The rows set apart.
    """

    examples: standard_artifacts.Examples
    splits: dict[str, list[dict[str, list[Any]]]]
    report: dict[str, Any]
    bad_rows: list[dict[str, Any]]


def ingest(
    folder: pathlib.Path,
    *,
    history_length: int = 5,
    span: str = "",
    reading_digest: str = "",
    with_rest: bool = False,
    output: str = "examples",
    beam_args: list[str] = BEAM_ARGS,
    **data: Any,
) -> Ingested:
    """Runs ExampleGen; ``data`` is the data configuration as YAML would give it."""
    examples = standard_artifacts.Examples()
    examples.uri = str(folder / output)
    run_example_gen(
        examples,
        folder / "bad",
        history_length=history_length,
        span=span,
        reading_digest=reading_digest,
        with_rest=with_rest,
        beam_args=beam_args,
        **data,
    )
    report = json.loads((folder / output / "ingest_report.json").read_text())
    return Ingested(examples, read_splits(examples.uri), report, read_bad_rows(folder))


def run_example_gen(
    examples: standard_artifacts.Examples,
    bad_rows_dir: pathlib.Path,
    *,
    history_length: int = 5,
    span: str = "",
    reading_digest: str = "",
    with_rest: bool = False,
    beam_args: list[str] = BEAM_ARGS,
    **data: Any,
) -> None:
    """Runs the executor, which writes to the URI of ``examples``.

    Spans are kept beside ``bad_rows_dir``.
    """
    context = BaseBeamExecutor.Context(make_beam_pipeline_fn=lambda: beam.Pipeline(argv=beam_args))
    Executor(context).Do(
        {},
        {"examples": [examples]},
        {
            "data_config": to_json(from_dict(DataConfig, data)),
            "history_length": history_length,
            "span": span,
            "bad_rows_dir": str(bad_rows_dir),
            "span_store": os.path.join(os.path.dirname(bad_rows_dir), "spans"),
            "reading_digest": reading_digest,
            "with_rest": int(with_rest),
            "input_fingerprint": "",
            "source_digest": "",
        },
    )


def read_splits(uri: str) -> dict[str, list[dict[str, list[Any]]]]:
    """Rows of every split."""
    splits = {}
    for folder in sorted(tf.io.gfile.glob(os.path.join(uri, "Split-*"))):
        files = sorted(tf.io.gfile.glob(os.path.join(folder, "*")))
        records = tf.data.TFRecordDataset(files, "GZIP").as_numpy_iterator()
        splits[folder.rpartition("Split-")[2]] = [_decode(record) for record in records]
    return splits


def read_bad_rows(folder: pathlib.Path) -> list[dict[str, Any]]:
    """All rows set apart under ``folder``."""
    return [
        json.loads(line)
        for file in sorted((folder / "bad").glob("*"))
        for line in file.read_text().splitlines()
    ]


def _decode(record: bytes) -> dict[str, list[Any]]:
    found = {}
    for name, feature in tf.train.Example.FromString(record).features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind:
            values = getattr(feature, kind).value
            found[name] = [v.decode() if isinstance(v, bytes) else v for v in values]
    return found
