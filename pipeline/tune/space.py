"""The settings that a tuning may change: a search space in YAML, checked against the run."""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from contract.config_types import config_dataclass, to_dict
from pipeline import config as config_lib
from pipeline.config import ConfigError, RunConfig

# Only these sections describe how a model is made; the others describe its data, its evaluation and
# its destination.
_SECTIONS = ("model", "training")
# Keys that must be the same in all trials, and why.
_FIXED = {
    **dict.fromkeys(
        ("training.eval_cutoff", "training.eval_exclude_history", "training.eval_max_users"),
        "it defines the metric by which trials are compared",
    ),
    "training.eval_every_steps": "trials are compared at the same steps",
    "training.seed": "the best of several seeds is luck, not a better recipe",
    "training.max_seconds": "how far a training gets in a given time depends on the machine",
    "training.checkpoint_every_steps": "it does not change the model",
    "training.distribution": "it does not change the model",
    "training.warm_start": "trials train from nothing",
    "training.try_one_interest": "list choices for model.num_interests that include 1",
    "training.train_on_all": "trials are evaluated on the events that it would train on",
}


@config_dataclass
class ParameterConfig:
    """The values of one key of the configuration: a range or a list.

    Attributes:
      low: Smallest value of a number.
      high: Largest value.
      log: Whether to search the logarithm: for values whose ratio matters, not their difference.
      choices: The values themselves, of any type.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        if self.choices:
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("expected either 'choices' or 'low' and 'high', received both")
            return
        if self.low is None or self.high is None:
            raise ValueError("expected 'low' and 'high', or 'choices'")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ValueError(
                f"expected numbers with low below high, received {self.low:g} and {self.high:g}"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"with 'log', low must be above 0, received {self.low:g}")


@config_dataclass
class SpaceConfig:
    """A search: its space and how it is searched.

    Attributes:
      seed: Seed of the suggestions.
      random_trials: Number of trials with randomly drawn values before the search learns from
        results; the very first trial is the configuration itself.
      prune: Whether to stop a trial whose best validation Recall@N so far is below the median that
        complete trials had at the same step.
      prune_after_trials: Number of complete trials before any trial may be stopped.
      prune_after_passes: Number of validation passes before a trial may be stopped.
      parameters: Values by dotted key of ``model`` or ``training``.
    """

    seed: int = Field(default=1, ge=0)
    random_trials: int = Field(default=6, ge=1)
    prune: bool = True
    prune_after_trials: int = Field(default=4, ge=1)
    prune_after_passes: int = Field(default=3, ge=1)
    parameters: dict[str, ParameterConfig] = Field(min_length=1)


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One key of the space, extended to include the configuration's own value.

    Attributes:
      key: Dotted key.
      own: The configuration's own value, as plain JSON types.
      low: Smallest value; an int if the key takes integers; None for choices.
      high: Largest value.
      log: Whether the logarithm is searched.
      choices: All values; empty for a range.
      widened: Whether the space as written did not include the configuration's own value.
    """

    key: str
    own: Any
    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Any, ...] = ()
    widened: bool = False


def load_space(path: str | Path) -> SpaceConfig:
    """Reads a search space.

    Raises:
      ConfigError: the file cannot be read, or one of its keys or values is not valid.
    """
    return config_lib.read_section(SpaceConfig, path)


def dimensions(space: SpaceConfig, config: RunConfig, origin: str) -> list[Dimension]:
    """Checks a space against the configuration that it will change.

    The configuration itself is the first trial. A range or list without its value is widened to
    include it.

    Args:
      space: The search space.
      config: The configuration.
      origin: File that contains the space, for messages.

    Raises:
      ConfigError: a key cannot be tuned, or does not accept one of its values.
    """
    found = []
    for key, parameter in space.parameters.items():
        where = f"{origin}: parameters.{key}"
        takes = _type_of(key, origin)
        own = _value(config, key)
        if parameter.choices:
            dimension = _of_choices(key, parameter, own)
            values: tuple[Any, ...] = dimension.choices
        else:
            dimension = _of_range(key, parameter, own, takes, where)
            values = (dimension.low, dimension.high)
        for value in values:
            config_lib.replaced(config, {key: value}, where)
        found.append(dimension)
    return found


def _of_choices(key: str, parameter: ParameterConfig, own: Any) -> Dimension:
    choices = parameter.choices
    widened = own not in choices
    return Dimension(key, own, choices=(*choices, own) if widened else choices, widened=widened)


def _of_range(key: str, parameter: ParameterConfig, own: Any, takes: Any, where: str) -> Dimension:
    low, high = parameter.low, parameter.high
    assert low is not None
    assert high is not None
    if takes not in (int, float):
        raise ConfigError(f"{where}: {key!r} is not a number; list its values under 'choices'.")
    if takes is int:
        if not (low.is_integer() and high.is_integer()):
            raise ConfigError(
                f"{where}: {key!r} takes integers, received low {low:g} and high {high:g}."
            )
        low, high = int(low), int(high)
    if not isinstance(own, int | float) or not math.isfinite(own):
        raise ConfigError(
            f"{where}: the configuration's own value is {own!r}, which no range can contain; list "
            "the values under 'choices'."
        )
    if parameter.log and own <= 0:
        raise ConfigError(
            f"{where}: the configuration's own value is {own:g}, and with 'log' all values must "
            "be above 0; leave 'log' out or list the values under 'choices'."
        )
    return Dimension(
        key,
        own,
        low=min(low, own),
        high=max(high, own),
        log=parameter.log,
        widened=not low <= own <= high,
    )


def _value(config: RunConfig, key: str) -> Any:
    value: Any = to_dict(config)
    for part in key.split("."):
        value = None if value is None else value[part]
    return value


def _type_of(key: str, origin: str) -> Any:
    """Returns the type of a key that can be tuned."""
    types_by_key = dict(_leaves())
    if key in _FIXED:
        raise ConfigError(f"{origin}: 'parameters.{key}' cannot be tuned: {_FIXED[key]}.")
    if key not in types_by_key:
        known = sorted(types_by_key.keys() - _FIXED.keys())
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"{origin}: 'parameters.{key}' is not a key that can be tuned.{hint} Valid keys: "
            f"{', '.join(known)}."
        )
    return types_by_key[key]


def _leaves() -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(RunConfig)
    for section in _SECTIONS:
        yield from _fields(section, hints[section])


def _fields(prefix: str, cls: type) -> Iterator[tuple[str, Any]]:
    hints: Mapping[str, Any] = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            hint = next(a for a in typing.get_args(hint) if a is not type(None))
        key = f"{prefix}.{field.name}"
        if dataclasses.is_dataclass(hint) and key not in _FIXED:
            yield from _fields(key, typing.cast(type, hint))
        else:
            yield key, hint
