"""Search spaces: what is refused, and what is made of the rest."""

import math

import pytest

from pipeline import config as config_lib
from pipeline.flags import DEFAULT_CONFIG
from pipeline.tune import __main__ as command
from pipeline.tune import space as space_lib


@pytest.fixture
def config():
    return config_lib.load(None, (), {"data.interactions.files": ["log.csv"]})


@pytest.fixture
def load(tmp_path, config):
    def call(text, config=config):
        path = tmp_path / "space.yaml"
        path.write_text(text)
        return space_lib.dimensions(space_lib.load_space(path), config, "space.yaml")

    return call


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "parameters: {training.learning_rte: {low: 0.1, high: 0.2}}",
            "space.yaml: 'parameters.training.learning_rte' is not a key that can be tuned. "
            "Did you mean 'training.learning_rate'?",
        ),
        (
            "parameters: {model.learning_rate: {low: 0.1, high: 0.2}}",
            "Did you mean 'training.learning_rate'?",
        ),
        (
            "parameters: {data.min_item_interactions: {low: 1, high: 5}}",
            "is not a key that can be tuned",
        ),
        (
            "parameters: {training.seed: {choices: [1, 2]}}",
            "space.yaml: 'parameters.training.seed' cannot be tuned: the best of several seeds",
        ),
        (
            "parameters: {training.warm_start.steps: {low: 1, high: 5}}",
            "is not a key that can be tuned",
        ),
        (
            "random_trails: 3\nparameters: {model.dropout: {low: 0.1, high: 0.2}}",
            "unknown key 'random_trails'. Did you mean 'random_trials'? Valid keys here: seed, ",
        ),
        (
            "parameters: {model.dropout: {lo: 0.1, high: 0.2}}",
            "unknown key 'parameters.model.dropout.lo'. Did you mean "
            "'parameters.model.dropout.low'?",
        ),
        (
            "parameters: {training.try_one_interest: {choices: [true]}}",
            "cannot be tuned: list choices for model.num_interests that include 1",
        ),
        ("parameters: {}", "'parameters': expected at least 1 item"),
        ("seed: 1", "'parameters' is required but was not given"),
        (
            "parameters: {model.dropout: {low: 0.3, high: 0.3}}",
            "expected numbers with low below high, received 0.3 and 0.3",
        ),
        ("parameters: {model.dropout: {low: 0.3}}", "expected 'low' and 'high', or 'choices'"),
        (
            "parameters: {model.dropout: {low: 0.3, high: 0.4, choices: [0.1]}}",
            "expected either 'choices' or 'low' and 'high', received both",
        ),
        (
            "parameters: {training.learning_rate: {low: 0, high: 1, log: true}}",
            "with 'log', low must be above 0, received 0",
        ),
        (
            "parameters: {model.dropout: {low: 0.1, high: 1.0}}",
            "space.yaml: parameters.model.dropout: 'model.dropout': expected less than 1, "
            "received 1.0",
        ),
        (
            "parameters: {model.num_interests: {low: 1.5, high: 4}}",
            "'model.num_interests' takes integers, received low 1.5 and high 4",
        ),
        (
            "parameters: {model.num_interests: {choices: [1, two]}}",
            "'model.num_interests': expected integer, received 'two'",
        ),
        (
            "parameters: {training.negatives: {choices: [mixd]}}",
            "'training.negatives': expected 'log_uniform', 'uniform', 'in_batch' or 'mixed'",
        ),
        (
            "parameters: {model.residual: {low: 0, high: 1}}",
            "'model.residual' is not a number; list its values under 'choices'",
        ),
        (
            "parameters: {training.attention_power: {low: 1, high: 9}}",
            "the configuration's own value is inf, which no range can contain",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_would_be_right(load, text, expected):
    with pytest.raises(config_lib.ConfigError) as error:
        load(text)
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_value_of_zero_has_no_logarithm(load, config):
    zero = config_lib.replaced(config, {"model.dropout": 0.0}, "a test")
    with pytest.raises(config_lib.ConfigError, match="own value is 0, and with 'log' all values"):
        load("parameters: {model.dropout: {low: 0.1, high: 0.5, log: true}}", zero)


def test_settings_that_exclude_each_other_are_refused_at_load(load, config):
    encoder = config_lib.replaced(config, {"model.encoder": {"heads": 2}}, "a test")
    with pytest.raises(config_lib.ConfigError, match=r"space.yaml: .*model.encoder needs"):
        load("parameters: {training.negatives: {choices: [in_batch]}}", encoder)


def test_integers_stay_integers_and_choices_are_of_any_type(load):
    interests, power, units = load(
        "parameters:\n"
        "  model.num_interests: {low: 1, high: 8, log: true}\n"
        "  training.attention_power: {choices: [1.0, .inf]}\n"
        "  model.hidden_units: {choices: [[256], [256, 64]]}\n"
    )
    assert (interests.low, interests.high, interests.log) == (1, 8, True)
    assert isinstance(interests.low, int)
    assert power.choices == (1.0, math.inf)
    assert units.choices == ([256], [256, 64])
    assert not any(dimension.widened for dimension in (interests, power, units))


def test_the_own_value_of_the_configuration_is_always_in_the_space(load):
    dropout, interests = load(
        "parameters:\n"
        "  model.dropout: {low: 0.1, high: 0.3}\n"
        "  model.num_interests: {choices: [1, 2]}\n"
    )
    assert (dropout.low, dropout.high, dropout.widened) == (0.1, 0.5, True)
    assert (interests.choices, interests.widened) == ((1, 2, 4), True)


def test_the_default_space_holds_the_presets_and_fits_every_configuration():
    space = space_lib.load_space(command.DEFAULT_SPACE)
    for path in sorted(DEFAULT_CONFIG.parent.glob("*.yaml")):
        found = space_lib.dimensions(space, config_lib.load(path), "default.yaml")
        assert not [dimension.key for dimension in found if dimension.widened], path
