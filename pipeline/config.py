"""Builds the configuration of a run from YAML, flags and overrides."""

import copy
import dataclasses
import difflib
import os
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic
import yaml
from pydantic import Field

from components.data_gate.config import DataRailsConfig
from components.example_gen.config import DataConfig
from components.model_gate.config import ModelRailsConfig
from contract.config_types import config_dataclass, from_dict, to_dict
from contract.errors import UserError
from model.config import ModelConfig, TrainingConfig, check_fits
from model.presets import PRESETS
from pipeline import yaml_values
from pipeline.kubeflow_config import KubeflowConfig
from pipeline.retention_config import RetentionConfig
from retrieval.config import IndexConfig

T = typing.TypeVar("T")

_COMMAND_LINE = "the command line"


class ConfigError(UserError):
    """A configuration that cannot be used."""


@config_dataclass
class EvaluationConfig:
    """What a model must achieve to be blessed.

    Attributes:
      primary_metric: Metric that both thresholds apply to.
      min_lift_over_popularity: The candidate's metric minus that of popularity, on the same people,
        must exceed this.
      max_drop_from_pushed: How far the metric may be below that of the last pushed model.
      exclude_history: Whether to rank without the items that the person already has.
      cutoffs: N of Recall@N, HitRate@N and NDCG@N.
      item_knn: Whether to evaluate an item-kNN baseline too.
      confidence_intervals: Whether to estimate 95 % intervals by a jackknife over people.
    """

    primary_metric: typing.Literal["recall", "ndcg", "hit_rate"] = "recall"
    primary_cutoff: int = Field(default=50, ge=1)
    min_lift_over_popularity: float = 0.0
    max_drop_from_pushed: float = Field(default=0.01, ge=0.0)
    exclude_history: bool = True
    cutoffs: tuple[int, ...] = Field(default=(10, 20, 50), min_length=1)
    item_knn: bool = True
    confidence_intervals: bool = True

    def __post_init__(self) -> None:
        if self.primary_cutoff not in self.cutoffs:
            raise ValueError(
                f"primary_cutoff {self.primary_cutoff} is not one of cutoffs {self.cutoffs}"
            )


@config_dataclass
class GuardRailsConfig:
    """What stops a run, or causes a warning, because data or model are unusual.

    Attributes:
      data: Limits for the data, checked before anything is trained.
      model: Limits for the trained model, in addition to those of ``evaluation``.
    """

    data: DataRailsConfig = DataRailsConfig()
    model: ModelRailsConfig = ModelRailsConfig()


@config_dataclass
class PushConfig:
    """Destination of a blessed model.

    Attributes:
      destination: Directory that the server watches; empty means
        ``OUTPUT_DIR/serving_models/NAME``.
    """

    destination: str = ""


@config_dataclass
class RunConfig:
    """One run of the pipeline.

    Attributes:
      name: Name of the pipeline and of the served model.
      output_dir: Root directory of everything that a local run writes.
      schema: Path of a curated schema (text proto), relative to the YAML file if it is set there,
        or to the current directory if it is set by ``--set``. If it is empty, a schema is inferred.
      preset: ``strong`` or ``paper``: which defaults ``model`` and ``training`` have.
      data: Files, columns, filters and split.
      model: The network.
      training: Loss, optimiser and schedule.
      evaluation: Thresholds for the blessing.
      guard_rails: What stops a run or causes a warning.
      index: How the catalogue is searched.
      push: Destination of a blessed model.
      retention: How long the outputs of earlier local runs are kept.
      kubeflow: How a run on Kubeflow differs from a local one.
    """

    name: str = Field(default="mind", pattern=r"^[a-z0-9][a-z0-9-]*$")
    output_dir: str = Field(default="output", min_length=1)
    schema: str = ""
    preset: typing.Literal["strong", "paper"] = "strong"
    data: DataConfig
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    guard_rails: GuardRailsConfig = GuardRailsConfig()
    index: IndexConfig = IndexConfig()
    push: PushConfig = PushConfig()
    retention: RetentionConfig = RetentionConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()


