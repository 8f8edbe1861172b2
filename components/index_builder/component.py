"""IndexBuilder: turns a trained model into the bundle that is pushed."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, component_spec, standard_artifacts

from components.index_builder import executor


class IndexBuilderSpec(component_spec.ComponentSpec):
    """Specification of ``IndexBuilder``."""

    PARAMETERS = {
        "index_config": component_spec.ExecutionParameter(type=str),
        "manifest": component_spec.ExecutionParameter(type=str),
        "source_digest": component_spec.ExecutionParameter(type=str),
    }
    # TFX requires names that are unique among inputs and outputs together.
    INPUTS = {
        "trained_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "evaluation": component_spec.ChannelParameter(
            type=standard_artifacts.ModelEvaluation, optional=True
        ),
    }
    OUTPUTS = {"model": component_spec.ChannelParameter(type=standard_artifacts.Model)}


class IndexBuilder(base_component.BaseComponent):
    """Builds one SavedModel that contains vocabulary, user tower and index.

    Inputs: ``trained_model`` (Model; the argument ``model``), ``examples``
    (Examples) and optionally ``evaluation`` (ModelEvaluation). Output: ``model``
    (Model), with the signatures of ``docs/serving.md`` and a description of itself
    in ``assets.extra/manifest.json``.
    """

    SPEC_CLASS = IndexBuilderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        model: BaseChannel,
        examples: BaseChannel,
        index_config: str,
        manifest: str,
        source_digest: str,
        evaluation: BaseChannel | None = None,
    ):
        """Wires the component.

        Args:
          model: Model of the Trainer.
          examples: Examples of ExampleGen; the index is tuned with people of the eval
            split.
          index_config: An ``IndexConfig`` as JSON.
          manifest: Facts about the run as a JSON object, which are copied into the manifest.
          source_digest: Digest of the code behind this component, so that
            edited code misses the cache.
          evaluation: ModelEvaluation of the Evaluator, whose metrics are copied into
            the manifest.
        """
        super().__init__(
            IndexBuilderSpec(
                trained_model=model,
                examples=examples,
                evaluation=evaluation,
                index_config=index_config,
                manifest=manifest,
                source_digest=source_digest,
                model=Channel(type=standard_artifacts.Model),
            )
        )
