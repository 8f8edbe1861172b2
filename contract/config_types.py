"""The one place that defines what a configuration dataclass is.

Configuration classes live beside the code they configure. They are frozen
pydantic dataclasses: constructing one validates types and ranges, unknown keys
are refused, and they turn into JSON and back (TFX carries parameters as JSON).
"""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeVar

import pydantic
from pydantic.dataclasses import dataclass as _pydantic_dataclass
from typing_extensions import dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(pydantic.Field,))
def config_dataclass(cls: type[T]) -> type[T]:
    """Makes ``cls`` a frozen, keyword-only, strictly validated dataclass."""
    config = pydantic.ConfigDict(extra="forbid", strict=True, validate_default=True)
    return _pydantic_dataclass(frozen=True, kw_only=True, config=config)(cls)  # type: ignore[return-value]


def to_dict(config: Any) -> dict[str, Any]:
    """Returns ``config`` as plain JSON types (tuples become lists)."""
    return pydantic.TypeAdapter(type(config)).dump_python(config, mode="json")


def to_json(config: Any) -> str:
    """Returns ``config`` as canonical JSON: equal configs give equal strings."""
    return json.dumps(to_dict(config), sort_keys=True)


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Builds a ``cls`` from plain JSON types.

    Raises:
      pydantic.ValidationError: on an unknown key, a wrong type or a value out
        of range; ``pipeline.config`` turns it into a message for the user.
    """
    return from_json(cls, json.dumps(values))


def from_json(cls: type[T], text: str) -> T:
    """Builds a ``cls`` from the JSON that ``to_json`` wrote."""
    return pydantic.TypeAdapter(cls).validate_json(text, strict=True)


def strict_json(value: Any, *, indent: int | None = None) -> str:
    """Returns JSON that every parser accepts: infinities and NaN become strings.

    It is meant for files that other programs read; ``to_json`` keeps such values as numbers.
    """
    return json.dumps(_named(value), sort_keys=True, indent=indent, ensure_ascii=False)


def _named(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _named(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_named(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
