"""Finds the files of ``IndexBuilder`` and builds the bundle."""

import json
import os
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_executor
from tfx.dsl.io import fileio
from tfx.types import artifact_utils
from tfx.utils import path_utils

from components.evaluator import results
from components.example_files import split_files
from components.example_gen.report import FILE_NAME as INGEST_REPORT
from contract.config_types import from_json
from contract.evaluation_outputs import CANDIDATE, OVERALL
from contract.features import EVAL, REST
from contract.manifest import (
    DATA,
    EXAMPLES,
    GENERATION,
    JUDGED_MODEL,
    METRICS,
    PRIMARY_METRIC,
    SLICES,
    STEPS_ON_ALL,
    TRAINING_STATE_DIR,
)
from contract.training_report import FROM_NOTHING_BECAUSE
from model.training.warm_start import generation_of, why_from_nothing
from retrieval.build import build_bundle
from retrieval.config import IndexConfig


def _data(examples_uri: str) -> dict[str, Any]:
    """Returns the manifest's facts about the data, from ExampleGen's report."""
    path = os.path.join(examples_uri, INGEST_REPORT)
    if not fileio.exists(path):  # if another component made the examples
        return {}
    with fileio.open(path) as file:
        report = json.loads(file.read())
    spans = report.get("window", {}).get("spans", [])
    found: dict[str, Any] = {}
    if spans:
        first, last = spans[0]["name"], spans[-1]["name"]
        found["window"] = {"first": first, "last": last, "spans": len(spans)}
    return {
        **found,
        "time": report["time"],
        "events": report["events"]["kept"],
        "people": report["users"]["kept"],
        "items": report["catalogue"]["items"],
        "sequences": {
            split: counts["sequences"]
            for split, counts in report["splits"].items()
            if split != REST  # rest has people of the other splits, for training on all events
        },
    }


class Executor(base_executor.BaseExecutor):
    """Executor of ``IndexBuilder``."""

    def Do(  # TFX's name
        self,
        input_dict: dict[str, list[types.Artifact]],
        output_dict: dict[str, list[types.Artifact]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the bundle; see ``IndexBuilder``."""
        facts = json.loads(exec_properties["manifest"])
        if evaluation := input_dict.get("evaluation"):
            uri = artifact_utils.get_single_uri(evaluation)
            metrics = results.read_metrics(uri, CANDIDATE)
            facts[METRICS] = metrics[OVERALL]
            facts[SLICES] = {
                name: values.get(facts.get(PRIMARY_METRIC), {}) for name, values in metrics.items()
            }
        facts[DATA] = _data(artifact_utils.get_single_uri(input_dict["examples"]))
        # The histories with which the index was tuned; an item refresh needs them again.
        facts[EXAMPLES] = artifact_utils.get_split_uri(input_dict["examples"], EVAL)
        trained = artifact_utils.get_single_instance(input_dict["trained_model"])
        model_dir = path_utils.serving_model_path(trained.uri)
        state = os.path.join(model_dir, TRAINING_STATE_DIR)
        generation = generation_of(state)
        if generation is not None:
            facts[GENERATION] = generation
            if because := why_from_nothing(state):
                facts[FROM_NOTHING_BECAUSE] = because
        if trained.has_custom_property(STEPS_ON_ALL):
            facts[STEPS_ON_ALL] = trained.get_int_custom_property(STEPS_ON_ALL)
            facts[JUDGED_MODEL] = trained.get_string_custom_property(JUDGED_MODEL)
        build_bundle(
            model_dir=model_dir,
            example_files=split_files(input_dict["examples"], EVAL),
            output_dir=path_utils.serving_model_dir(
                artifact_utils.get_single_uri(output_dict["model"])
            ),
            config=from_json(IndexConfig, exec_properties["index_config"]),
            facts=facts,
        )
