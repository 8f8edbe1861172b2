"""Configuration of the server: each field is a flag, with its description."""

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
    """How requests are run; the fields describe themselves."""

    enabled: bool = Field(default=True, description="Merge requests that wait at the same time.")
    num_threads: int = Field(default=2, ge=1, description="Runs of a model at the same time.")
    max_batch_size: int = Field(
        default=64, ge=1, description="Rows of one run, at most; larger requests run alone."
    )
    max_queued_requests: int = Field(
        default=1000,
        ge=1,
        description="Requests waiting for a thread, at most. Beyond it, the caller with the most"
        " work in the queue is refused with UNAVAILABLE.",
    )
    max_queued_work: int = Field(
        default=8192,
        ge=1,
        description="Work that waits, at most: rows, and one more for every 100 items asked for."
        " At the rate of the model, this is the longest wait.",
    )
    signatures: tuple[str, ...] = Field(
        default=(SERVE,),
        description="Signatures whose output rows depend on nothing but the input rows of the"
        " same position; others are never merged.",
    )
    padded_inputs: tuple[str, ...] = Field(
        default=PADDED_INPUTS,
        description="Two-dimensional inputs that mean the same when rows are padded with empty"
        " strings, or zeros.",
    )
    aligned_inputs: tuple[str, ...] = Field(
        default=(HISTORY, HISTORY_TIME),
        description="Padded inputs that must have the shape of the first of them; the others may"
        " also be padding only, of any shape.",
    )


