"""The ``tf.distribute`` strategy, the devices and the workers of a training."""

import tensorflow as tf

from model.config import TrainingConfig

_CHIEF = "chief"  # the name of the chief's job in TF_CONFIG


def make_strategy(config: TrainingConfig) -> tf.distribute.Strategy:
    """Returns the strategy that ``config.distribution`` names.

    Build the model inside the strategy's ``scope()``; `model.training.loop.fit` reads the
    strategy from the model. ``batch_size`` is the global batch size. With
    ``multi_worker_mirrored``, every worker runs the same program with its own
    ``TF_CONFIG`` (Kubeflow's TFJob sets it) and must create the strategy before it runs
    any TensorFlow operation.
    """
    if config.distribution == "mirrored":
        return tf.distribute.MirroredStrategy()
    if config.distribution == "multi_worker_mirrored":
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the chief, the one worker that writes the results.

    The chief is the task ``chief`` of the cluster, or worker 0 of a cluster without such a
    task. In a training with a single process, that process is the chief.
    """
    resolver = strategy.cluster_resolver
    if resolver is None or not resolver.task_type or resolver.task_type == _CHIEF:
        return True
    return int(resolver.task_id or 0) == 0 and _CHIEF not in resolver.cluster_spec().jobs


def worker_directory(strategy: tf.distribute.Strategy, directory: str) -> str:
    """Returns the checkpoint directory of this process.

    All workers must take part in saving a checkpoint, so that each needs a separate
    directory. The chief uses ``directory``, the others use directories beside it.
    """
    if is_chief(strategy):
        return directory
    resolver = strategy.cluster_resolver
    return f"{directory}-{resolver.task_type}-{resolver.task_id}"


def require_accelerators(requested: int) -> None:
    """Stops a training that would run on the CPU although accelerators were requested.

    Args:
      requested: Number of accelerators requested for this process; 0 checks nothing.

    Raises:
      RuntimeError: if accelerators were requested and TensorFlow sees no GPU.
    """
    if not requested or tf.config.list_physical_devices("GPU"):
        return
    seen = ", ".join(device.name for device in tf.config.list_physical_devices())
    raise RuntimeError(
        f"The training was given {requested} accelerator(s) (kubeflow.trainer_gpus): expected "
        f"TensorFlow to see at least one GPU, but it sees only {seen}. Use an image with the CUDA "
        "libraries (docker build --build-arg GPU=1 --file deploy/Dockerfile .) on a node with a "
        "GPU driver, or set kubeflow.trainer_gpus to 0 to train on the CPU."
    )
