"""Configuration of Kubeflow runs: places, environment and what each step needs."""

from pydantic import Field

from contract.config_types import config_dataclass


@config_dataclass
class StepConfig:
    """What one step asks of the cluster; 0 leaves it to the cluster.

    Attributes:
      cpu: CPU limit and request, in cores.
      memory_gb: Memory limit and request, in gigabytes (10^9 bytes).
      retries: How often a failed step is started again.
      retry_backoff_seconds: Wait before the first retry; it doubles each time.
      retry_within_hours: All attempts of the step together may take this long, counted
        from the start of the first; Argo then ends the step even while an attempt
        runs. It has to be longer than the longest run of the step. Only steps with
        retries have this limit.
      cache: Whether equal inputs, parameters, code and image reuse the outputs
        of an earlier run. The steps last-pushed and pusher never do: they look at
        what is pushed.
    """

    cpu: float = Field(default=0.0, ge=0.0)
    memory_gb: float = Field(default=0.0, ge=0.0)
    retries: int = Field(default=0, ge=0)
    retry_backoff_seconds: int = Field(default=60, ge=0)
    retry_within_hours: float = Field(default=168.0, gt=0.0)
    cache: bool = True


@config_dataclass
class ObjectStoreConfig:
    """How steps reach ``s3://`` themselves; not used with ``gs://``.

    Attributes:
      endpoint: URL of the store, or ``aws`` for Amazon's own. Empty: each step takes
        the store that Kubeflow itself uses, whose name depends on its version
        (``pipeline.kubeflow.object_store``).
      region: Its region.
      secret: Kubernetes secret that holds the credentials, in the namespace of
        the run; empty leaves them to the service account.
      access_key: Key of the access key id in the secret.
      secret_key: Key of the secret access key in the secret.
    """

    endpoint: str = Field(default="", pattern="^(|aws|https?://.+)$")
    region: str = "us-east-1"
    secret: str = "mlpipeline-minio-artifact"
    access_key: str = "accesskey"
    secret_key: str = "secretkey"


@config_dataclass
class VolumeConfig:
    """A persistent volume claim mounted into every step.

    Attributes:
      claim: Name of the claim.
      mount_path: Where steps see it.
    """

    claim: str = Field(min_length=1)
    mount_path: str = Field(min_length=1, pattern="^/")


# For a catalogue of some 10^5 items. What reads the outside world is not cached:
# a cluster's cache sees the names of files, not what is in them.
DEFAULT_STEPS = {
    "example-gen": StepConfig(cpu=4.0, memory_gb=8.0, retries=1, cache=False),
    "transform": StepConfig(cpu=4.0, memory_gb=8.0, retries=1),
    "trainer": StepConfig(cpu=8.0, memory_gb=32.0, retries=2),
    "final-trainer": StepConfig(cpu=8.0, memory_gb=32.0, retries=2),
    "final-evaluator": StepConfig(cpu=4.0, memory_gb=16.0, retries=1),
    "last-pushed": StepConfig(cpu=1.0, memory_gb=4.0, retries=1, cache=False),
    "evaluator": StepConfig(cpu=4.0, memory_gb=16.0, retries=1),
    "index-builder": StepConfig(cpu=4.0, memory_gb=16.0, retries=1),
    "index-validator": StepConfig(cpu=4.0, memory_gb=16.0, retries=1),
    "pusher": StepConfig(cpu=1.0, memory_gb=4.0, retries=1, cache=False),
}


@config_dataclass
class KubeflowConfig:
    """How the pipeline runs on Kubeflow Pipelines 2 or Vertex AI.

    The defaults suit Kubeflow Pipelines with the object store that it installs.

    Attributes:
      pipeline_root: Where artifacts go: ``minio://``, ``s3://`` or ``gs://``.
      storage_root: What outlives a run and is no artifact goes below it: pushed
        models (unless ``push.destination`` is set), checkpoints, rejected rows.
        Steps write it themselves: ``s3://``, ``gs://`` or a mounted path. Empty
        is ``PIPELINE_ROOT/storage``, with ``minio://`` read as ``s3://``.
      beam_args: Beam pipeline options.
      remote_artifacts: Steps open artifacts in the store rather than the copy
        that Kubeflow makes in the pod. Needed when Beam's workers are elsewhere
        (Flink, Spark, Dataflow); Vertex AI always does.
      trainer_gpus: Accelerators of the steps that train; no other step gets any.
      gpu_type: ``nvidia.com/gpu`` on Kubernetes, ``NVIDIA_TESLA_T4`` and the
        like on Vertex AI.
      env: Environment variables of every step.
      object_store: How steps reach ``s3://``.
      volumes: Claims mounted into every step.
      default_step: Steps that neither ``steps`` nor the defaults name.
      steps: By node id; each replaces the step's default whole.
    """

    pipeline_root: str = Field(
        default="minio://mlpipeline/v2/artifacts", pattern="^(minio|s3|gs)://.+"
    )
    storage_root: str = ""
    beam_args: tuple[str, ...] = ()
    remote_artifacts: bool = False
    trainer_gpus: int = Field(default=0, ge=0)
    gpu_type: str = "nvidia.com/gpu"
    env: dict[str, str] = Field(default_factory=dict)
    object_store: ObjectStoreConfig = ObjectStoreConfig()
    volumes: tuple[VolumeConfig, ...] = ()
    default_step: StepConfig = StepConfig(cpu=1.0, memory_gb=4.0, retries=1)
    steps: dict[str, StepConfig] = Field(default_factory=dict)

    def step(self, node_id: str) -> StepConfig:
        """What the step ``node_id`` asks for."""
        return {**DEFAULT_STEPS, **self.steps}.get(node_id, self.default_step)
