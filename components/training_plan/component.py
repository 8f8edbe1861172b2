"""TrainingPlan: tells the Trainer whether a guard rail asks for training from scratch."""

import json
import os

from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import ExampleAnomalies, HyperParameters
from tfx.utils import io_utils

from contract.guard_rails import FINDINGS_FILE, from_json, full_training_because
from contract.training_report import FROM_NOTHING_BECAUSE

_FILE = "hyperparameters.json"  # TFX's Trainer takes the only file, whatever its name


@component
def TrainingPlan(
    findings: InputArtifact[ExampleAnomalies],
    plan: OutputArtifact[HyperParameters],
    source_digest: Parameter[str],
) -> None:
    """Turns the findings of DataGate into a hyperparameter for the Trainer.

    TFX's Trainer accepts hyperparameters but not findings. The pipeline contains this component
    only if a rail is configured to ask for training from scratch (``guard_rails.data.full``).

    Args:
      findings: The input, the ExampleAnomalies of DataGate.
      plan: The output, HyperParameters with the reasons to train from scratch; "" if there are
        none.
      source_digest: Digest of the code behind this component, so that edited code
        misses the cache.
    """
    with fileio.open(os.path.join(findings.uri, FINDINGS_FILE)) as file:
        because = full_training_because(from_json(file.read()))
    io_utils.write_string_file(
        os.path.join(plan.uri, _FILE), json.dumps({FROM_NOTHING_BECAUSE: because})
    )
