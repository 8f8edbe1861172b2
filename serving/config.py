"""Configuration of the server: each field is a command-line flag, with its description."""

from typing import Literal

from pydantic import Field

from contract.config_types import config_dataclass
from contract.features import HISTORY, HISTORY_TIME
from contract.histories import DEFAULT_DAYS, DEFAULT_MAX_EVENTS
from contract.signatures import PADDED_INPUTS, SERVE
from contract.sqlite_file import Sync

DEFAULT_MODEL_NAME = "mind"
# TF Serving's ports.
DEFAULT_REST_PORT = 8501
DEFAULT_GRPC_PORT = 8500
DEFAULT_CALLER_KEY_HEADER = "x-caller-key"


@config_dataclass
class BatchingConfig:
    """How requests are batched and run; each field has a description."""

    enabled: bool = Field(
        default=True, description="Merge requests that are waiting at the same time."
    )
    num_threads: int = Field(default=2, ge=1, description="Model runs in parallel.")
    max_batch_size: int = Field(
        default=64, ge=1, description="Most rows of one run; larger requests run alone."
    )
    max_queued_requests: int = Field(
        default=1000,
        ge=1,
        description="Most requests that may wait for a thread. Beyond it, the caller with the most"
        " work in the queue is refused with UNAVAILABLE.",
    )
    max_queued_work: int = Field(
        default=8192,
        ge=1,
        description="Most work that may wait, counted in rows, plus one for every 100 items"
        " requested. Divided by the model's throughput, this is the longest wait.",
    )
    signatures: tuple[str, ...] = Field(
        default=(SERVE,),
        description="Signatures whose output rows depend only on the input rows at the same"
        " position; requests to other signatures are never merged.",
    )
    padded_inputs: tuple[str, ...] = Field(
        default=PADDED_INPUTS,
        description="Two-dimensional inputs whose meaning does not change when rows are padded"
        " with empty strings or zeros.",
    )
    aligned_inputs: tuple[str, ...] = Field(
        default=(HISTORY, HISTORY_TIME),
        description="Padded inputs that must have the same shape as the first of them; the others"
        " may also consist of padding only, in any shape.",
    )


