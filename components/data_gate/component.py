"""DataGate: stops the run when the data differs too much from earlier data."""

import json
import os

import tensorflow_data_validation as tfdv
from absl import logging
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies, Examples, ExampleStatistics
from tfx.utils import io_utils

from components.data_gate import accepted, rails
from components.data_gate.config import DataRailsConfig
from components.data_gate.feature_drift import compared, divergences
from components.example_gen.report import FILE_NAME as INGEST_REPORT
from contract.config_types import from_json
from contract.guard_rails import FINDINGS_FILE, GuardRailError, stopping, to_json, warnings

_STATISTICS_FILE = "FeatureStats.pb"


@component
def DataGate(
    examples: InputArtifact[Examples],
    statistics: InputArtifact[ExampleStatistics],
    findings: OutputArtifact[ExampleAnomalies],
    config: Parameter[str],
    accepted_dir: Parameter[str],
    source_digest: Parameter[str],
) -> None:
    """Compares the newest data with earlier data, and fails if a guard rail refuses it.

    The newest span is compared with the spans before it; a log without a window, and the features
    in any case, with the data that was accepted last. A step that must not run on refused data
    names this component as an upstream node.

    Args:
      examples: An input, the Examples of ExampleGen, with its report.
      statistics: An input, the ExampleStatistics of StatisticsGen.
      findings: The output, ExampleAnomalies with the measurements of all guard rails in
        ``findings.json``.
      config: A ``DataRailsConfig`` as JSON.
      accepted_dir: A directory outside the artifacts that stores measures and statistics of the
        data accepted last. If this run's data is accepted, it replaces them.
      source_digest: Digest of the code behind this component, so that edited code
        misses the cache.

    Raises:
      GuardRailError: if the data exceeds the limit of a guard rail that stops the run; the
        message lists all such rails.
    """
    limits = from_json(DataRailsConfig, config)
    with fileio.open(os.path.join(examples.uri, INGEST_REPORT)) as file:
        report = json.loads(file.read())
    data = accepted.Accepted(
        rails.log_measures(report),
        compared(
            {
                split: tfdv.load_stats_binary(
                    os.path.join(
                        artifact_utils.get_split_uri([statistics], split), _STATISTICS_FILE
                    )
                )
                for split in artifact_utils.decode_split_names(statistics.split_names)
            }
        ),
    )
    before = accepted.newest(accepted_dir)
    if window := report.get("window"):
        found = rails.judge_spans(window["measures"], limits)
    else:
        found = rails.judge_log(data.measures, before.measures if before else None, limits)
    if before:
        found += rails.judge_features(divergences(data.statistics, before.statistics), limits)
    io_utils.write_string_file(os.path.join(findings.uri, FINDINGS_FILE), to_json(found))
    for finding in warnings(found):
        logging.warning("Guard rail %s: %s", finding.rail, finding.message)
    if stops := stopping(found):
        lines = "\n".join(f"  {finding.rail}: {finding.message}" for finding in stops)
        raise GuardRailError(
            f"{len(stops)} guard rail(s) on data stopped the run:\n{lines}\n"
            "Repair the data and run again. If the data is right, name the rails in "
            f"guard_rails.data.warn, such as --set 'guard_rails.data.warn=[{stops[0].rail}]'. "
            "Nothing was trained, and the served model stays in service"
        )
    accepted.remember(accepted_dir, data)
