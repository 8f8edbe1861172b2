"""The only definition of the DAG: it contains nothing but wiring, and all targets share it."""

import dataclasses
from typing import NamedTuple

from tfx import v1 as tfx
from tfx.dsl.components.base.base_node import BaseNode
from tfx.types import BaseChannel

from components.anomaly_gate.component import AnomalyGate
from components.baseline.component import BaselineBuilder
from components.data_gate.component import DataGate
from components.evaluator.component import RetrievalEvaluator
from components.example_gen.component import InteractionExampleGen
from components.final_trainer.component import FinalTrainer
from components.index_builder.component import IndexBuilder
from components.index_validator.component import IndexValidator
from components.last_pushed.component import LastPushedModel
from components.model_gate.component import ModelGate
from components.pusher.component import AtomicPusher
from components.schema_gen.component import SequenceSchemaGen
from components.training_plan.component import TrainingPlan
from contract import features
from contract.config_types import to_dict, to_json
from model.tfx_functions.preprocessing import FeaturePreprocessing, PreprocessingConfig
from model.tfx_functions.training_setup import TrainerConfig
from pipeline import entries, eval_config
from pipeline.config import RunConfig
from pipeline.source_digest import source_digest
from pipeline.target import RunTarget

# Ids of the steps that prepare the training data, and that train.
TRANSFORM = "transform"
TRAINER = "trainer"
FINAL_TRAINER = "final-trainer"
# Ids of the two steps that inspect the push destination, which also changes outside the pipeline.
LAST_PUSHED = "last-pushed"
PUSHER = "pusher"


class DataSteps(NamedTuple):
    """The first steps, up to and including the schema."""

    example_gen: InteractionExampleGen
    statistics_gen: tfx.components.StatisticsGen
    schema_gen: BaseNode


class _TrainingData(NamedTuple):
    """All steps up to and including Transform."""

    steps: DataSteps
    example_validator: tfx.components.ExampleValidator
    anomaly_gate: BaseNode
    data_gate: BaseNode
    transform: tfx.components.Transform

    def nodes(self) -> list[BaseNode]:
        return [*self.steps, *self[1:]]


def data_steps(config: RunConfig, target: RunTarget) -> DataSteps:
    """Wires the first steps."""
    example_gen = InteractionExampleGen(
        data_config=dataclasses.replace(config.data, forgotten=target.forgotten),
        history_length=config.model.history_length,
        span=target.span,
        input_fingerprint=target.input_fingerprint,
        bad_rows_dir=target.bad_rows_dir,
        span_store=target.span_store,
        reading_digest=source_digest(*entries.SPAN_READER),
        source_digest=source_digest(entries.EXAMPLE_GEN),
        with_rest=config.training.train_on_all,
    ).with_id("example-gen")
    statistics_gen = tfx.components.StatisticsGen(examples=example_gen.outputs["examples"]).with_id(
        "statistics-gen"
    )
    schema_gen: BaseNode
    if config.schema:
        schema_gen = tfx.components.ImportSchemaGen(schema_file=config.schema)
    else:
        schema_gen = SequenceSchemaGen(
            statistics=statistics_gen.outputs["statistics"],
            source_digest=source_digest(entries.SCHEMA_GEN),
        )
    return DataSteps(example_gen, statistics_gen, schema_gen.with_id("schema"))


def create_schema_pipeline(config: RunConfig, target: RunTarget) -> tfx.dsl.Pipeline:
    """Creates a pipeline of the first steps only, which infer a schema to be curated."""
    inferring = dataclasses.replace(config, schema="")
    return as_pipeline(config, target, list(data_steps(inferring, target)))


def create_data_pipeline(config: RunConfig, target: RunTarget) -> tfx.dsl.Pipeline:
    """Creates a pipeline of the steps up to Transform, which prepare the Trainer's input."""
    return as_pipeline(config, target, _training_data(config, target).nodes())


def _training_data(config: RunConfig, target: RunTarget) -> _TrainingData:
    steps = data_steps(config, target)
    example_gen, statistics_gen, schema_gen = steps
    examples = example_gen.outputs["examples"]
    schema = schema_gen.outputs["schema"]
    # Catalogue rows have different features; ExampleGen checks them.
    example_validator = tfx.components.ExampleValidator(
        statistics=statistics_gen.outputs["statistics"],
        schema=schema,
        exclude_splits=[features.CATALOG],
    ).with_id("example-validator")
    anomaly_gate = AnomalyGate(
        anomalies=example_validator.outputs["anomalies"],
        source_digest=source_digest(entries.ANOMALY_GATE),
    ).with_id("anomaly-gate")
    data_gate = DataGate(
        examples=examples,
        statistics=statistics_gen.outputs["statistics"],
        config=to_json(config.guard_rails.data),
        accepted_dir=target.accepted_data_dir,
        source_digest=source_digest(entries.DATA_GATE),
    ).with_id("data-gate")

    transform = tfx.components.Transform(
        examples=examples,
        schema=schema,
        preprocessing_fn=entries.PREPROCESSING_FN,
        splits_config=tfx.proto.SplitsConfig(
            analyze=[features.TRAIN, features.CATALOG],
            transform=features.splits(with_rest=config.training.train_on_all),
        ),
        custom_config={
            "preprocessing": to_dict(preprocessing_config(config)),
            "source_digest": source_digest(entries.PREPROCESSING_FN),
        },
        disable_statistics=True,
    ).with_id(TRANSFORM)
    transform.add_upstream_node(anomaly_gate)
    transform.add_upstream_node(data_gate)
    return _TrainingData(steps, example_validator, anomaly_gate, data_gate, transform)


