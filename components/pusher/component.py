"""AtomicPusher: TFX's Pusher, whose versions appear whole or not at all."""

from tfx.components import Pusher
from tfx.dsl.components.base import executor_spec

from components.pusher import executor


class AtomicPusher(Pusher):
    """Same inputs, outputs and parameters as ``tfx.components.Pusher``."""

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