def load(
    path: str | Path | None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Loads and validates a configuration.

    Args:
      path: YAML file, or None to build one from ``flags`` and ``overrides``.
      overrides: ``a.b=value`` strings with values in YAML; they take precedence over the file.
      flags: Values by dotted key; they take precedence over everything else. None means "not
        given".

    Raises:
      ConfigError: the configuration is not valid; the message has the file or ``--set``, the key,
        the received and the expected value, and the nearest valid key for an unknown one.
    """
    values = _read_yaml(Path(path)) if path else {}
    origins = _Origins(str(path) if path else _COMMAND_LINE)
    if path and isinstance(values.get("schema"), str) and values["schema"]:
        values["schema"] = _beside(Path(path), values["schema"])
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not key:
            raise ConfigError(
                f"--set {override!r}: expected KEY=VALUE, like --set model.dropout=0.1"
            )
        try:
            # No text after the sign means an empty string; null must be written out.
            value = yaml_values.load(text) if text else ""
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {key}: {text!r} is not a YAML value: {error}") from error
        _set(values, key, value, f"--set {key}")
        origins.given[key] = f"--set {key}"
    for key, value in (flags or {}).items():
        if value is not None:
            _set(values, key, value, f"flag for {key}")
            origins.given[key] = _COMMAND_LINE
    preset = values.get("preset", "strong")
    if preset in PRESETS:  # a wrong name is reported below, with all other errors
        for section, defaults in PRESETS[preset].items():
            given = values.get(section) or {}
            if isinstance(given, Mapping):
                values[section] = {**defaults, **given}
    config = _checked(values, origins)
    if config.schema and not _is_remote(config.schema) and not Path(config.schema).is_file():
        raise ConfigError(
            f"{origins.of('schema')}: 'schema': no such file: {config.schema}. A relative path in "
            "a YAML file is relative to that file; copy the schema together with it, write an "
            "absolute path, infer a schema with --bootstrap_schema, or leave the key empty."
        )
    return config


def read_section(cls: type[T], path: str | Path) -> T:
    """Reads a YAML file that holds a single configuration class.

    Raises:
      ConfigError: as ``load`` does.
    """
    values = _read_yaml(Path(path))
    try:
        return from_dict(cls, values)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, _Origins(str(path)), cls)) from None


def replaced(config: RunConfig, values: Mapping[str, Any], origin: str) -> RunConfig:
    """Returns a copy of ``config`` with other values.

    Args:
      config: The configuration; it is not changed.
      values: Plain values by dotted key.
      origin: Source of the values, for messages.

    Raises:
      ConfigError: a key is unknown or a value is not allowed.
    """
    changed = to_dict(config)
    for key, value in values.items():
        _set(changed, key, value, origin)
    return _checked(changed, _Origins(origin))


def to_yaml(config: RunConfig) -> str:
    """Returns the effective configuration as YAML that can be saved anywhere."""
    values = to_dict(config)
    if values["schema"] and not _is_remote(values["schema"]):
        # The YAML may be saved to another directory.
        values["schema"] = os.path.abspath(values["schema"])
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


@dataclasses.dataclass(frozen=True)
class _Origins:
    """Sources of the values, for messages.

    Attributes:
      default: The file; the command line if there is none.
      given: Part of the command line that set the value, by dotted key.
    """

    default: str
    given: dict[str, str] = dataclasses.field(default_factory=dict)

    def of(self, key: str) -> str:
        """Returns the source of ``key``, of a part of it, or of the section that contains it."""
        for given, origin in self.given.items():
            if key == given or key.startswith(f"{given}."):
                return origin
        parts = [origin for given, origin in self.given.items() if given.startswith(f"{key}.")]
        return " with ".join([self.default, *dict.fromkeys(parts)])


def _checked(values: Mapping[str, Any], origins: _Origins) -> RunConfig:
    try:
        config = from_dict(RunConfig, values)
    except pydantic.ValidationError as error:
        raise ConfigError(_explain(error, origins)) from None
    try:
        check_fits(config.model, config.training)
    except ValueError as error:
        raise ConfigError(f"{origins.default}: {error}") from None
    _check_filters(config, origins)
    return config


def _check_filters(config: RunConfig, origins: _Origins) -> None:
    """Checks ``index.filters`` against the side features."""
    items = config.data.items
    category = items.category if items else ""
    # A feature with this name would get the same inputs as the categories.
    taken = {category, "categories"}
    valid = sorted(set(items.features) - taken) if items else []
    for name in config.index.filters:
        if name in valid:
            continue
        if name == category:
            reason = "is the category feature, by which requests can filter anyway"
        elif items and name in items.features:
            reason = "would share its inputs with the category lists; rename the feature"
        else:
            close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
            reason = "is not a feature of data.items"
            reason += f"; did you mean {close[0]!r}?" if close else ""
        raise ConfigError(
            f"{origins.of('index.filters')}: 'index.filters': {name!r} {reason}. Features that "
            f"can be listed here: {', '.join(valid) or 'none'}."
        )


def _is_remote(path: str) -> bool:
    return "://" in path


def _beside(file: Path, path: str) -> str:
    return path if _is_remote(path) else str(file.parent / path)


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        nearby = sorted(str(p) for p in path.parent.glob("*.yaml"))
        close = difflib.get_close_matches(str(path), nearby, n=1, cutoff=0.4)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise ConfigError(f"{path}: no such configuration file.{hint}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        values = yaml_values.load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path}: expected a mapping at the top, received {type(values).__name__}"
        )
    return values


def _set(values: dict[str, Any], dotted: str, value: Any, where: str) -> None:
    *parents, last = dotted.split(".")
    node = values
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError(f"{where}: {parent!r} is not a section but {child!r}")
        node = child
    node[last] = copy.deepcopy(value)


def _explain(error: pydantic.ValidationError, origins: _Origins, root: type = RunConfig) -> str:
    lines = []
    section_names = {cls.__name__ for cls in _sections(root)}
    for item in error.errors():
        # For a union of a section and None, pydantic includes the class name in the path.
        path = [str(part) for part in item["loc"] if str(part) not in section_names]
        key = ".".join(path)
        source = origins.of(key)
        if item["type"] == "unexpected_keyword_argument":
            valid = _valid_keys(path[:-1], root)
            close = difflib.get_close_matches(path[-1], valid, n=1, cutoff=0.5)
            hint = f" Did you mean {'.'.join([*path[:-1], close[0]])!r}?" if close else ""
            lines.append(
                f"{source}: unknown key {key!r}.{hint} Valid keys here: {', '.join(valid)}."
            )
        elif item["type"] in ("missing", "missing_argument"):
            lines.append(f"{source}: {key!r} is required but was not given.")
        elif item["type"] == "dataclass_type" and item["input"] is not None:
            lines.append(f"{source}: {key!r} must be a section, received {item['input']!r}.")
        elif item["type"] == "none_required":
            continue
        elif item["type"] == "value_error":
            lines.append(f"{source}: {key!r}: {item['ctx']['error']}.")
        else:
            # Turns, for example, "Input should be a valid integer" into "integer".
            expected = re.sub(r"^\w+ should (be |have |match )?(a valid )?", "", item["msg"])
            lines.append(f"{source}: {key!r}: expected {expected}, received {item['input']!r}.")
    return "\n".join(lines)


def _sections(cls: type) -> set[type]:
    found = {cls}
    for hint in typing.get_type_hints(cls).values():
        for candidate in (hint, *typing.get_args(hint)):
            if dataclasses.is_dataclass(candidate) and candidate not in found:
                found |= _sections(typing.cast(type, candidate))
    return found


def _valid_keys(path: Sequence[str], root: type) -> list[str]:
    """Returns the keys of the section of ``root`` at ``path``."""
    node: Any = root
    for part in path:
        if typing.get_origin(node) is dict:
            node = typing.get_args(node)[1]
        else:
            node = typing.get_type_hints(node)[part]
        if isinstance(node, types.UnionType) or typing.get_origin(node) is typing.Union:
            node = next(a for a in typing.get_args(node) if a is not type(None))
    return [field.name for field in dataclasses.fields(node)]
