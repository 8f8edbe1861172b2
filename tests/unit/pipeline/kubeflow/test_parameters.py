import json

import pytest

from pipeline.kubeflow import parameters
from pipeline.kubeflow.parameters import PARAMETERS, ParameterError, StepBindings, apply, bind

_MARKS = {p.name: p.mark for p in PARAMETERS}
_DEFAULTS = {
    "interaction_files": ["a.csv"],
    "span": "",
    "data_version": "",
    "training_max_steps": 100,
    "min_lift_over_popularity": 0.0,
    "max_drop_from_pushed": 0.01,
    "push_destination": "/models",
    "baseline_version": "",
}
_KEYS = {"run_key": "0123456789abcdef", "training_key": "00112233445566aa"}
_MARKED_KEYS = {"run_key": "fedcba9876543210", "training_key": "aa66554433221100"}


def _steps(values, keys):
    """What a wiring of these values would give."""
    return {
        "data": {
            "config": json.dumps({"interactions": {"files": values["interaction_files"]}}),
            "span": values["span"],
        },
        "trainer": {
            "custom_config": json.dumps(
                {
                    "training": {"max_steps": values["training_max_steps"], "rate": 0.1},
                    "checkpoints": f"/ck/{keys['training_key']}",
                }
            )
        },
        "evaluator": {
            "eval_config": json.dumps(
                {
                    "metrics": [
                        {"name": "mrr"},
                        {"change": -values["max_drop_from_pushed"]},
                        {"lower": values["min_lift_over_popularity"]},
                    ]
                }
            )
        },
        "index": {"manifest": json.dumps({"run_key": keys["run_key"]})},
        "pusher": {"destination": json.dumps({"base": values["push_destination"]})},
        "other": {"text": "unchanged", "number": 3.0},
    }


@pytest.fixture
def bindings():
    return bind(
        _steps(_DEFAULTS, _KEYS), _steps(_MARKS, _MARKED_KEYS), _DEFAULTS, _KEYS, _MARKED_KEYS
    )


def test_marks_are_distinct():
    marks = [json.dumps(p.mark) for p in PARAMETERS]
    assert len(set(marks)) == len(marks)
    numbers = [p.mark for p in PARAMETERS if p.kind.startswith("NUMBER")]
    assert all(number > 0 for number in numbers)  # so that a negated mark is recognised


def test_only_steps_that_depend_on_a_parameter_are_bound(bindings):
    assert set(bindings) == {"data", "trainer", "evaluator", "index", "pusher"}
    assert set(bindings["pusher"].parameters) == {"push_destination"}


@pytest.mark.parametrize(
    ("step", "name", "value", "expected"),
    [
        ("data", "interaction_files", ["b", "c"], {"interactions": {"files": ["b", "c"]}}),
        (
            "evaluator",
            "max_drop_from_pushed",
            0.5,
            [{"name": "mrr"}, {"change": -0.5}, {"lower": 0}],
        ),
        ("pusher", "push_destination", "s3://b/m", {"base": "s3://b/m"}),
    ],
)
def test_value_lands_inside_the_json(bindings, step, name, value, expected):
    properties = _steps(_DEFAULTS, _KEYS)[step]
    (text,) = [
        v for k, v in apply(properties, bindings[step], {name: value}).items() if k != "span"
    ]
    result = json.loads(text)
    assert result.get("metrics", result) == expected


def test_integer_arrives_as_float_and_leaves_as_integer(bindings):
    properties = _steps(_DEFAULTS, _KEYS)["trainer"]
    changed = apply(properties, bindings["trainer"], {"training_max_steps": 7.0})
    assert '"max_steps": 7,' in changed["custom_config"]


def test_defaults_change_nothing(bindings):
    for step, properties in _steps(_DEFAULTS, _KEYS).items():
        if step in bindings:
            changed = apply(properties, bindings[step], {})
            assert {k: parameters._json_or_itself(v) for k, v in changed.items()} == {
                k: parameters._json_or_itself(v) for k, v in properties.items()
            }


def _keys(bindings, values):
    steps = _steps(_DEFAULTS, _KEYS)
    trainer = apply(steps["trainer"], bindings["trainer"], values)
    index = apply(steps["index"], bindings["index"], values)
    return {
        "training_key": json.loads(trainer["custom_config"])["checkpoints"].removeprefix("/ck/"),
        "run_key": json.loads(index["manifest"])["run_key"],
    }


@pytest.mark.parametrize(
    "values", [{}, {"span": ""}, {"push_destination": "/elsewhere"}, {"baseline_version": "1"}]
)
def test_keys_stay_when_the_model_stays(bindings, values):
    assert _keys(bindings, values) == _KEYS


def test_every_other_value_gives_another_key(bindings):
    runs = [{}, {"span": "1"}, {"span": "2"}, {"training_max_steps": 5.0}, {"data_version": "1"}]
    keys = [_keys(bindings, values) for values in runs]
    for name in _KEYS:
        assert len({key[name] for key in keys}) == len(runs)
        assert {len(key[name]) for key in keys} == {len(_KEYS[name])}


def test_thresholds_make_another_run_of_the_same_training(bindings):
    keys = _keys(bindings, {"min_lift_over_popularity": 0.3})
    assert keys["training_key"] == _KEYS["training_key"]
    assert keys["run_key"] != _KEYS["run_key"]


def test_bindings_survive_json(bindings):
    for binding in bindings.values():
        assert StepBindings.from_json(binding.to_json()) == binding


@pytest.mark.parametrize("step", ["trainer", "other"])
def test_derived_value_is_refused(step):
    marked = _steps(_MARKS, _MARKED_KEYS)
    marked[step]["twice"] = str(2 * _MARKS["training_max_steps"])
    steps = _steps(_DEFAULTS, _KEYS)
    steps[step]["twice"] = str(2 * _DEFAULTS["training_max_steps"])
    with pytest.raises(ParameterError, match=f"'{step}': twice depends on a runtime parameter"):
        bind(steps, marked, _DEFAULTS, _KEYS, _MARKED_KEYS)
