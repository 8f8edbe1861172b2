"""RetrievalEvaluator: TFX's Evaluator with a digest of the metrics' code as a parameter."""

import json

import tensorflow_model_analysis as tfma
from tfx.components.evaluator import executor
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import BaseChannel, Channel, component_spec, standard_artifacts


class RetrievalEvaluatorSpec(component_spec.ComponentSpec):
    """Specification of ``RetrievalEvaluator``, with the names that TFX's executor expects."""

    PARAMETERS = {
        "eval_config": component_spec.ExecutionParameter(type=tfma.EvalConfig),
        "example_splits": component_spec.ExecutionParameter(type=str),
        "source_digest": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "baseline_model": component_spec.ChannelParameter(
            type=standard_artifacts.Model, optional=True
        ),
    }
    OUTPUTS = {
        "evaluation": component_spec.ChannelParameter(type=standard_artifacts.ModelEvaluation),
        "blessing": component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
    }


class RetrievalEvaluator(base_beam_component.BaseBeamComponent):
    """TFX's Evaluator with the retrieval metrics of ``components.evaluator.metrics``.

    Inputs: ``examples`` (Examples), ``model`` (Model) and optionally
    ``baseline_model`` (Model). Outputs: ``evaluation`` (ModelEvaluation) and
    ``blessing`` (ModelBlessing).

    TFX's own component has no parameter for the digest of the metrics' code, so after a change of
    the metrics its cache would return the old results.
    """

    SPEC_CLASS = RetrievalEvaluatorSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        examples: BaseChannel,
        model: BaseChannel,
        eval_config: tfma.EvalConfig,
        split: str,
        source_digest: str,
        baseline_model: BaseChannel | None = None,
    ):
        """Wires the component.

        Args:
          examples: Examples of ExampleGen, not transformed.
          model: Model to evaluate; it needs an ``evaluate`` signature.
          eval_config: Metrics, slices and thresholds.
          split: Split of ``examples`` whose people are evaluated.
          source_digest: Digest of the metrics' code, so that edited metrics miss the cache.
          baseline_model: Model with which the change thresholds compare.
        """
        super().__init__(
            RetrievalEvaluatorSpec(
                examples=examples,
                model=model,
                baseline_model=baseline_model,
                eval_config=eval_config,
                example_splits=json.dumps([split]),
                source_digest=source_digest,
                evaluation=Channel(type=standard_artifacts.ModelEvaluation),
                blessing=Channel(type=standard_artifacts.ModelBlessing),
            )
        )