def create_pipeline(config: RunConfig, target: RunTarget) -> tfx.dsl.Pipeline:
    """Wires the components.

    Args:
      config: The run's configuration.
      target: Where the pipeline runs: roots, destinations, Beam arguments.
    """
    data = _training_data(config, target)
    examples = data.steps.example_gen.outputs["examples"]
    schema = data.steps.schema_gen.outputs["schema"]
    transformed = data.transform.outputs["transformed_examples"]
    transform_graph = data.transform.outputs["transform_graph"]

    baselines = BaselineBuilder(
        examples=examples,
        transformed_examples=transformed,
        transform_graph=transform_graph,
        source_digest=source_digest(entries.BASELINE_BUILDER),
    ).with_id("baseline-builder")
    last_pushed = LastPushedModel(
        fallback_model=baselines.outputs["popularity_model"],
        push_destination=target.push_destination,
        version=target.baseline_version,
        run_key=target.run_key,
        source_digest=source_digest(entries.LAST_PUSHED),
    ).with_id(LAST_PUSHED)
    training = trainer_config(config, target.checkpoint_dir, target.trainer_gpus)
    # A warm start continues from the base model's training state, if it has one.
    base_model = last_pushed.outputs["model"] if config.training.warm_start else None
    training_plan = None
    if base_model and config.guard_rails.data.full:
        training_plan = TrainingPlan(
            findings=data.data_gate.outputs["findings"],
            source_digest=source_digest(entries.TRAINING_PLAN),
        ).with_id("training-plan")
    trainer = tfx.components.Trainer(
        base_model=base_model,
        hyperparameters=training_plan.outputs["plan"] if training_plan else None,
        examples=transformed,
        transform_graph=transform_graph,
        schema=schema,
        run_fn=entries.RUN_FN,
        train_args=tfx.proto.TrainArgs(splits=[features.TRAIN, features.CATALOG]),
        eval_args=tfx.proto.EvalArgs(splits=[features.EVAL]),
        custom_config=to_dict(training),
    ).with_id(TRAINER)

    evaluator = RetrievalEvaluator(
        examples=examples,
        model=trainer.outputs["model"],
        baseline_model=last_pushed.outputs["model"],
        eval_config=eval_config.model_eval_config(config.evaluation),
        split=features.TEST,
        source_digest=source_digest(entries.EVALUATION_METRICS),
    ).with_id("evaluator")

    item_knn_evaluator = None
    if config.evaluation.item_knn:
        item_knn_evaluator = RetrievalEvaluator(
            examples=examples,
            model=baselines.outputs["item_knn_model"],
            eval_config=eval_config.baseline_eval_config(config.evaluation),
            split=features.TEST,
            source_digest=source_digest(entries.EVALUATION_METRICS),
        ).with_id("item-knn-evaluator")
    model_gate = ModelGate(
        evaluation=evaluator.outputs["evaluation"],
        evaluator_blessing=evaluator.outputs["blessing"],
        baseline_model=last_pushed.outputs["model"],
        model_run=trainer.outputs["model_run"],
        item_knn_evaluation=item_knn_evaluator.outputs["evaluation"]
        if item_knn_evaluator
        else None,
        config=to_json(config.guard_rails.model),
        quantity=config.evaluation.primary_metric,
        cutoff=config.evaluation.primary_cutoff,
        source_digest=source_digest(entries.MODEL_GATE),
    ).with_id("model-gate")

    final: list[BaseNode] = []
    to_push, blessing = trainer.outputs["model"], model_gate.outputs["blessing"]
    if config.training.train_on_all:
        final = _final_training(
            config, training, examples, data.transform, base_model, trainer, model_gate
        )
        final_trainer, _, final_gate = final
        to_push, blessing = final_trainer.outputs["model"], final_gate.outputs["blessing"]

    index_builder = IndexBuilder(
        model=to_push,
        examples=examples,
        index_config=to_json(config.index),
        manifest=target.manifest(config),
        evaluation=evaluator.outputs["evaluation"],
        source_digest=source_digest(entries.INDEX_BUILDER),
    ).with_id("index-builder")
    bundle = index_builder.outputs["model"]
    index_validator = IndexValidator(
        model=bundle,
        examples=examples,
        index_config=to_json(config.index),
        source_digest=source_digest(entries.INDEX_VALIDATOR),
    ).with_id("index-validator")
    pusher = AtomicPusher(
        model=bundle,
        model_blessing=blessing,
        infra_blessing=index_validator.outputs["blessing"],
        push_destination=tfx.proto.PushDestination(
            filesystem=tfx.proto.PushDestination.Filesystem(base_directory=target.push_destination)
        ),
        custom_config={"source_digest": source_digest(entries.PUSHER)},
    ).with_id(PUSHER)

    nodes: list[BaseNode] = [
        *data.nodes(),
        baselines,
        trainer,
        last_pushed,
        evaluator,
        model_gate,
        *final,
        index_builder,
        index_validator,
        pusher,
    ]
    nodes += [node for node in (item_knn_evaluator, training_plan) if node]
    return as_pipeline(config, target, nodes)


