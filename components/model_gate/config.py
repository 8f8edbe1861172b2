"""Limits of the guard rails on models."""

from pydantic import Field

from contract.config_types import config_dataclass
from contract.guard_rails import GuardRailsBase


@config_dataclass
class ModelRailsConfig(GuardRailsBase):
    """Limits for how much worse than others a model may be, and how similar its answers may be.

    The first five rails compare the primary metric of the model with that of another model on
    the same people. Such a rail trips if the 95 % interval of the paired difference lies entirely
    below minus the limit.

    Attributes:
      worse_than_pushed: Compares with the model in service.
        ``evaluation.max_drop_from_pushed`` limits the difference itself, however uncertain it is.
      worse_than_item_knn: Compares with item-kNN.
      worse_than_recent_1d: Compares with popularity on the last day of train.
      worse_than_recent_7d: Compares with popularity in the last seven days of train.
      worse_than_personal_frequency: Compares with what each person has had most often; only if
        the history is among the candidates.
      distinct_lists: Smallest allowed number of different items recommended to anybody, as a
        multiple of the length of one list. The figure is 1 if everybody gets the same list.
      concentration: Largest allowed share of all recommendations that goes to the most
        recommended hundredth of the catalogue.
      interest_cosine: Largest allowed mean cosine between a person's interests, in the weights
        that the training chose; models with one interest are not checked.
      stop: Rails that keep the model from being pushed; by default ``worse_than_pushed``
        and ``distinct_lists``.
      warn: Rails that only warn; by default all others.
      off: Rails that are not checked.
    """

    warn_by_default = (
        "worse_than_item_knn",
        "worse_than_recent_1d",
        "worse_than_recent_7d",
        "worse_than_personal_frequency",
        "concentration",
        "interest_cosine",
    )

    worse_than_pushed: float = Field(default=0.005, ge=0.0)
    worse_than_item_knn: float = Field(default=0.0, ge=0.0)
    worse_than_recent_1d: float = Field(default=0.0, ge=0.0)
    worse_than_recent_7d: float = Field(default=0.0, ge=0.0)
    worse_than_personal_frequency: float = Field(default=0.0, ge=0.0)
    distinct_lists: float = Field(default=1.5, ge=0.0)
    concentration: float = Field(default=0.5, ge=0.0, le=1.0)
    interest_cosine: float = Field(default=0.99, ge=-1.0, le=1.0)
