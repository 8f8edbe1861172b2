"""Loading and refusing configurations."""

import dataclasses
import math

import pytest

from components.example_gen.config import DataConfig, InteractionsConfig
from contract.config_types import from_json, strict_json, to_dict, to_json
from pipeline import config as config_lib

_MINIMAL = "data: {interactions: {files: [log.csv]}}\n"


@pytest.fixture
def load(tmp_path):
    def call(text, overrides=(), flags=None):
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return config_lib.load(path, overrides, flags)

    return call


def test_precedence_flag_over_set_over_file_over_default(load):
    text = _MINIMAL + "model: {dropout: 0.1, num_interests: 2, embedding_dim: 32}\n"
    loaded = load(
        text,
        ["model.num_interests=3", "model.embedding_dim=16"],
        {"model.embedding_dim": 8, "name": None},
    )
    assert loaded.model.dropout == 0.1
    assert loaded.model.num_interests == 3
    assert loaded.model.embedding_dim == 8
    assert loaded.model.history_length == 50
    assert loaded.name == "mind"


def test_preset_sits_between_default_and_file(load):
    loaded = load(_MINIMAL + "preset: paper\nmodel: {dropout: 0.2}\n")
    assert not loaded.model.normalize
    assert loaded.model.dropout == 0.2


def test_flags_alone_make_a_configuration():
    loaded = config_lib.load(None, (), {"data.interactions.files": ["my.csv"]})
    assert loaded.data.interactions.files == ("my.csv",)


def test_nothing_after_the_sign_is_an_empty_text(load):
    text = _MINIMAL + "push: {destination: /models}\n"
    assert load(text).push.destination == "/models"
    assert load(text, ["push.destination="]).push.destination == ""
    assert load(text, ["data.users=null"]).data.users is None


def test_a_misspelt_guard_rail_is_refused_with_its_section(load):
    with pytest.raises(config_lib.ConfigError) as error:
        load(_MINIMAL, ["guard_rails.data.warn=[least_event]"])
    assert (
        "with --set guard_rails.data.warn: 'guard_rails.data': unknown guard rail 'least_event' in "
        "'warn'. Did you mean 'least_events'? There are least_events, most_events, "
    ) in str(error.value)


def test_json_round_trip_keeps_everything(load):
    loaded = load(
        _MINIMAL + "training: {attention_power: .inf}\n",
        ["data.items={files: [i.csv], features: {genre: {column: g, separator: '|'}}}"],
    )
    assert math.isinf(loaded.training.attention_power)
    assert from_json(config_lib.RunConfig, to_json(loaded)) == loaded


@pytest.mark.parametrize(
    ("text", "overrides", "expected"),
    [
        (_MINIMAL + "modl: {}\n", [], "unknown key 'modl'. Did you mean 'model'?"),
        (
            _MINIMAL + "model: {droput: 0.1}\n",
            [],
            "unknown key 'model.droput'. Did you mean 'model.dropout'?",
        ),
        (
            _MINIMAL,
            ["data.items.files=[i.csv]", "data.items.features.g.colum=x"],
            "'data.items.features.g.column'",
        ),
        (
            _MINIMAL + "model: {dropout: 1.5}\n",
            [],
            "'model.dropout': expected less than 1, received 1.5",
        ),
        (
            _MINIMAL + "model: {num_interests: '4'}\n",
            [],
            "'model.num_interests': expected integer, received '4'",
        ),
        (
            _MINIMAL + "preset: papr\n",
            [],
            "'preset': expected 'strong' or 'paper', received 'papr'",
        ),
        (_MINIMAL, ["data.items=3"], "'data.items' must be a section, received 3"),
        ("name: x\n", [], "'data' is required but was not given"),
        (_MINIMAL, ["model.dropout"], "expected KEY=VALUE"),
        ("- a\n", [], "expected a mapping at the top, received list"),
        ("a: [\n", [], "not valid YAML"),
        (
            _MINIMAL + "evaluation: {primary_cutoff: 30}\n",
            [],
            "primary_cutoff 30 is not one of cutoffs (10, 20, 50)",
        ),
        (
            _MINIMAL + "retention: {versions: 1}\n",
            [],
            "versions must be 0 (keep all) or at least 2",
        ),
        (
            _MINIMAL,
            [
                "data.items={files: [i.csv], category_feature: genre,"
                " features: {genres: {column: g}, year: {column: y, kind: numeric}}}"
            ],
            "must name a categorical feature, one of ['genres']; got 'genre'",
        ),
    ],
)
def test_one_clear_error(load, text, overrides, expected):
    with pytest.raises(config_lib.ConfigError) as error:
        load(text, overrides)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ("{genre: {column: g}}, category_feature: genre", "genre"),
        ("{genre: {column: g}, category: {column: c}}, category_feature: genre", "genre"),
        ("{genre: {column: g}, category: {column: c}}", "category"),
        ("{category: {column: c, kind: numeric}}", ""),
        ("{genre: {column: g}}", ""),
    ],
)
def test_the_feature_that_is_the_category(load, items, expected):
    loaded = load(_MINIMAL, [f"data.items={{files: [i.csv], features: {items}}}"])
    assert loaded.data.items.category == expected


def test_error_names_the_file(load, tmp_path):
    with pytest.raises(config_lib.ConfigError, match=r"run\.yaml"):
        load(_MINIMAL + "modl: {}\n")


