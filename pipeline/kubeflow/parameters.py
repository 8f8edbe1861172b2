"""Runtime parameters: settings that can be changed per run without compiling again.

TFX's own RuntimeParameter replaces an execution property as a whole, and loses its default in
schema 2.1. The parameters here replace a part of a property: most properties are JSON, of which one
value is to change. Where a parameter ends up is not listed anywhere but determined: the pipeline is
wired a second time with a unique mark in place of each value, and the marks are searched for in the
execution properties.
"""

import copy
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

Kind = Literal["STRING", "NUMBER_INTEGER", "NUMBER_DOUBLE", "LIST"]
Properties = Mapping[str, Any]
Steps = Mapping[str, Properties]

# Kubeflow's own compiler gives a component's copy of a pipeline parameter this prefix.
CHANNEL_PREFIX = "pipelinechannel--"


class ParameterError(ValueError):
    """A parameter does not exist, or a value is not valid for it."""


@dataclasses.dataclass(frozen=True)
class PipelineParameter:
    """One runtime parameter.

    Attributes:
      name: Name that the user passes.
      kind: Its type in the pipeline spec.
      key: Dotted key of the configuration, or ``target.FIELD`` for the run target.
      mark: A valid value that occurs nowhere else.
      description: Description for users.
      keys: Digests of the run target that depend on it, by field.
    """

    name: str
    kind: Kind
    key: str
    mark: Any
    description: str
    keys: tuple[str, ...]

    @property
    def channel(self) -> str:
        """Name of the component's input that carries the parameter."""
        return CHANNEL_PREFIX + self.name


RUN_KEY = "run_key"
TRAINING_KEY = "training_key"

PARAMETERS = (
    PipelineParameter(
        "interaction_files",
        "LIST",
        "data.interactions.files",
        ["mark--interaction-files-{SPAN}"],  # a window of spans requires {SPAN}
        "Paths or globs of the interaction log.",
        (RUN_KEY, TRAINING_KEY),
    ),
    PipelineParameter(
        "span",
        "STRING",
        "target.span",
        "mark--span",
        "Replaces {SPAN} in file names, for example by a date.",
        (RUN_KEY, TRAINING_KEY),
    ),
    PipelineParameter(
        "data_version",
        "STRING",
        "target.input_fingerprint",
        "mark--data-version",
        "Identifies the contents of the files; a new value invalidates the cache.",
        (RUN_KEY, TRAINING_KEY),
    ),
    PipelineParameter(
        "training_max_steps",
        "NUMBER_INTEGER",
        "training.max_steps",
        7_919_104_729,
        "Maximum number of training steps.",
        (RUN_KEY, TRAINING_KEY),
    ),
    PipelineParameter(
        "min_lift_over_popularity",
        "NUMBER_DOUBLE",
        "evaluation.min_lift_over_popularity",
        0.7919104729,
        "The metric minus that of popularity must exceed this for a blessing.",
        (RUN_KEY,),
    ),
    PipelineParameter(
        "max_drop_from_pushed",
        "NUMBER_DOUBLE",
        "evaluation.max_drop_from_pushed",
        0.1299709,
        "How far the metric may be below that of the pushed model.",
        (RUN_KEY,),
    ),
    PipelineParameter(
        "push_destination",
        "STRING",
        "push.destination",
        "mark--push-destination",
        "Directory that the server watches.",
        (),
    ),
    PipelineParameter(
        "baseline_version",
        "STRING",
        "target.baseline_version",
        "mark--baseline-version",
        "Pushed version to compare with; empty means the newest.",
        (),
    ),
)


@dataclasses.dataclass(frozen=True)
class Place:
    """Position of a parameter's value in the execution properties of a step.

    Attributes:
      path: Property, then the keys and indices in its JSON.
      negated: Whether the value has the opposite sign there.
    """

    path: tuple[str | int, ...]
    negated: bool = False


@dataclasses.dataclass(frozen=True)
class Binding:
    """One parameter of one step.

    Attributes:
      kind: Type of the parameter.
      default: The value that was compiled in.
      keys: As in ``PipelineParameter``.
      places: Positions of its value; none if only a key depends on it.
    """

    kind: Kind
    default: Any
    keys: tuple[str, ...]
    places: tuple[Place, ...]


