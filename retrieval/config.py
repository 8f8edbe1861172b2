"""Configuration of the index and of its validation."""

from typing import Literal

from pydantic import Field

from contract.config_types import config_dataclass
from contract.signatures import DEFAULT_EXCLUDE_HISTORY, DEFAULT_K


@config_dataclass
class IndexConfig:
    """Settings of the index, of its validation and of requests.

    Attributes:
      kind: ``exact`` (plain TensorFlow ops, runs on a stock TF Serving),
        ``scann`` (needs ScaNN ops) or ``auto`` (exact below
        ``exact_below_items``).
      exact_below_items: Catalogue size from which ``auto`` means ScaNN.
      tree_from_items: Catalogue size from which ScaNN partitions the items
        into leaves instead of scoring the hash of every item.
      recall_target: Share of the exact top ``recall_k`` that the index must
        find, measured with real people's interest vectors.
      recall_k: Depth at which recall is measured. A smaller catalogue, or a smaller
        ``max_k``, lowers it.
      max_merge_loss: How much recall may be lost by searching a person's similar interests
        together (ScaNN only), as an upper bound with 95 % confidence; 0 searches every
        interest on its own.
      num_queries: Number of people sampled for tuning, and the same number of other people
        for validation.
      default_k: Items returned when a request does not give ``k``.
      max_k: The largest ``k`` that a request may ask for.
      exclude_history: Whether the answer leaves out the items of the request's own
        history, unless the request says otherwise.
      over_fetch: Number of candidates per requested item from which a diversified
        answer is chosen.
      live_catalogue: Whether a server may change the catalogue of a pushed version. The
        additional graph makes a version take half as long again to load.
      filters: Side features of the items by which requests can filter, in addition to
        the categories: a categorical feature by lists of values, a numeric one by bounds.
      max_latency_ms: The validator refuses an index whose p99 latency for single
        requests is above this many milliseconds; 0 disables the check.
    """

    kind: Literal["auto", "exact", "scann"] = "scann"
    exact_below_items: int = Field(default=20_000, ge=0)
    tree_from_items: int = Field(default=100_000, ge=1000)
    recall_target: float = Field(default=0.98, gt=0.0, le=1.0)
    recall_k: int = Field(default=100, ge=1)
    max_merge_loss: float = Field(default=0.005, ge=0.0, lt=1.0)
    num_queries: int = Field(default=500, ge=1)
    default_k: int = Field(default=DEFAULT_K, ge=1)
    max_k: int = Field(default=1000, ge=1)
    exclude_history: bool = DEFAULT_EXCLUDE_HISTORY
    over_fetch: int = Field(default=4, ge=1)
    filters: tuple[str, ...] = ()
    live_catalogue: bool = False
    max_latency_ms: float = Field(default=0.0, ge=0.0)

    def __post_init__(self) -> None:
        if len(set(self.filters)) < len(self.filters):
            raise ValueError(f"filters must name each feature once, got {list(self.filters)}")
        if self.default_k > self.max_k:
            raise ValueError(
                f"default_k ({self.default_k}) must not be above max_k ({self.max_k}), the largest "
                "k that is served"
            )
