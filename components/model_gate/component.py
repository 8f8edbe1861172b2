"""ModelGate: blesses a model only if no guard rail refuses it."""

import json
import os

import numpy as np
from absl import logging
from tfx.components.evaluator import constants
from tfx.components.util.model_utils import is_model_blessed
from tfx.dsl.component.experimental.annotations import InputArtifact, OutputArtifact, Parameter
from tfx.dsl.component.experimental.decorators import component
from tfx.dsl.io import fileio
from tfx.types.standard_artifacts import Model, ModelBlessing, ModelEvaluation, ModelRun
from tfx.utils import io_utils

from components.evaluator.results import read_group_sums, read_metrics
from components.model_gate.config import ModelRailsConfig
from components.model_gate.rails import judge_model
from contract.config_types import from_json
from contract.evaluation_outputs import BASELINE, CANDIDATE, OVERALL, RECENT_DAYS
from contract.guard_rails import FINDINGS_FILE, stopping, to_json, warnings
from contract.metric_names import (
    BY_GROUP,
    CONCENTRATION,
    DISTINCT_LISTS,
    PERSONAL_FREQUENCY,
    metric_name,
    recent_popularity,
)
from contract.training_report import TRAINING_REPORT

_INTEREST_COSINE = "interest_cosine"


@component
def ModelGate(
    evaluation: InputArtifact[ModelEvaluation],
    evaluator_blessing: InputArtifact[ModelBlessing],
    baseline_model: InputArtifact[Model],
    model_run: InputArtifact[ModelRun],
    blessing: OutputArtifact[ModelBlessing],
    config: Parameter[str],
    quantity: Parameter[str],
    cutoff: Parameter[int],
    source_digest: Parameter[str],
    item_knn_evaluation: InputArtifact[ModelEvaluation] = None,
    earlier_blessing: InputArtifact[ModelBlessing] = None,
) -> None:
    """Compares the model with others on the same people, and checks for collapsed answers.

    Args:
      evaluation: An input, the ModelEvaluation of the model and of the one in service.
      evaluator_blessing: An input, the ModelBlessing of the Evaluator; a model that it refuses
        stays refused.
      baseline_model: An input, the Model of LastPushedModel; it is the one in service if it has
        a ``version``.
      model_run: An input, the ModelRun of the Trainer, with its report.
      blessing: The output, a ModelBlessing with ``findings.json``.
      config: A ``ModelRailsConfig`` as JSON.
      quantity: The primary metric, such as ``recall``.
      cutoff: The N of the primary metric.
      source_digest: Digest of the code behind this component, so that edited code
        misses the cache.
      item_knn_evaluation: An optional input, the ModelEvaluation of item-kNN and of simpler
        baselines.
      earlier_blessing: An optional input, the ModelBlessing of the judged model, if this model
        was trained in the same way with more events; a model that it refuses stays refused.

    Raises:
      ValueError: if the evaluation does not have the sums within groups of people.
    """
    limits = from_json(ModelRailsConfig, config)

    def name_of(*qualifiers: str) -> str:
        return metric_name(quantity, cutoff, *qualifiers, BY_GROUP)

    ours = read_group_sums(evaluation.uri, CANDIDATE).get(name_of())
    if ours is None:
        raise ValueError(
            f"{evaluation.uri} has no sums within groups of people for {quantity} at {cutoff}; "
            "expected those that the pipeline's Evaluator writes"
        )
    others: dict[str, np.ndarray | None] = {}
    if baseline_model.get_string_custom_property("version"):
        others["worse_than_pushed"] = read_group_sums(evaluation.uri, BASELINE).get(name_of())
    if item_knn_evaluation is not None:
        # TFMA omits the model's name if an evaluation has only one model.
        baselines = read_group_sums(item_knn_evaluation.uri, "")
        others["worse_than_item_knn"] = baselines.get(name_of())
        for name in (*map(recent_popularity, RECENT_DAYS), PERSONAL_FREQUENCY):
            others[f"worse_than_{name}"] = baselines.get(name_of(name))
    measured = read_metrics(evaluation.uri, CANDIDATE)[OVERALL]
    figures = {
        name: measured.get(metric_name(name, cutoff), {}).get("value")
        for name in (DISTINCT_LISTS, CONCENTRATION)
    }
    found = judge_model(
        metric_name(quantity, cutoff),
        ours,
        others,
        {**figures, _INTEREST_COSINE: _interest_cosine(model_run.uri)},
        limits,
    )
    io_utils.write_string_file(os.path.join(blessing.uri, FINDINGS_FILE), to_json(found))
    for finding in warnings(found):
        logging.warning("Guard rail %s: %s", finding.rail, finding.message)
    blessings = [evaluator_blessing, *([earlier_blessing] if earlier_blessing else [])]
    blessed = all(map(is_model_blessed, blessings)) and not stopping(found)
    io_utils.write_string_file(
        os.path.join(
            blessing.uri,
            constants.BLESSED_FILE_NAME if blessed else constants.NOT_BLESSED_FILE_NAME,
        ),
        "",
    )
    blessing.set_int_custom_property(
        constants.ARTIFACT_PROPERTY_BLESSED_KEY,
        constants.BLESSED_VALUE if blessed else constants.NOT_BLESSED_VALUE,
    )


def _interest_cosine(model_run_uri: str) -> float | None:
    """Returns the mean cosine between a person's interests at the step whose weights were kept."""
    with fileio.open(os.path.join(model_run_uri, TRAINING_REPORT)) as file:
        report = json.loads(file.read())
    for entry in report["history"]:
        if entry["step"] == report["best_step"]:
            return entry.get(_INTEREST_COSINE)
    return None
