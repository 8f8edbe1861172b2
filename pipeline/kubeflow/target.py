"""The target of a run on Kubeflow: everything is in the object store, or on a mounted volume."""

from pipeline.config import RunConfig
from pipeline.kubeflow.launcher_paths import readable_uri
from pipeline.target import RunTarget, comparable, digest, model_digest, training_key


def kfp_target(
    config: RunConfig,
    *,
    pipeline_root: str = "",
    span: str = "",
    input_fingerprint: str = "",
    baseline_version: str = "",
) -> RunTarget:
    """Returns the target of ``kubeflow_runner.py``: everything is in the object store.

    Nothing is read here: the input, its fingerprint and the newest pushed version are known only
    when the run starts.
    """
    root = (pipeline_root or config.kubeflow.pipeline_root).rstrip("/")
    storage = config.kubeflow.storage_root.rstrip("/") or f"{readable_uri(root)}/storage"
    key = training_key(config, input_fingerprint)
    return RunTarget(
        pipeline_root=root,
        push_destination=config.push.destination or f"{storage}/serving_models/{config.name}",
        checkpoint_dir=f"{storage}/checkpoints/{config.name}/{key}",
        bad_rows_dir=f"{storage}/bad_rows/{config.name}",
        span_store=f"{storage}/spans/{config.name}",
        accepted_data_dir=f"{storage}/accepted_data/{config.name}",
        input_fingerprint=input_fingerprint,
        run_key=digest(comparable(config), input_fingerprint, span, model_digest()),
        baseline_version=baseline_version,
        forgotten=config.data.forgotten,
        span=span,
        trainer_gpus=config.kubeflow.trainer_gpus,
        beam_args=config.kubeflow.beam_args,
    )