@pytest.mark.parametrize(
    ("overrides", "flags", "expected"),
    [
        (["model.dropout=2"], {}, "--set model.dropout: 'model.dropout': expected less than 1"),
        (["data.items={fils: [i.csv]}"], {}, "--set data.items: unknown key 'data.items.fils'."),
        ([], {"output_dir": ""}, "the command line: 'output_dir': expected at least 1 character"),
        (["index.max_k=5"], {}, "run.yaml with --set index.max_k: 'index': default_k (10) must"),
    ],
)
def test_error_names_the_command_line_where_that_is_to_blame(load, overrides, flags, expected):
    with pytest.raises(config_lib.ConfigError) as error:
        load(_MINIMAL, overrides, flags)
    assert expected in str(error.value)


def test_plain_values_are_those_of_yaml_1_2(load):
    loaded = load(
        _MINIMAL + "training: {learning_rate: 5e-4}\n",
        [
            "training.temperature=1e-1",
            "training.batch_size=010",
            "data.interactions.timestamp_column=no",
            "data.interactions.user_column=2024-01-01",
            "training.mixed_precision=true",
            "training.attention_power=.inf",
        ],
    )
    assert loaded.training.learning_rate == 5e-4
    assert loaded.training.temperature == 0.1
    assert loaded.training.batch_size == 10
    assert loaded.data.interactions.timestamp_column == "no"
    assert loaded.data.interactions.user_column == "2024-01-01"
    assert loaded.training.mixed_precision
    assert math.isinf(loaded.training.attention_power)


def test_a_schema_counts_from_where_it_is_named(load, tmp_path, monkeypatch):
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "s.pbtxt").write_text("")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.pbtxt").write_text("")
    monkeypatch.chdir(elsewhere)
    text = _MINIMAL + "schema: schemas/s.pbtxt\n"
    assert load(text).schema == str(tmp_path / "schemas" / "s.pbtxt")
    assert load(text, ["schema=mine.pbtxt"]).schema == "mine.pbtxt"
    assert load(text, ["schema=gs://b/s.pbtxt"]).schema == "gs://b/s.pbtxt"


def test_a_copied_configuration_whose_schema_stayed_behind_is_refused(load, tmp_path):
    with pytest.raises(config_lib.ConfigError) as error:
        load(_MINIMAL + "schema: schemas/s.pbtxt\n")
    assert "run.yaml: 'schema': no such file" in str(error.value)
    assert str(tmp_path / "schemas" / "s.pbtxt") in str(error.value)


def test_missing_file_suggests_the_nearest(tmp_path):
    (tmp_path / "movielens.yaml").write_text(_MINIMAL)
    with pytest.raises(config_lib.ConfigError, match=r"Did you mean .*movielens.yaml"):
        config_lib.load(tmp_path / "movielen.yaml")


def test_configurations_are_frozen():
    data = DataConfig(interactions=InteractionsConfig(files=("a.csv",)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        data.num_shards = 2  # type: ignore[misc]


def test_equal_configurations_give_equal_json(load):
    first = load(_MINIMAL + "model: {dropout: 0.1, num_interests: 2}\n")
    second = load(_MINIMAL + "model: {num_interests: 2, dropout: 0.1}\n")
    assert to_json(first) == to_json(second)
    assert to_dict(first)["model"]["dropout"] == 0.1


def test_strict_json_names_what_json_cannot_hold():
    text = strict_json({"p": math.inf, "values": [1.5, -math.inf, math.nan]})
    assert text == '{"p": "inf", "values": [1.5, "-inf", "nan"]}'


_ITEMS = (
    "  items: {files: [i.csv], features: {brand: {column: b}, genre: {column: g},"
    " price: {column: p, kind: numeric}, categories: {column: c}}, category_feature: genre}\n"
)


def test_filters_are_features_of_the_items(load):
    text = "data:\n  interactions: {files: [log.csv]}\n" + _ITEMS
    loaded = load(text, ["index.filters=[brand, price]"])
    assert loaded.index.filters == ("brand", "price")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("prize", "is not a feature of data.items; did you mean 'price'?"),
        ("stock", "is not a feature of data.items."),
        ("genre", "is the category feature, by which requests can filter anyway."),
        ("categories", "would share its inputs with the category lists"),
    ],
)
def test_a_filter_that_cannot_be_is_one_clear_error(load, name, reason):
    text = "data:\n  interactions: {files: [log.csv]}\n" + _ITEMS
    with pytest.raises(config_lib.ConfigError) as error:
        load(text, [f"index.filters=[brand, {name}]"])
    message = str(error.value)
    assert message.startswith("--set index.filters: 'index.filters': ")
    assert f"{name!r} {reason}" in message
    assert message.endswith("Features that can be listed here: brand, price.")
    assert "\n" not in message


def test_filters_without_an_items_file_are_refused(load):
    with pytest.raises(config_lib.ConfigError, match="listed here: none"):
        load(_MINIMAL, ["index.filters=[brand]"])


def test_a_filter_is_named_once(load):
    text = "data:\n  interactions: {files: [log.csv]}\n" + _ITEMS
    with pytest.raises(config_lib.ConfigError, match="filters must name each feature once"):
        load(text, ["index.filters=[brand, brand]"])
