"""Configuration of Kubeflow runs: locations, environment, and resources of each step."""

from pydantic import Field

from contract.config_types import config_dataclass


@config_dataclass
class StepConfig:
    """Resources that one step requests; 0 leaves the decision to the cluster.

    Attributes:
      cpu: CPU limit and request, in cores.
      memory_gb: Memory limit and request, in gigabytes (10^9 bytes).
      retries: How many times a failed step is restarted.
      retry_backoff_seconds: Pause before the first retry; it doubles each time.
      retry_within_hours: Limit for all attempts of the step together, counted from the start of the
        first; Argo then ends the step even while an attempt is running. It must be longer than the
        longest run of the step. Only steps with retries have this limit.
      cache: Whether equal inputs, parameters, code and image reuse the outputs of an earlier run.
        The steps last-pushed and pusher never do, because they inspect what is pushed.
    """

    cpu: float = Field(default=0.0, ge=0.0)
    memory_gb: float = Field(default=0.0, ge=0.0)
    retries: int = Field(default=0, ge=0)
    retry_backoff_seconds: int = Field(default=60, ge=0)
    retry_within_hours: float = Field(default=168.0, gt=0.0)
    cache: bool = True


@config_dataclass
class ObjectStoreConfig:
    """How steps access ``s3://`` themselves; not used with ``gs://``.

    Attributes:
      endpoint: URL of the store, or ``aws`` for Amazon's own. If it is empty, each step uses the
        store that Kubeflow itself uses, whose name depends on Kubeflow's version
        (``pipeline.kubeflow.object_store``).
      region: Region of the store.
      secret: Kubernetes secret with the credentials, in the namespace of the run; empty leaves the
        credentials to the service account.
      access_key: Key in the secret that holds the access key id.
      secret_key: Key in the secret that holds the secret access key.
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
      mount_path: Path at which steps see it.
    """

    claim: str = Field(min_length=1)
    mount_path: str = Field(min_length=1, pattern="^/")


# For a catalogue of about 10^5 items. Steps that read the outside world are not cached, because a
# cluster's cache sees only the names of files, not their contents.
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
      pipeline_root: Root of all artifacts: ``minio://``, ``s3://`` or ``gs://``.
      storage_root: Root of data that outlives a run and is not an artifact: pushed models (unless
        ``push.destination`` is set), checkpoints, rejected rows. Steps write it themselves, so it
        must be ``s3://``, ``gs://`` or a mounted path. Empty means ``PIPELINE_ROOT/storage``, with
        ``minio://`` replaced by ``s3://``.
      beam_args: Beam pipeline options.
      remote_artifacts: Whether steps open artifacts in the store instead of the copy that Kubeflow
        makes in the pod. Required if Beam's workers run elsewhere (Flink, Spark, Dataflow); Vertex
        AI always does this.
      trainer_gpus: Number of accelerators for steps that train; other steps get none.
      gpu_type: ``nvidia.com/gpu`` on Kubernetes, ``NVIDIA_TESLA_T4`` and the like on Vertex AI.
      env: Environment variables of every step.
      object_store: How steps access ``s3://``.
      volumes: Claims mounted into every step.
      default_step: Resources of steps that neither ``steps`` nor the defaults list.
      steps: Resources by node id; an entry replaces all of the step's defaults.
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
        """Returns the resources that the step ``node_id`` requests."""
        return {**DEFAULT_STEPS, **self.steps}.get(node_id, self.default_step)
