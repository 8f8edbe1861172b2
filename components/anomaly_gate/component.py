"""AnomalyGate: turns ExampleValidator's report into a stop."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, component_spec, standard_artifacts

from components.anomaly_gate import executor


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
