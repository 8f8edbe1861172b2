"""AtomicPusher: TFX's Pusher, but each version appears completely or not at all."""

from tfx.components import Pusher
from tfx.dsl.components.base import executor_spec

from components.pusher import executor


class AtomicPusher(Pusher):
    """Pushes a blessed model to a directory with one directory per version.

    It has the inputs, outputs and parameters of ``tfx.components.Pusher``. Inputs:
    ``model`` (Model) and optionally ``model_blessing`` (ModelBlessing) and
    ``infra_blessing`` (InfraBlessing). Output: ``pushed_model`` (PushedModel), whose
    custom properties say whether the model was pushed, where and as which version.
    """

    EXECUTOR_SPEC = executor_spec.ExecutorClassSpec(executor.Executor)
