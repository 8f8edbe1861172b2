"""AnomalyGate: stops the run when the data contradicts the schema."""

from typing import ClassVar

from tfx.dsl.components.base.base_component import BaseComponent
from tfx.dsl.components.base.executor_spec import ExecutorClassSpec
from tfx.types import BaseChannel, standard_artifacts
from tfx.types.component_spec import ChannelParameter, ComponentSpec

from components.anomaly_gate import executor


class AnomalyGateSpec(ComponentSpec):
    """Input of AnomalyGate; it has neither parameters nor outputs."""

    PARAMETERS: ClassVar[dict[str, object]] = {}
    INPUTS: ClassVar = {
        executor.ANOMALIES_KEY: ChannelParameter(type=standard_artifacts.ExampleAnomalies)
    }
    OUTPUTS: ClassVar[dict[str, ChannelParameter]] = {}


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
