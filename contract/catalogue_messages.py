"""Messages by which the catalogue of a server is changed: what is asked, and what is answered."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from contract.catalogue_changes import Upsert, item_fields

# Methods: parts of the path of REST. Without one, the path tells the status.
UPSERT: Final = "upsert"
REMOVE: Final = "remove"
CATALOGUE_PATH: Final = "/v1/models/{name}/items"

# Fields of a request; those of an item are in ``contract.catalogue_changes``.
ITEMS: Final = "items"
KEY: Final = "key"
MODEL: Final = "model"  # over gRPC only


@dataclasses.dataclass(frozen=True)
class CatalogueChanged:
    """The answer to a request for changes.

    Attributes:
      position: Of the log, at which it is contained.
      items: Items that the request names.
      repeated: Whether a request of the same key was carried out before.
      without_vector: The first of its items that cannot be found, because the training knows none
        of their features.
      items_without_vector: How many there are.
    """

    position: int
    items: int
    repeated: bool
    without_vector: Sequence[str]
    items_without_vector: int

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "CatalogueChanged":
        """Reads an answer; over gRPC, every number is a float."""
        return cls(
            int(fields["position"]),
            int(fields["items"]),
            bool(fields["repeated"]),
            list(fields["without_vector"]),
            int(fields["items_without_vector"]),
        )


@dataclasses.dataclass(frozen=True)
class CatalogueStatus:
    """How much of the catalogue has changed.

    Attributes:
      position: Of the last change that the version in service has.
      folded: Of the last one that the version was pushed with.
      pushed_items: Items that the pushed index finds.
      live_items: Items that were added or changed since.
      replaced_items: Pushed items that are not found as they were pushed.
      items_without_vector: Items of the changes that cannot be found.
      features: Kind of each side feature by its name.
    """

    position: int
    folded: int
    pushed_items: int
    live_items: int
    replaced_items: int
    items_without_vector: int
    features: Mapping[str, str]

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> "CatalogueStatus":
        """Reads an answer; over gRPC, every number is a float."""
        return cls(
            int(fields["position"]),
            int(fields["folded"]),
            int(fields["pushed_items"]),
            int(fields["live_items"]),
            int(fields["replaced_items"]),
            int(fields["items_without_vector"]),
            dict(fields["features"]),
        )


def upsert_fields(items: Mapping[str, Upsert], key: str) -> dict[str, Any]:
    """The request that adds or changes items.

    Args:
      items: What is to be changed, by id.
      key: Makes it safe to send the request again; empty is none.
    """
    listed = [item_fields(item_id, upsert) for item_id, upsert in items.items()]
    return {ITEMS: listed, **({KEY: key} if key else {})}


def remove_fields(item_ids: Sequence[str], key: str) -> dict[str, Any]:
    """The request that removes items; see ``upsert_fields``."""
    return {ITEMS: list(item_ids), **({KEY: key} if key else {})}
