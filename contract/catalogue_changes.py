"""Changes of the catalogue between two pushes: what one says, and how two become one.

The server of a model takes changes and keeps them in a log (``contract.change_log``); item
refresh puts them into a version.
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
# What a mistake sends must not fill the memory of every server.
_MAX_TEXT: Final = 1000  # characters of an id, a title or a value
_MAX_VALUES: Final = 100  # of one feature of one item
_FIELDS: Final = (ID, TITLE, FEATURES, IN_STOCK)

FeatureValue = float | tuple[str, ...]


class ChangeError(UserError):
    """A change that cannot be made as it is written."""


@dataclasses.dataclass(frozen=True)
class Change:
    """What is different of an item from how it was pushed.

    Attributes:
      title: Its title; None is the one that was pushed.
      features: All of its side features by name; None is those that were pushed.
      in_stock: Whether it is found.
      is_removed: Whether it has left the catalogue.
    """

    title: str | None = None
    features: Mapping[str, FeatureValue] | None = None
    in_stock: bool = True
    is_removed: bool = False

    @property
    def is_found(self) -> bool:
        """Whether searches may find it."""
        return self.in_stock and not self.is_removed

    @property
    def needs_slot(self) -> bool:
        """Whether the item is another than the one that was pushed, as far as it is found."""
        return self.title is not None or self.features is not None

    def to_json(self) -> str:
        """Returns the change as a JSON object, without what is as it was pushed."""
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
    """An item that is added, or of which something is changed.

    Attributes:
      title: Its title from now on; None leaves it.
      features: All of its side features from now on; None leaves them.
      in_stock: Whether it is found from now on; None leaves it.
    """

    title: str | None = None
    features: Mapping[str, FeatureValue] | None = None
    in_stock: bool | None = None

    def after(self, before: Change | None) -> Change:
        """Returns what is different of the item once this is done.

        An item that was removed comes back as it was pushed, but for what is said.

        Args:
          before: What was different before; None is nothing.
        """
        if before is None or before.is_removed:
            before = Change()
        return Change(
            before.title if self.title is None else self.title,
            before.features if self.features is None else self.features,
            before.in_stock if self.in_stock is None else self.in_stock,
        )


def item_fields(item_id: str, upsert: Upsert) -> dict[str, Any]:
    """The JSON object that ``parse_item`` reads."""
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
      item: A JSON object: ``id``, and what is to change of ``title``, ``features`` and
        ``in_stock``.
      kinds: Kind of each side feature of the model by its name.

    Returns:
      The item's id and what is said of it.

    Raises:
      ChangeError: it is no such object.
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
    """Returns the id of an item.

    Raises:
      ChangeError: it is no string, empty, or too long.
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
    """Returns a question that names the nearest of ``known``; empty if none is near."""
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]!r}?)" if match else ""


def shown(value: Any) -> str:
    """Returns a value as a message shows it."""
    return repr(value)[:80]