def _final_training(
    config: RunConfig,
    training: TrainerConfig,
    examples: BaseChannel,
    transform: BaseNode,
    base_model: BaseChannel | None,
    trainer: BaseNode,
    model_gate: BaseNode,
) -> list[BaseNode]:
    """Trains the blessed model again, also on the events that judged it, and checks it.

    The result has seen the people of the test split, so its metrics say nothing about its quality.
    They only have to be as good as those of the judged model, and its answers as diverse as the
    guard rails require.
    """
    final_trainer = FinalTrainer(
        examples=transform.outputs["transformed_examples"],
        transform_graph=transform.outputs["transform_graph"],
        model=trainer.outputs["model"],
        model_run=trainer.outputs["model_run"],
        model_blessing=model_gate.outputs["blessing"],
        base_model=base_model,
        config=dataclasses.replace(training, source_digest=source_digest(entries.FINAL_TRAINER)),
    ).with_id(FINAL_TRAINER)
    evaluator = RetrievalEvaluator(
        examples=examples,
        model=final_trainer.outputs["model"],
        baseline_model=trainer.outputs["model"],
        eval_config=eval_config.model_eval_config(
            dataclasses.replace(config.evaluation, confidence_intervals=False)
        ),
        split=features.TEST,
        source_digest=source_digest(entries.EVALUATION_METRICS),
    ).with_id("final-evaluator")
    gate = ModelGate(
        evaluation=evaluator.outputs["evaluation"],
        evaluator_blessing=evaluator.outputs["blessing"],
        earlier_blessing=model_gate.outputs["blessing"],
        # The judged model was never pushed, so the guard rails about models in service do not
        # apply.
        baseline_model=trainer.outputs["model"],
        model_run=final_trainer.outputs["model_run"],
        config=to_json(config.guard_rails.model),
        quantity=config.evaluation.primary_metric,
        cutoff=config.evaluation.primary_cutoff,
        source_digest=source_digest(entries.MODEL_GATE),
    ).with_id("final-gate")
    return [final_trainer, evaluator, gate]


def as_pipeline(config: RunConfig, target: RunTarget, nodes: list[BaseNode]) -> tfx.dsl.Pipeline:
    """Creates a pipeline of these steps."""
    return tfx.dsl.Pipeline(
        pipeline_name=config.name,
        pipeline_root=target.pipeline_root,
        components=nodes,
        enable_cache=target.enable_cache,
        metadata_connection_config=target.metadata_connection_config,
        beam_pipeline_args=list(target.beam_args),
    )


def trainer_config(
    config: RunConfig, checkpoint_dir: str, num_accelerators: int = 0
) -> TrainerConfig:
    """Collects everything that the Trainer needs in addition to its data.

    Args:
      config: The run's configuration.
      checkpoint_dir: Directory of the checkpoints from which an interrupted training resumes.
      num_accelerators: Number of GPUs that the Trainer requires.
    """
    return TrainerConfig(
        model=config.model,
        # The weights are selected by the same metric that the Evaluator will use.
        training=dataclasses.replace(
            config.training,
            eval_cutoff=config.evaluation.primary_cutoff,
            eval_exclude_history=config.evaluation.exclude_history,
        ),
        preprocessing=preprocessing_config(config),
        checkpoint_dir=checkpoint_dir,
        num_recommended=max(config.evaluation.cutoffs),
        exclude_history=config.evaluation.exclude_history,
        num_accelerators=num_accelerators,
        source_digest=source_digest(entries.RUN_FN),
    )


def preprocessing_config(config: RunConfig) -> PreprocessingConfig:
    """Returns the part of the data and model configuration that Transform needs."""

    def select(table: object, used: bool) -> dict[str, FeaturePreprocessing]:
        if table is None or not used:
            return {}
        return {
            name: FeaturePreprocessing(kind=feature.kind, num_buckets=feature.num_buckets)
            for name, feature in table.features.items()  # type: ignore[attr-defined]
        }

    items, users = config.data.items, config.data.users
    return PreprocessingConfig(
        history_length=config.model.history_length,
        times=config.model.time_gap,
        item_features=select(items, config.model.side_features),
        user_features=select(users, config.model.profile_features),
        titles=bool(items and items.title_column),
        category=items.category if items else "",
        filters=config.index.filters,
    )
