"""FinalTrainer: repeats the training of a blessed model with all events."""

from tfx.dsl.components.base import base_component, executor_spec
from tfx.types import BaseChannel, Channel, component_spec, standard_artifacts

from components.final_trainer import executor
from components.final_trainer.executor import (
    BASE_KEY,
    BLESSING_KEY,
    CONFIG_KEY,
    EXAMPLES_KEY,
    FINAL_MODEL_KEY,
    FINAL_RUN_KEY,
    GRAPH_KEY,
    MODEL_KEY,
    RUN_KEY,
)
from contract.config_types import to_json
from model.tfx_functions.training_setup import TrainerConfig


class FinalTrainerSpec(component_spec.ComponentSpec):
    """Specification of ``FinalTrainer``."""

    PARAMETERS = {CONFIG_KEY: component_spec.ExecutionParameter(type=str)}
    # TFX requires names that are unique among inputs and outputs together.
    INPUTS = {
        EXAMPLES_KEY: component_spec.ChannelParameter(type=standard_artifacts.Examples),
        GRAPH_KEY: component_spec.ChannelParameter(type=standard_artifacts.TransformGraph),
        MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model),
        RUN_KEY: component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
        BLESSING_KEY: component_spec.ChannelParameter(type=standard_artifacts.ModelBlessing),
        BASE_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model, optional=True),
    }
    OUTPUTS = {
        FINAL_MODEL_KEY: component_spec.ChannelParameter(type=standard_artifacts.Model),
        FINAL_RUN_KEY: component_spec.ChannelParameter(type=standard_artifacts.ModelRun),
    }


class FinalTrainer(base_component.BaseComponent):
    """Repeats the training of a blessed model with all events, including those not in train.

    Inputs: ``examples`` (Examples, transformed, with the split rest), ``transform_graph``
    (TransformGraph), ``judged_model`` (Model; the argument ``model``), ``judged_run``
    (ModelRun; the argument ``model_run``), ``model_blessing`` (ModelBlessing) and optionally
    ``base_model`` (Model). Outputs: ``model`` (Model) and ``model_run`` (ModelRun). The custom
    properties ``steps_on_all`` and ``judged_model`` of the model are the number of training steps
    and the URI of the model that was judged. A model that is not blessed is copied unchanged.
    """

    SPEC_CLASS = FinalTrainerSpec
    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)

    def __init__(
        self,
        examples: BaseChannel,
        transform_graph: BaseChannel,
        model: BaseChannel,
        model_run: BaseChannel,
        model_blessing: BaseChannel,
        config: TrainerConfig,
        base_model: BaseChannel | None = None,
    ):
        """Wires the component.

        Args:
          examples: Transformed examples with the split rest.
          transform_graph: TransformGraph of the model.
          model: Model of the Trainer.
          model_run: ModelRun of the Trainer.
          model_blessing: ModelBlessing of the gate on models.
          config: The configuration of the Trainer, with the digest of this component's code.
          base_model: Model from which the Trainer could continue, if it was given one.
        """
        super().__init__(
            FinalTrainerSpec(
                **{
                    EXAMPLES_KEY: examples,
                    GRAPH_KEY: transform_graph,
                    MODEL_KEY: model,
                    RUN_KEY: model_run,
                    BLESSING_KEY: model_blessing,
                    BASE_KEY: base_model,
                    CONFIG_KEY: to_json(config),
                    FINAL_MODEL_KEY: Channel(type=standard_artifacts.Model),
                    FINAL_RUN_KEY: Channel(type=standard_artifacts.ModelRun),
                }
            )
        )