@config_dataclass
class ServerConfig:
    """Everything that the command line sets; each field has a description."""

    model_base_path: str = Field(
        default="", description="Directory that contains the model's version directories."
    )
    model_name: str = Field(
        default=DEFAULT_MODEL_NAME, description="Name of the model in requests."
    )
    model_config_file: str = Field(
        default="",
        description="File with TF Serving's ModelServerConfig as a text proto, instead of the two"
        " flags above: several models, version policies and labels.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names, without port, under which browsers may reach the REST port and"
        " whose pages may send requests. Names of the loopback are always allowed on the loopback;"
        " a server on any other address answers to every host name if this list is empty.",
    )
    rest_api_enable_cors_support: bool = Field(
        default=False,
        description="Add the headers by which browsers let pages of other sites read answers; the"
        " hosts of these pages must be in allowed_hosts.",
    )
    demo: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Serve the demo page and its title search; auto does so on the loopback only.",
    )
    rest_port: int = Field(
        default=DEFAULT_REST_PORT,
        ge=0,
        le=65535,
        description="Port of REST, metrics and demo page; 0 picks a free one.",
    )
    grpc_port: int = Field(
        default=DEFAULT_GRPC_PORT, ge=0, le=65535, description="Port of gRPC; 0 picks a free one."
    )
    caller_key_header: str = Field(
        default=DEFAULT_CALLER_KEY_HEADER,
        min_length=1,
        description="HTTP header, or gRPC metadata key in lower case, whose value decides whether"
        " the stable version or a canary answers a request. It is neither logged nor kept; sampled"
        " requests contain a keyed hash of it.",
    )
    file_system_poll_wait_seconds: float = Field(
        default=1.0, gt=0.0, description="Time between two polls of the base paths."
    )
    settle_seconds: float = Field(
        default=1.0,
        ge=0.0,
        description="How long a version directory must have been unchanged before it is loaded.",
    )
    share_header: str = Field(
        default="",
        description="HTTP header, or gRPC metadata key in lower case, that identifies the callers"
        " among whom the model's time is shared equally, for example the calling service, as set"
        " by a gateway. By default, each connection is a caller of its own.",
    )
    max_requests_under_way: int = Field(
        default=2000,
        ge=1,
        description="Most predict requests that may be read, decoded, queued, run or answered at"
        " the same time; further ones are refused with UNAVAILABLE.",
    )
    max_bytes_under_way: int = Field(
        default=256 * 2**20,
        ge=1,
        description="Most memory that these requests may hold together, as messages and arrays.",
    )
    max_request_bytes: int = Field(
        default=16 * 2**20, ge=1, description="Largest request body, in bytes."
    )
    max_request_rows: int = Field(default=1024, ge=1, description="Most rows of one request.")
    max_answer_items: int = Field(
        default=100_000, ge=1, description="Most items of one answer: rows times the largest k."
    )
    max_request_elements: int = Field(
        default=1_000_000,
        ge=1,
        description="Most elements of all inputs of one request together, by their shapes.",
    )
    max_input_rank: int = Field(
        default=8,
        ge=1,
        le=32,
        description="Most dimensions of one input, which is how deeply lists may be nested.",
    )
    request_timeout_seconds: float = Field(
        default=30.0,
        gt=0.0,
        description="Longest time that a request may take, from its first byte.",
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0.0,
        description="Time that running requests have to finish when the server stops.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that serve the two ports. Each has its own copy of the models, its"
        " own queue and its own limits. Several processes use more cores than one Python process.",
    )
    batching: BatchingConfig = BatchingConfig()
    intra_op_threads: int = Field(
        default=0,
        ge=0,
        description="TensorFlow threads within one operation; 0 uses all cores, divided among the"
        " workers.",
    )
    inter_op_threads: int = Field(
        default=0, ge=-1, description="TensorFlow threads across operations; 0 uses all cores."
    )
    graph_optimization: bool = Field(
        default=True,
        description="Let TensorFlow rewrite the graph of a version when it is loaded: a single"
        " request takes about a tenth less time, a start half as long again.",
    )
    allow_reload: bool = Field(
        default=False,
        description="Serve HandleReloadConfigRequest, with which a client can make the server load"
        " any directory that the server can read.",
    )
    log_requests: Literal["none", "errors", "all"] = Field(
        default="errors",
        description="Which requests are logged; of errors of one kind, a few in ten seconds.",
    )
    log_request_content: bool = Field(
        default=False,
        description="Let the log show values of a request, such as items of a history, in the"
        " reason why it was refused.",
    )
    request_log_sample: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of the rows of answered requests that are written to request_log_dir,"
        " with the values of their inputs; 0 writes none.",
    )
    request_log_dir: str = Field(
        default="",
        description="Directory of the sampled requests, for this server alone; the operator has to"
        " delete them.",
    )
    request_log_max_bytes: int = Field(
        default=100 * 2**20,
        ge=2**20,
        description="Most bytes of all sampled requests together; the oldest are removed.",
    )
    tls_certificate: str = Field(
        default="", description="Certificate chain (PEM); when set, both ports use TLS."
    )
    tls_key: str = Field(default="", description="Private key (PEM) of tls_certificate.")
    tls_client_ca: str = Field(
        default="",
        description="CA certificate (PEM); when set, clients must present one that it signed.",
    )
    auth_token_file: str = Field(
        default="",
        description="File with one bearer token per line; when set, requests must carry one of"
        " them. The file is read again while the server runs, so that tokens can be replaced.",
    )
    live_catalogue: str = Field(
        default="",
        description="Directory of the change logs of the catalogue, or a Redis or Valkey server"
        " that keeps them for several machines (redis://host:port/database?password_file=FILE,"
        " rediss://, unix://); when set, items can be added, changed and removed while the server"
        " runs.",
    )
    live_catalogue_token_file: str = Field(
        default="",
        description="File with one bearer token per line; requests that change the catalogue must"
        " carry one of them instead of one from auth_token_file.",
    )
    live_catalogue_max_items: int = Field(
        default=500_000,
        ge=1,
        description="Most items that may be added or changed since the push; item refresh moves"
        " them into a new version.",
    )
    live_catalogue_poll_seconds: float = Field(
        default=0.2,
        gt=0.0,
        description="Time between two polls of the logs for changes by other servers.",
    )
    history_store: str = Field(
        default="",
        description="Directory of people's histories, or the Redis or Valkey server that keeps"
        " them for several machines (written as for live_catalogue); when set, the server stores"
        " events, and a predict request may send user_id instead of history.",
    )
    history_token_file: str = Field(
        default="",
        description="File with one bearer token per line; requests that send events or erase"
        " people must carry one of them instead of one from auth_token_file.",
    )
    history_days: float = Field(
        default=DEFAULT_DAYS,
        ge=0.0,
        description="Days after which an event is no longer used and is deleted; 0 is never.",
    )
    history_max_events: int = Field(
        default=DEFAULT_MAX_EVENTS,
        ge=1,
        le=10_000,
        description="Events kept for each person; the oldest are dropped.",
    )
    history_sync: Sync = Field(
        default="full",
        description="What an acknowledged event survives: a power failure with full; with normal,"
        " which acknowledges sooner, only the end of the server process.",
    )
    auth_open_metrics: bool = Field(
        default=False, description="Serve metrics without a token; probes never need one."
    )
