"""Requests that change a server's catalogue, and the answers to them."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Final

from contract.catalogue_changes import Upsert, item_fields
from contract.server_methods import KEY

# Field of a request; those of an item are in ``contract.catalogue_changes``.
ITEMS: Final = "items"


@dataclasses.dataclass(frozen=True)
class CatalogueChanged:
    """The answer to a request for changes.

    Attributes:
      position: Position in the log up to which the log contains the request's changes.
      items: Number of items that the request names.
      repeated: Whether a request with the same key was carried out before.
      without_vector: The first of the request's items that searches cannot find, because none
        of their features was seen in training.
      items_without_vector: Number of all such items.
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
      position: Position of the last change that the version in service has applied.
      folded: Position of the last change that was built into the version when it was pushed.
      pushed_items: Number of items that the pushed index finds.
      live_items: Number of items that were added or changed since the push.
      replaced_items: Number of pushed items that are no longer found as they were pushed.
      items_without_vector: Number of changed items that searches cannot find.
      features: The kind of each side feature, by name.
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
    """Returns the request that adds or changes items.

    Args:
      items: The changes by item id.
      key: Makes it safe to send the request again; empty for no key.
    """
    listed = [item_fields(item_id, upsert) for item_id, upsert in items.items()]
    return {ITEMS: listed, **({KEY: key} if key else {})}


def remove_fields(item_ids: Sequence[str], key: str) -> dict[str, Any]:
    """Returns the request that removes items; see ``upsert_fields``."""
    return {ITEMS: list(item_ids), **({KEY: key} if key else {})}
