"""Changes of the catalogue between two pushes: their fields, and how to combine them.

The server of a model accepts changes and keeps them in a log (``contract.change_log``); item
refresh builds them into a version.
"""

import dataclasses
import difflib
import json
import math
from collections.abc import Collection, Mapping
from typing import Any, Final

from contract.errors import UserError

CATEGORICAL: Final = "categorical"
NUMERIC: Final = "numeric"

ID: Final = "id"
TITLE: Final = "title"
FEATURES: Final = "features"
IN_STOCK: Final = "in_stock"
_REMOVED: Final = "removed"
# Limits that keep a faulty request from filling the memory of every server.
_MAX_TEXT: Final = 1000  # characters of an id, a title or a value
_MAX_VALUES: Final = 100  # of one feature of one item
_FIELDS: Final = (ID, TITLE, FEATURES, IN_STOCK)

FeatureValue = float | tuple[str, ...]


class ChangeError(UserError):
    """A request for a change that is not valid."""


@dataclasses.dataclass(frozen=True)
class Change:
    """The difference between an item now and the item as it was pushed.

    Attributes:
      title: The new title; None keeps the pushed one.
      features: All side features by name; None keeps the pushed ones.
      in_stock: Whether the item is in stock; searches leave out items that are not.
      is_removed: Whether the item has been removed from the catalogue.
    """

    title: str | None = None
    features: Mapping[str, FeatureValue] | None = None
    in_stock: bool = True
    is_removed: bool = False

    @property
    def is_found(self) -> bool:
        """Whether searches may find the item."""
        return self.in_stock and not self.is_removed

    @property
    def needs_slot(self) -> bool:
        """Whether the title or the features differ from those of the pushed item."""
        return self.title is not None or self.features is not None

    def to_json(self) -> str:
        """Returns the change as a JSON object that holds only what differs from the push."""
        fields: dict[str, Any] = {}
        if self.title is not None:
            fields[TITLE] = self.title
        if self.features is not None:
            fields[FEATURES] = dict(self.features)
        if not self.in_stock:
            fields[IN_STOCK] = False
        if self.is_removed:
            fields[_REMOVED] = True
        return json.dumps(fields, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Change":
        """Reads what ``to_json`` wrote."""
        fields = json.loads(text)
        features = fields.get(FEATURES)
        if features is not None:
            features = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in features.items()
            }
        return cls(
            fields.get(TITLE), features, fields.get(IN_STOCK, True), fields.get(_REMOVED, False)
        )


REMOVAL: Final = Change(is_removed=True)


@dataclasses.dataclass(frozen=True)
class Upsert:
    """A request to add an item or to change an existing one.

    Attributes:
      title: The new title; None leaves it unchanged.
      features: All side features by name; None leaves them unchanged.
      in_stock: Whether the item is in stock; None leaves this unchanged.
    """

    title: str | None = None
    features: Mapping[str, FeatureValue] | None = None
    in_stock: bool | None = None

    def after(self, before: Change | None) -> Change:
        """Returns the item's change after this request.

        A removed item comes back as it was pushed, apart from the fields set here.

        Args:
          before: The item's change so far; None if the item is as it was pushed.
        """
        if before is None or before.is_removed:
            before = Change()
        return Change(
            before.title if self.title is None else self.title,
            before.features if self.features is None else self.features,
            before.in_stock if self.in_stock is None else self.in_stock,
        )


def item_fields(item_id: str, upsert: Upsert) -> dict[str, Any]:
    """Returns the JSON object that ``parse_item`` reads."""
    fields: dict[str, Any] = {ID: item_id}
    if upsert.title is not None:
        fields[TITLE] = upsert.title
    if upsert.features is not None:
        fields[FEATURES] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in upsert.features.items()
        }
    if upsert.in_stock is not None:
        fields[IN_STOCK] = upsert.in_stock
    return fields


def parse_item(item: Any, kinds: Mapping[str, str]) -> tuple[str, Upsert]:
    """Reads an item of a request.

    Args:
      item: A JSON object with ``id`` and any of ``title``, ``features`` and ``in_stock``.
      kinds: The kind of each of the model's side features, by name.

    Returns:
      The item's id and the request for it.

    Raises:
      ChangeError: if ``item`` is not such an object.
    """
    if not isinstance(item, Mapping):
        raise ChangeError(f"An item must be a JSON object with {ID!r}, got {shown(item)}")
    for name in item:
        if name not in _FIELDS:
            raise ChangeError(
                f"An item has no field {name!r}{nearest_hint(name, _FIELDS)}; the fields are"
                f" {', '.join(_FIELDS)}"
            )
    item_id = parse_id(item.get(ID))
    title, features, in_stock = (item.get(name) for name in (TITLE, FEATURES, IN_STOCK))
    if title is not None and not (isinstance(title, str) and len(title) <= _MAX_TEXT):
        raise ChangeError(
            f"{TITLE} of item {item_id!r} must be a string of at most {_MAX_TEXT} characters, got"
            f" {shown(title)}"
        )
    if in_stock is not None and not isinstance(in_stock, bool):
        raise ChangeError(
            f"{IN_STOCK} of item {item_id!r} must be true or false, got {shown(in_stock)}"
        )
    if features is not None and not isinstance(features, Mapping):
        raise ChangeError(
            f"{FEATURES} of item {item_id!r} must be a JSON object, got {shown(features)}"
        )
    if features is not None:
        features = {
            name: _value(item_id, name, value, kinds)
            for name, value in features.items()
            if value is not None
        }
    return item_id, Upsert(title, features, in_stock)


def parse_id(value: Any) -> str:
    """Checks and returns the id of an item.

    Raises:
      ChangeError: if the id is not a string, is empty or is too long.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        raise ChangeError(
            f"The id of an item must be a string of 1 to {_MAX_TEXT} characters, got {shown(value)}"
        )
    return value


def _value(item_id: str, name: str, value: Any, kinds: Mapping[str, str]) -> FeatureValue:
    if name not in kinds:
        known = f"it has {', '.join(sorted(kinds))}" if kinds else "it has none"
        raise ChangeError(
            f"The model has no side feature {name!r}{nearest_hint(name, kinds)}; {known}"
            f" (item {item_id!r})"
        )
    if kinds[name] == NUMERIC:
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise ChangeError(
                f"Feature {name!r} of item {item_id!r} must be a finite number, got {shown(value)}"
            )
        return float(value)
    values = value if isinstance(value, list | tuple) else [value]
    is_text = all(isinstance(one, str) and 0 < len(one) <= _MAX_TEXT for one in values)
    if not is_text or len(values) > _MAX_VALUES:
        raise ChangeError(
            f"Feature {name!r} of item {item_id!r} must be a string, or a list of at most"
            f" {_MAX_VALUES}, each of 1 to {_MAX_TEXT} characters; got {shown(value)}"
        )
    return tuple(values)


def nearest_hint(name: str, known: Collection[str]) -> str:
    """Returns a "did you mean" hint with the closest name in ``known``, or an empty string."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def shown(value: Any) -> str:
    """Returns the ``repr`` of a value, cut to the length that messages show."""
    return repr(value)[:80]
