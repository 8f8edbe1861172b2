<<<<<<< HEAD
"""AnomalyGate: turns ExampleValidator's report into a stop."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, component_spec, standard_artifacts
=======
"""AnomalyGate: stops the run when the data contradicts the schema."""

from typing import ClassVar

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import BaseChannel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec
>>>>>>> data

from components.anomaly_gate import executor


<<<<<<< HEAD
class AnomalyGateSpec(component_spec.ComponentSpec):
    """Specification of ``AnomalyGate``."""

    PARAMETERS = {"source_digest": component_spec.ExecutionParameter(type=str)}
    INPUTS = {
        "anomalies": component_spec.ChannelParameter(type=standard_artifacts.ExampleAnomalies)
    }
    OUTPUTS = {}


class AnomalyGate(base_component.BaseComponent):
    """Fails on anomalies of severity ERROR.

    ExampleValidator reports and goes on. Steps that must not see broken data
    run after this one (``add_upstream_node``).
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(self, anomalies: BaseChannel, source_digest: str):
        """Wires the component.

        Args:
          anomalies: From ExampleValidator.
          source_digest: Digest of the code behind this component, so that
            edited code misses the cache.
        """
        super().__init__(AnomalyGateSpec(anomalies=anomalies, source_digest=source_digest))
=======
class AnomalyGateSpec(ComponentSpec):
    """Input of AnomalyGate; it has neither parameters nor outputs."""

    PARAMETERS: ClassVar = {}
    INPUTS: ClassVar = {
        executor.ANOMALIES_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies)
    }
    OUTPUTS: ClassVar = {}


class AnomalyGate(BaseComponent):
    """Fails if ExampleValidator found an anomaly of severity ERROR in any split.

    It has no output: what must not run on bad data names it as an upstream node.
    """

    SPEC_CLASS = AnomalyGateSpec
    EXECUTOR_SPEC = ExecutorClassSpec(executor.Executor)

    def __init__(self, anomalies: BaseChannel):
        """Makes the component.

        Args:
          anomalies: Output of ExampleValidator.
        """
        super().__init__(AnomalyGateSpec(anomalies=anomalies))
>>>>>>> data
