"""SequenceSchemaGen: infers a schema if there is no curated one."""

from typing import ClassVar

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, component_spec, standard_artifacts

from components.schema_gen import executor


class SequenceSchemaGenSpec(component_spec.ComponentSpec):
    """Specification of ``SequenceSchemaGen``."""

    PARAMETERS: ClassVar = {"source_digest": component_spec.ExecutionParameter(type=str)}
    INPUTS: ClassVar = {
        "statistics": component_spec.ChannelParameter(type=standard_artifacts.ExampleStatistics)
    }
    OUTPUTS: ClassVar = {"schema": component_spec.ChannelParameter(type=standard_artifacts.Schema)}


class SequenceSchemaGen(base_component.BaseComponent):
    """Infers the schema of sequence and catalogue rows from their statistics.

    Input: ``statistics`` (ExampleStatistics). Output: ``schema`` (Schema).
    """

    SPEC_CLASS = SequenceSchemaGenSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, statistics: BaseChannel, source_digest: str):
        """Wires the component.

        Args:
          statistics: ExampleStatistics of StatisticsGen, of all splits.
          source_digest: Digest of the code behind this component, so that
            edited code misses the cache.
        """
        super().__init__(
            SequenceSchemaGenSpec(
                statistics=statistics,
                source_digest=source_digest,
                schema=Channel(type=standard_artifacts.Schema),
            )
        )