@config_dataclass
class ServerConfig:
    """Everything that the command line sets; the fields describe themselves."""

    model_base_path: str = Field(
        default="", description="Directory of version directories of the model."
    )
    model_name: str = Field(
        default=DEFAULT_MODEL_NAME, description="Name of the model in requests."
    )
    model_config_file: str = Field(
        default="",
        description="TF Serving's ModelServerConfig text proto, in place of the two above: several"
        " models, version policies and labels.",
    )
    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    allowed_hosts: tuple[str, ...] = Field(
        default=(),
        description="Host names, without port, under which browsers may reach the REST port and"
        " whose pages may send requests. The loopback's are always allowed on the loopback; a"
        " server that listens beyond it answers to any host if none is named.",
    )
    rest_api_enable_cors_support: bool = Field(
        default=False,
        description="Add the headers by which browsers let pages of other sites read answers; the"
        " hosts of these pages must be among allowed_hosts.",
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
        description="HTTP header, or gRPC metadata key in lower case, by whose value requests are"
        " split between the stable version and a canary. It is neither logged nor kept; sampled"
        " requests have a keyed hash of it.",
    )
    file_system_poll_wait_seconds: float = Field(
        default=1.0, gt=0.0, description="Time between two looks at the base paths."
    )
    settle_seconds: float = Field(
        default=1.0,
        ge=0.0,
        description="How long a version directory must have been unchanged before it is loaded.",
    )
    share_header: str = Field(
        default="",
        description="HTTP header, or gRPC metadata key in lower case, that names whoever is to have"
        " an equal share of the model's time: the calling service, for example, as a gateway sets"
        " it. By default each connection has one.",
    )
    max_requests_under_way: int = Field(
        default=2000,
        ge=1,
        description="Predict requests that are read, decoded, queued, run or answered at the same"
        " time, at most; those beyond are refused with UNAVAILABLE.",
    )
    max_bytes_under_way: int = Field(
        default=256 * 2**20,
        ge=1,
        description="Memory that these requests hold together, at most, as messages and arrays.",
    )
    max_request_bytes: int = Field(default=16 * 2**20, ge=1, description="Largest request body.")
    max_request_rows: int = Field(default=1024, ge=1, description="Rows of one request, at most.")
    max_answer_items: int = Field(
        default=100_000, ge=1, description="Rows of one request times its largest k, at most."
    )
    max_request_elements: int = Field(
        default=1_000_000,
        ge=1,
        description="Elements of all inputs of one request, at most, as their shapes say.",
    )
    max_input_rank: int = Field(
        default=8,
        ge=1,
        le=32,
        description="Dimensions of one input, at most: how deep lists may be nested.",
    )
    request_timeout_seconds: float = Field(
        default=30.0, gt=0.0, description="Longest a request may take, from its first byte."
    )
    drain_seconds: float = Field(
        default=10.0,
        ge=0.0,
        description="Time for running requests to end when the server stops.",
    )
    workers: int = Field(
        default=1,
        ge=1,
        le=256,
        description="Processes that serve behind the two ports. Each has the models, the queue and"
        " all limits for itself; more than one use more cores than Python does in one.",
    )
    batching: BatchingConfig = BatchingConfig()
    intra_op_threads: int = Field(
        default=0,
        ge=0,
        description="TensorFlow threads of one operation; 0 uses all cores, shared out among the"
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
        " any directory that it can read.",
    )
    log_requests: Literal["none", "errors", "all"] = Field(
        default="errors",
        description="Which requests are logged; of errors of one kind, a few per ten seconds.",
    )
    log_request_content: bool = Field(
        default=False,
        description="Let the log repeat values of a request, such as items of a history, in the"
        " reason why it was refused.",
    )
    request_log_sample: float = Field(
        default=0.0,
        ge=0.0,
        le=1.0,
        description="Share of the rows of answered requests that are written, with the values of"
        " their inputs, to request_log_dir; 0 is none.",
    )
    request_log_dir: str = Field(
        default="",
        description="Directory of the sampled requests, of this server alone; its owner is to"
        " delete them.",
    )
    request_log_max_bytes: int = Field(
        default=100 * 2**20,
        ge=2**20,
        description="Size of all sampled requests, at most; the oldest are removed.",
    )
    tls_certificate: str = Field(default="", description="PEM chain; TLS on both ports when set.")
    tls_key: str = Field(default="", description="PEM key of tls_certificate.")
    tls_client_ca: str = Field(
        default="", description="PEM; when set, clients must show a certificate it signed."
    )
    auth_token_file: str = Field(
        default="",
        description="File with one bearer token per line; when set, requests must carry one of"
        " them. It is read again while the server runs, so that tokens can be replaced.",
    )
    live_catalogue: str = Field(
        default="",
        description="Directory of the logs of changes of the catalogue, or a Redis or Valkey server"
        " that has them for several machines (redis://host:port/database?password_file=FILE,"
        " rediss://, unix://); when set, items can be added, changed and removed while the server"
        " runs.",
    )
    live_catalogue_token_file: str = Field(
        default="",
        description="File with one bearer token per line; whoever changes the catalogue must send"
        " one of them, and not one of auth_token_file.",
    )
    live_catalogue_max_items: int = Field(
        default=500_000,
        ge=1,
        description="Items added or changed since the push, at most; item refresh puts them into a"
        " version.",
    )
    live_catalogue_poll_seconds: float = Field(
        default=0.2,
        gt=0.0,
        description="Time between two looks at what other servers have written to the logs.",
    )
    history_store: str = Field(
        default="",
        description="Directory of the histories of people, or the Redis or Valkey server that has"
        " them for several machines (as of live_catalogue); when set, the server keeps events, and"
        " a predict request may have user_id in place of history.",
    )
    history_token_file: str = Field(
        default="",
        description="File with one bearer token per line; whoever sends events or erases people"
        " must send one of them, and not one of auth_token_file.",
    )
    history_days: float = Field(
        default=DEFAULT_DAYS,
        ge=0.0,
        description="Days after which an event is neither answered with nor kept; 0 is never.",
    )
    history_max_events: int = Field(
        default=DEFAULT_MAX_EVENTS,
        ge=1,
        le=10_000,
        description="Events kept of a person, the newest ones.",
    )
    history_sync: Sync = Field(
        default="full",
        description="With full, an event that is acknowledged survives a loss of power; with"
        " normal, it survives the end of the server, and is acknowledged sooner.",
    )
    auth_open_metrics: bool = Field(
        default=False, description="Show metrics without a token; probes never need one."
    )
