"""Entry points of each step's code, as import paths.

A step's cache key carries the digest of its entry and of everything that the entry
imports from this project; see ``pipeline.source_digest``.
"""

EXAMPLE_GEN = "components.example_gen.executor"
# What is stored of a span depends on how it was read, checked and written.
SPAN_READER = (
    "components.example_gen.readers",
    "components.example_gen.rows",
    "components.example_gen.span_store",
)
SCHEMA_GEN = "components.schema_gen.executor"
ANOMALY_GATE = "components.anomaly_gate.component"
DATA_GATE = "components.data_gate.component"
TRAINING_PLAN = "components.training_plan.component"
PREPROCESSING_FN = "model.tfx_functions.preprocessing.preprocessing_fn"
RUN_FN = "model.tfx_functions.trainer.run_fn"
BASELINE_BUILDER = "components.baseline.executor"
EVALUATION_METRICS = "components.evaluator.metrics"
FINAL_TRAINER = "components.final_trainer.executor"
MODEL_GATE = "components.model_gate.component"
LAST_PUSHED = "components.last_pushed.component"
INDEX_BUILDER = "components.index_builder.executor"
INDEX_VALIDATOR = "components.index_validator.executor"
PUSHER = "components.pusher.executor"

# Code that a training depends on.
TRAINING = (EXAMPLE_GEN, RUN_FN)
# Code that the pushed model depends on; the other steps only decide whether it is pushed.
PUSHED_MODEL = (
    EXAMPLE_GEN,
    SCHEMA_GEN,
    PREPROCESSING_FN,
    RUN_FN,
    FINAL_TRAINER,
    INDEX_BUILDER,
)
# The parameters of the steps are wired here.
WIRING = "pipeline.create_pipeline"
