"""Configuration of the server."""

from typing import Literal

from pydantic import Field

from contract.config_types import config_dataclass


@config_dataclass
class BatchingConfig:
    """How requests are run.

    Attributes:
      enabled: Merge requests that wait at the same time.
      num_threads: Runs of a model at the same time.
      max_batch_size: Rows of one run, at most; larger requests run alone.
      max_queued_requests: Requests waiting for a thread, at most; those beyond
        are refused with UNAVAILABLE.
      signatures: Signatures whose output rows depend on nothing but the input
        rows of the same position; others are never merged.
      padded_inputs: Two-dimensional inputs that mean the same when rows are padded
        with empty strings, or zeros.
    """

    enabled: bool = True
    num_threads: int = Field(default=2, ge=1)
    max_batch_size: int = Field(default=64, ge=1)
    max_queued_requests: int = Field(default=1000, ge=1)
    signatures: tuple[str, ...] = ("serving_default",)
    padded_inputs: tuple[str, ...] = (
        "history",
        "history_time",
        "exclude",
        "allow_categories",
        "deny_categories",
    )


@config_dataclass
class ServerConfig:
    """Everything that the command line sets.

    Attributes:
      model_base_path: Directory of version directories of ``model_name``.
      model_name: Name of the model in requests.
      model_config_file: TF Serving's ``ModelServerConfig`` text proto, in place
        of the two above: several models, version policies and labels.
      host: Address to listen on.
      rest_port: Port of REST, metrics and demo page; 0 picks a free one.
      grpc_port: Port of gRPC; 0 picks a free one.
      file_system_poll_wait_seconds: Time between two looks at the base paths.
      settle_seconds: How long a version directory must have been unchanged
        before it is loaded.
      max_request_bytes: Largest request body.
      request_timeout_seconds: Longest a request may take, from its first byte.
      drain_seconds: Time for running requests to end when the server stops.
      batching: How requests are run.
      intra_op_threads: TensorFlow threads of one operation; 0 uses all cores.
      inter_op_threads: TensorFlow threads across operations; 0 uses all cores.
      allow_reload: Serve ``HandleReloadConfigRequest``, with which a client can
        make the server load any directory that it can read.
      log_requests: Which requests are logged.
      tls_certificate: PEM chain; TLS on both ports when set.
      tls_key: PEM key of ``tls_certificate``.
      tls_client_ca: PEM; when set, clients must show a certificate it signed.
    """

    model_base_path: str = ""
    model_name: str = "mind"
    model_config_file: str = ""
    host: str = "127.0.0.1"
    rest_port: int = Field(default=8501, ge=0, le=65535)
    grpc_port: int = Field(default=8500, ge=0, le=65535)
    file_system_poll_wait_seconds: float = Field(default=1.0, gt=0.0)
    settle_seconds: float = Field(default=1.0, ge=0.0)
    max_request_bytes: int = Field(default=16 * 2**20, ge=1)
    request_timeout_seconds: float = Field(default=30.0, gt=0.0)
    drain_seconds: float = Field(default=10.0, ge=0.0)
    batching: BatchingConfig = BatchingConfig()
    intra_op_threads: int = Field(default=0, ge=0)
    inter_op_threads: int = Field(default=0, ge=-1)
    allow_reload: bool = False
    log_requests: Literal["none", "errors", "all"] = "errors"
    tls_certificate: str = ""
    tls_key: str = ""
    tls_client_ca: str = ""
