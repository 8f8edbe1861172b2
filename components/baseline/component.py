"""BaselineBuilder: builds simple models with which the trained model is compared."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, component_spec, standard_artifacts

from components.baseline import executor


class BaselineBuilderSpec(component_spec.ComponentSpec):
    """Specification of ``BaselineBuilder``."""

    PARAMETERS = {"source_digest": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transformed_examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
        "transform_graph": component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
    }
    OUTPUTS = {
        "popularity_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "item_knn_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
    }


class BaselineBuilder(base_component.BaseComponent):
    """Builds a popularity and an item-kNN model, both with an ``evaluate`` signature.

    Inputs: ``examples`` and ``transformed_examples`` (Examples) and
    ``transform_graph`` (TransformGraph). Outputs: ``popularity_model`` and ``item_knn_model`` (both
    Model). An Evaluator evaluates both on the same people and with the same metrics as
    the trained model; neither is ever served. The ``evaluate`` signature of the item-kNN model also
    ranks by popularity in the last days and by what each person has had most often.
    """

    SPEC_CLASS = BaselineBuilderSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: BaseChannel,
        transformed_examples: BaseChannel,
        transform_graph: BaseChannel,
        source_digest: str,
    ):
        """Wires the component.

        Args:
          examples: Examples of ExampleGen, which give the times of the events in the train split.
          transformed_examples: Examples of Transform; only the train split is read.
          transform_graph: TransformGraph of Transform, which both models contain.
          source_digest: Digest of the code behind this component, so that
            edited code misses the cache.
        """
        super().__init__(
            BaselineBuilderSpec(
                examples=examples,
                transformed_examples=transformed_examples,
                transform_graph=transform_graph,
                source_digest=source_digest,
                popularity_model=Channel(type=standard_artifacts.Model),
                item_knn_model=Channel(type=standard_artifacts.Model),
            )
        )
