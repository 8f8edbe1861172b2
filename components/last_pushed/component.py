"""LastPushedModel: the model in service, as the Evaluator's baseline."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, component_spec, standard_artifacts

from components.last_pushed import executor


class LastPushedModelSpec(component_spec.ComponentSpec):
    """Specification of ``LastPushedModel``."""

    PARAMETERS = {
        "push_destination": component_spec.ExecutionParameter(type=str),
        "version": component_spec.ExecutionParameter(type=str),
        "run_key": component_spec.ExecutionParameter(type=str),
    }
    INPUTS = {
        "fallback_model": component_spec.ChannelParameter(type=standard_artifacts.Model),
    }
    OUTPUTS = {"model": component_spec.ChannelParameter(type=standard_artifacts.Model)}


class LastPushedModel(base_component.BaseComponent):
    """Outputs the newest pushed version as a Model.

    Stands in for TFX's Resolver, which open-source Kubeflow Pipelines refuses,
    and reads what is served rather than what some run has blessed. The
    output's custom property ``version`` is the pushed version, "" for the
    fallback.
    """

    SPEC_CLASS = LastPushedModelSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self, fallback_model: BaseChannel, push_destination: str, version: str, run_key: str
    ):
        """Wires the component.

        Args:
          fallback_model: The output while nothing has been pushed.
          push_destination: Directory with one directory per version.
          version: Which one; empty is the newest complete version of another
            run when this component runs.
          run_key: This run's key; its own versions are passed over.
        """
        super().__init__(
            LastPushedModelSpec(
                fallback_model=fallback_model,
                push_destination=push_destination,
                version=version,
                run_key=run_key,
                model=Channel(type=standard_artifacts.Model),
            )
        )
