"""IndexValidator: loads a bundle as a server would, and blesses it if it meets the thresholds."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, component_spec, standard_artifacts

from components.index_validator import executor


class IndexValidatorSpec(component_spec.ComponentSpec):
    """Specification of ``IndexValidator``."""

    PARAMETERS = {
        "index_config": component_spec.ExecutionParameter(type=str),
        "source_digest": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "model": component_spec.ChannelParameter(type=standard_artifacts.Model),
        "examples": component_spec.ChannelParameter(type=standard_artifacts.Examples),
    }
    OUTPUTS = {"blessing": component_spec.ChannelParameter(type=standard_artifacts.InfraBlessing)}


class IndexValidator(base_component.BaseComponent):
    """Measures recall, latency and size through the signatures that are served.

    Inputs: ``model`` (Model) and ``examples`` (Examples). Output: ``blessing``
    (InfraBlessing), which also holds all measurements in ``validation.json``.

    It takes the place of TFX's InfraValidator, which needs Docker and does not run on
    Kubeflow Pipelines 2.
    """

    SPEC_CLASS = IndexValidatorSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self, model: BaseChannel, examples: BaseChannel, index_config: str, source_digest: str
    ):
        """Wires the component.

        Args:
          model: Model of IndexBuilder.
          examples: Examples of ExampleGen; the requests are for people of the eval
            split who were not used for tuning.
          index_config: An ``IndexConfig`` as JSON, with the thresholds.
          source_digest: Digest of the code behind this component, so that
            edited code misses the cache.
        """
        super().__init__(
            IndexValidatorSpec(
                model=model,
                examples=examples,
                index_config=index_config,
                source_digest=source_digest,
                blessing=Channel(type=standard_artifacts.InfraBlessing),
            )
        )
