"""Faults of a model, through the real Evaluator and the gate after it.

That a healthy model passes is seen in every run of ``tests/e2e/test_local_run.py``. A
model that is too slow and one that answers nothing are refused by the index validator:
``tests/unit/components/index_validator``.
"""

import json
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from tfx.components.evaluator.executor import Executor as Evaluator
from tfx.dsl.components.base.base_beam_executor import BaseBeamExecutor
from tfx.types import artifact_utils, standard_artifacts

from components.model_gate.component import ModelGate
from components.model_gate.config import ModelRailsConfig
from contract.config_types import to_json
from contract.guard_rails import from_json
from pipeline import eval_config
from pipeline.config import EvaluationConfig
from tests.synthetic_examples import write_examples
from tests.trained_export import NUM_TRAINED, item_id, sequence_row, to_example
from tests.unit.components.example_gen.ingestion import BEAM_ARGS

_CONFIG = EvaluationConfig(
    cutoffs=(5,),
    primary_cutoff=5,
    min_lift_over_popularity=-1.0,
    max_drop_from_pushed=1.0,
    confidence_intervals=False,
)


def _artifact(kind, folder: Path):
    artifact = kind()
    artifact.uri = str(folder)
    return artifact


def _model(folder: Path, export: Path, vectors=None, version=""):
    """The trained export as a Model, with other item vectors if they are given."""
    target = folder / "Format-Serving"
    loaded = tf.saved_model.load(str(export))
    if vectors is not None:
        loaded.item_vectors.assign(vectors(loaded.item_vectors.numpy()))
    tf.saved_model.save(loaded, str(target), signatures=dict(loaded.signatures))
    model = _artifact(standard_artifacts.Model, folder)
    model.set_string_custom_property("version", version)
    return model


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """80 people with histories of rare items, and one target each."""
    artifact = _artifact(standard_artifacts.Examples, tmp_path_factory.mktemp("examples"))
    artifact.split_names = artifact_utils.encode_split_names(["test"])
    rng = np.random.default_rng(4)
    people = [
        to_example(
            {
                **sequence_row(
                    [item_id(i) for i in [*rng.integers(20, NUM_TRAINED, 4), rng.integers(0, 20)]],
                    f"p{person}",
                    num_targets=1,
                ),
                "history_length_bucket": [b"1-9"],
            }
        )
        for person in range(80)
    ]
    write_examples(Path(artifact.uri) / "Split-test" / "data_tfrecord-00000-of-00001.gz", people)
    return artifact


def _gated(tmp_path, examples, candidate, baseline, **further):
    """The blessing of the gate after the Evaluator, and the rails that were hit."""
    evaluation = _artifact(standard_artifacts.ModelEvaluation, tmp_path / "evaluation")
    blessing = _artifact(standard_artifacts.ModelBlessing, tmp_path / "blessing")
    context = BaseBeamExecutor.Context(make_beam_pipeline_fn=lambda: beam.Pipeline(argv=BEAM_ARGS))
    Evaluator(context).Do(
        {"examples": [examples], "model": [candidate], "baseline_model": [baseline]},
        {"evaluation": [evaluation], "blessing": [blessing]},
        {
            "eval_config": json_format.MessageToJson(eval_config.model_eval_config(_CONFIG)),
            "example_splits": json.dumps(["test"]),
        },
    )
    assert blessing.get_int_custom_property("blessed") == 1
    run = _artifact(standard_artifacts.ModelRun, tmp_path / "model_run")
    Path(run.uri).mkdir()
    history = [{"step": 5, "interest_cosine": 0.4}, {"step": 10, "interest_cosine": 0.6}]
    report = {"best_step": 10, "history": history}
    (Path(run.uri) / "training_report.json").write_text(json.dumps(report))
    gated = _artifact(standard_artifacts.ModelBlessing, tmp_path / "gated")
    ModelGate.test_call(
        evaluation=evaluation,
        evaluator_blessing=blessing,
        baseline_model=baseline,
        model_run=run,
        blessing=gated,
        config=to_json(ModelRailsConfig()),
        quantity="recall",
        cutoff=5,
        source_digest="",
        **further,
    )
    findings = from_json((Path(gated.uri) / "findings.json").read_text())
    return gated.get_int_custom_property("blessed"), findings


def test_a_model_that_gives_everybody_the_same_is_held_back(tmp_path, trained, examples):
    same = lambda vectors: np.ones_like(vectors)  # noqa: E731
    healthy = _model(tmp_path / "pushed", trained / "export", version="17")
    collapsed = _model(tmp_path / "candidate", trained / "export", same)
    blessed, findings = _gated(tmp_path, examples, collapsed, healthy)
    by_rail = {finding.rail: finding for finding in findings}
    assert blessed == 0
    assert by_rail["distinct_lists"].tripped
    assert "is 1.000; at least 1.5 is allowed" in by_rail["distinct_lists"].message
    # Cosine of the step whose weights were kept; the model in service was measured as well.
    assert "is 0.600" in by_rail["interest_cosine"].message
    assert "on the same 80 people" in by_rail["worse_than_pushed"].message


@pytest.mark.parametrize("earlier", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_model_that_was_refused_before_further_training_stays_refused(
    tmp_path, trained, examples, earlier
):
    model = _model(tmp_path / "candidate", trained / "export")
    judged = _model(tmp_path / "judged", trained / "export")
    blessing = standard_artifacts.ModelBlessing()
    blessing.set_int_custom_property("blessed", earlier)
    blessed, findings = _gated(tmp_path, examples, model, judged, earlier_blessing=blessing)
    assert blessed == earlier
    # The judged model is not in service.
    assert "worse_than_pushed" not in {finding.rail for finding in findings}
