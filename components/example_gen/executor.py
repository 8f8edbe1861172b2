"""Executor of InteractionExampleGen."""

import os
import time
from typing import Any

from absl import logging
from apache_beam.io.filesystems import FileSystems
from tfx import types
from tfx.components.util import examples_utils
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.dsl.io import fileio
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from components.example_gen import report as reports
from components.example_gen.config import DataConfig, ItemsConfig, UsersConfig
from components.example_gen.errors import DataError
from components.example_gen.forgotten import Forgotten, read_forgotten
from components.example_gen.ingestion import Ingestion
from components.example_gen.inputs import Inputs, find_inputs, tables
from components.example_gen.readers import check_columns
from components.example_gen.reading import keep_spans
from components.example_gen.rows import entity_columns, interaction_columns
from components.example_gen.shards import write_text
from components.example_gen.span_measures import measure
from components.example_gen.span_store import StoredFile, stored_files
from components.example_gen.transforms import ingest
from contract import features
from contract.config_types import from_json

EXAMPLES_KEY = "examples"
DATA_CONFIG_KEY = "data_config"
HISTORY_LENGTH_KEY = "history_length"
WITH_REST_KEY = "with_rest"
SPAN_KEY = "span"
BAD_ROWS_DIR_KEY = "bad_rows_dir"
SPAN_STORE_KEY = "span_store"
READING_DIGEST_KEY = "reading_digest"

_BYTES_PER_SHARD = 16 << 20
_BAD_ROWS_PREFIX = "bad_rows"


class Executor(BaseBeamExecutor):
    """Turns interaction logs into sequences of tf.Examples; see ``docs/data.md``."""

    def Do(
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Reads, checks, sorts, filters, splits and writes.

        Args:
          input_dict: Empty.
          output_dict: ``examples``, an Examples artifact.
          exec_properties: The parameters of ``component.InteractionExampleGenSpec``.

        Raises:
          DataError: if the data cannot be used; the message says why and what to do.
        """
        self._log_startup(input_dict, output_dict, exec_properties)
        examples = artifact_utils.get_single_instance(output_dict[EXAMPLES_KEY])
        examples.split_names = artifact_utils.encode_split_names(_splits(exec_properties))
        config = from_json(DataConfig, exec_properties[DATA_CONFIG_KEY])
        inputs = find_inputs(config, exec_properties.get(SPAN_KEY, ""))
        forgotten = read_forgotten(config.forgotten)
        stored = stored_files(
            inputs,
            config.interactions,
            exec_properties.get(SPAN_STORE_KEY, ""),
            exec_properties.get(READING_DIGEST_KEY, ""),
            forgotten.digest,
        )
        job = _plan(examples, config, inputs, forgotten, stored, exec_properties)
        report_path = os.path.join(examples.uri, reports.FILE_NAME)
        bad_rows = f"{job.bad_rows_prefix}-00000-of-00001.jsonl"
        if fileio.exists(bad_rows):  # from an earlier run
            fileio.remove(bad_rows)

        new = [file for file in stored if not file.is_complete()]
        if new:
            logging.info("Reading %d new files of spans", len(new))
            unreadable = os.path.join(job.temp_uri, reports.FILE_NAME)
            with self._make_beam_pipeline() as pipeline:
                keep_spans(pipeline, new, config.interactions, forgotten, unreadable)
            with fileio.open(unreadable) as file:
                reports.check_readable(reports.from_json(file.read()))
        with self._make_beam_pipeline() as pipeline:
            ingest(pipeline, job, report_path)

        with fileio.open(report_path) as file:
            report = reports.from_json(file.read())
        reports.check(report, config, bad_rows)
        report = {**reports.finish(report, bad_rows, job.files), "span": inputs.span}
        if inputs.window is not None:
            report["window"] = reports.describe_window(
                inputs.window, report.pop("spans"), {file.span for file in new}
            )
            report["window"]["measures"] = measure(stored, job.now)
        write_text(report_path, reports.to_json(report))
        if fileio.exists(job.temp_uri):  # in an object store, empty directories do not exist
            fileio.rmtree(job.temp_uri)

        examples_utils.set_payload_format(examples, example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE)
        examples_utils.set_file_format(examples, "tfrecords_gzip")
        if inputs.span.isdigit():
            examples.span = int(inputs.span)
        logging.info("Ingested %s", reports.to_json(report))


def _splits(exec_properties: dict[str, Any]) -> list[str]:
    return features.splits(with_rest=bool(exec_properties.get(WITH_REST_KEY)))


def _plan(
    examples: types.Artifact,
    config: DataConfig,
    inputs: Inputs,
    forgotten: Forgotten,
    stored: tuple[StoredFile, ...],
    exec_properties: dict[str, Any],
) -> Ingestion:
    history_length = exec_properties[HISTORY_LENGTH_KEY]
    if config.max_sequence_length <= history_length:
        raise DataError(
            f"data.max_sequence_length ({config.max_sequence_length}) must be larger than "
            f"model.history_length ({history_length}): chunks of a long sequence overlap by it"
        )
    known = {file.path for file in stored if file.is_complete()}
    for name, table in tables(config).items():
        columns = (
            entity_columns(table)
            if isinstance(table, ItemsConfig | UsersConfig)
            else interaction_columns(config.interactions)
        )
        # Files in an object store are checked when they are read, because reading copies them.
        for file in inputs.files[name]:
            if not FileSystems.get_scheme(file.path) and file.path not in known:
                check_columns(file.path, table, columns)
    num_shards = config.num_shards or -(-inputs.size_in_bytes // _BYTES_PER_SHARD)
    return Ingestion(
        data_config=config,
        history_length=history_length,
        files={name: [file.path for file in files] for name, files in inputs.files.items()},
        forgotten=forgotten,
        stored=stored,
        num_shards=num_shards,
        now=int(time.time()),
        split_uris={
            split: artifact_utils.get_split_uri([examples], split)
            for split in _splits(exec_properties)
        },
        temp_uri=os.path.join(examples.uri, ".temp"),
        bad_rows_prefix=os.path.join(exec_properties[BAD_ROWS_DIR_KEY], _BAD_ROWS_PREFIX),
    )
