"""AnomalyGate: stops the run when the data contradicts the schema."""

import os

from absl import logging
from tensorflow_data_validation.utils.anomalies_util import load_anomalies_binary
from tfx.components.example_validator.executor import DEFAULT_FILE_NAME
from tfx.dsl.component.experimental.annotations import InputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.types import artifact_utils
from tfx.types.standard_artifacts import ExampleAnomalies

from components.anomaly_gate.anomalies import check


@component
def AnomalyGate(
    anomalies: InputArtifact[ExampleAnomalies],
    source_digest: Parameter[str],
) -> None:
    """Fails if ExampleValidator found an anomaly of severity ERROR.

    ExampleValidator itself only reports anomalies. This component has no output; a step that must
    not run on bad data names it as an upstream node.

    Args:
      anomalies: The input, the ExampleAnomalies of ExampleValidator; every split is checked.
      source_digest: Digest of the code behind this component, so that edited code
        misses the cache.

    Raises:
      DataAnomalyError: if there is such an anomaly; the message lists all of them.
    """
    splits = artifact_utils.decode_split_names(anomalies.split_names)
    folders = {split: artifact_utils.get_split_uri([anomalies], split) for split in splits}
    check(
        {
            split: load_anomalies_binary(os.path.join(folder, DEFAULT_FILE_NAME))
            for split, folder in folders.items()
        }
    )
    logging.info("No anomaly in %s", ", ".join(splits))
