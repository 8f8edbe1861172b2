"""The pipeline that compares two trained models on the same people."""

from tfx import v1 as tfx

from components.evaluator.component import RetrievalEvaluator
from contract import features
from pipeline import entries, eval_config
from pipeline.config import RunConfig
from pipeline.create_pipeline import as_pipeline, data_steps
from pipeline.source_digest import source_digest
from pipeline.target import RunTarget

EVALUATOR = "tuned-evaluator"


def create_comparison_pipeline(
    config: RunConfig, target: RunTarget, candidate_uri: str, baseline_uri: str
) -> tfx.dsl.Pipeline:
    """Creates a pipeline that evaluates two trained models on the same people of the test split.

    Args:
      config: Determines the examples and the metrics.
      target: Where the pipeline runs.
      candidate_uri: Model artifact whose lead is measured.
      baseline_uri: Model artifact to compare it with.
    """
    data = data_steps(config, target)
    candidate, baseline = (
        tfx.dsl.Importer(
            source_uri=uri, artifact_type=tfx.types.standard_artifacts.Model, reimport=True
        ).with_id(f"{role}-model")
        for role, uri in (("tuned", candidate_uri), ("default", baseline_uri))
    )
    evaluator = RetrievalEvaluator(
        examples=data.example_gen.outputs["examples"],
        model=candidate.outputs["result"],
        baseline_model=baseline.outputs["result"],
        eval_config=eval_config.model_eval_config(config.evaluation),
        split=features.TEST,
        source_digest=source_digest(entries.EVALUATION_METRICS),
    ).with_id(EVALUATOR)
    return as_pipeline(config, target, [data.example_gen, candidate, baseline, evaluator])