@dataclasses.dataclass(frozen=True)
class StepBindings:
    """Everything that changes in one step; passed in its arguments as JSON.

    Attributes:
      parameters: By parameter name.
      keys: The digests that were compiled in, by name.
    """

    parameters: dict[str, Binding]
    keys: dict[str, str]

    def to_json(self) -> str:
        """As text."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "StepBindings":
        """The inverse of ``to_json``."""
        values = json.loads(text)
        return cls(
            {
                name: Binding(
                    kind=binding["kind"],
                    default=binding["default"],
                    keys=tuple(binding["keys"]),
                    places=tuple(Place(tuple(p["path"]), p["negated"]) for p in binding["places"]),
                )
                for name, binding in values["parameters"].items()
            },
            values["keys"],
        )


def bind(
    steps: Steps,
    marked: Steps,
    defaults: Mapping[str, Any],
    keys: Mapping[str, str],
    marked_keys: Mapping[str, str],
) -> dict[str, StepBindings]:
    """Determines where the parameters end up.

    Args:
      steps: Execution properties by step, as configured.
      marked: The same, with every parameter set to its mark.
      defaults: Configured value by parameter name.
      keys: Digests of ``steps`` by name.
      marked_keys: Digests of ``marked`` by name.

    Returns:
      Bindings by step, for the steps that depend on a parameter.

    Raises:
      ParameterError: a parameter reaches a step in a changed form, so that setting it at run time
        would differ from configuring it.
    """
    result = {}
    for step, properties in marked.items():
        text = json.dumps(dict(steps[step]))
        step_keys = {name: key for name, key in keys.items() if key in text}
        found: dict[str, Binding] = {}
        for parameter in PARAMETERS:
            places = tuple(
                place
                for name, value in properties.items()
                for place in _find(value, parameter, (name,))
            )
            if places or set(parameter.keys) & set(step_keys):
                found[parameter.name] = Binding(
                    parameter.kind, defaults[parameter.name], parameter.keys, places
                )
        if not found:
            if dict(steps[step]) != dict(properties):
                raise _derived(step, steps[step], properties)
            continue
        bindings = StepBindings(found, step_keys)
        marks = {p.name: p.mark for p in PARAMETERS if p.name in found}
        applied = _apply(steps[step], bindings, marks, marked_keys)
        if _canonical(applied) != _canonical(properties):
            raise _derived(step, applied, properties)
        result[step] = bindings
    return result


def apply(
    properties: Properties, bindings: StepBindings, values: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the execution properties with the values of this run.

    Args:
      properties: Properties as compiled.
      bindings: Bindings of the step.
      values: Values by parameter name; a missing one keeps its default.
    """
    values = {
        name: int(value) if binding.kind == "NUMBER_INTEGER" else value
        for name, binding in bindings.parameters.items()
        for value in [values.get(name, binding.default)]
    }
    keys = {name: _key_of_run(name, bindings, values) for name in bindings.keys}
    return _apply(properties, bindings, values, keys)


def _key_of_run(name: str, bindings: StepBindings, values: Mapping[str, Any]) -> str:
    """Returns the compiled digest if all values that it covers are unchanged, else a new one."""
    compiled = bindings.keys[name]
    changed = {
        parameter: values[parameter]
        for parameter, binding in bindings.parameters.items()
        if name in binding.keys and values[parameter] != binding.default
    }
    if not changed:
        return compiled
    text = json.dumps([compiled, changed], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[: len(compiled)]


def _apply(
    properties: Properties,
    bindings: StepBindings,
    values: Mapping[str, Any],
    keys: Mapping[str, str],
) -> dict[str, Any]:
    result = dict(properties)
    for name, binding in bindings.parameters.items():
        for place in binding.places:
            value = -values[name] if place.negated else values[name]
            prop, *inner = place.path
            result[str(prop)] = _set_json(result[str(prop)], inner, value) if inner else value
    for name, compiled in bindings.keys.items():
        result = {
            prop: value.replace(compiled, keys[name]) if isinstance(value, str) else value
            for prop, value in result.items()
        }
    return result


def _set_json(text: str, path: list[str | int], value: Any) -> str:
    root = json.loads(text)
    node = root
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = copy.copy(value)
    return json.dumps(root, sort_keys=True)


def _find(value: Any, parameter: PipelineParameter, path: tuple[str | int, ...]) -> list[Place]:
    if len(path) == 1:
        value = _json_or_itself(value)
    if value == parameter.mark:
        return [Place(path)]
    if isinstance(parameter.mark, (int, float)) and value == -parameter.mark:
        return [Place(path, negated=True)]
    if isinstance(value, dict):
        return [p for key, child in value.items() for p in _find(child, parameter, (*path, key))]
    if isinstance(value, list):
        return [p for i, child in enumerate(value) for p in _find(child, parameter, (*path, i))]
    return []


def _json_or_itself(value: Any) -> Any:
    if not isinstance(value, str) or not value.lstrip().startswith(("{", "[")):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _canonical(properties: Properties) -> dict[str, Any]:
    return {name: _json_or_itself(value) for name, value in properties.items()}


def _derived(step: str, expected: Properties, received: Properties) -> ParameterError:
    names = sorted(
        name
        for name in {*expected, *received}
        if _json_or_itself(expected.get(name)) != _json_or_itself(received.get(name))
    )
    return ParameterError(
        f"Step {step!r}: {', '.join(names)} depends on a runtime parameter in a way that cannot be "
        "changed at run time. Pass the configured value itself to the component, or take the "
        "parameter out of pipeline.kubeflow.parameters."
    )
