import pytest

from components.example_gen.config import DataConfig, InteractionsConfig, WindowConfig
from components.example_gen.errors import DataError
from components.example_gen.inputs import find_inputs
from components.example_gen.span_names import name_of, parse
from components.example_gen.spans import available, between, newer_than, resolve_window
from contract.config_types import from_dict


def _make(folder, *paths):
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")


def _table(folder, *patterns):
    return InteractionsConfig(files=tuple(f"{folder}/{pattern}" for pattern in patterns))


def _names(window):
    return [span.name for span in window.spans]


@pytest.mark.parametrize(
    ("name", "following"),
    [
        ("2026-02-28", "2026-03-01"),
        ("2024-02-28", "2024-02-29"),
        ("20251231", "20260101"),
        ("2026-11-26-23", "2026-11-27-00"),
        ("2026112623", "2026112700"),
        ("7", "8"),
        ("099", "100"),
        ("20261399", "20261400"),  # no date, so a number
    ],
)
def test_the_span_after_a_span(name, following):
    span = parse(name)
    assert name_of(span.number, span) == name
    assert name_of(span.number + 1, span) == following
    assert parse(following).number == span.number + 1


@pytest.mark.parametrize("name", ["", "yesterday", "2026-13-01", "1.5", "-3", "²"])
def test_what_is_no_span_is_refused(name):
    with pytest.raises(
        DataError, match=r"is not a span: expected a date like 2026-11-26, .*'latest'"
    ):
        parse(name)


def test_spans_are_found_in_every_pattern_and_in_their_order(tmp_path):
    _make(tmp_path, "web/9/a.csv", "web/10/a.csv", "shop-11.csv", "shop-10.csv", "web/x/a.csv")
    table = _table(tmp_path, "web/{SPAN}/*.csv", "shop-{SPAN}.csv")
    assert [span.text for span in available(table)] == ["9", "10", "11"]


def test_a_span_may_stand_in_a_path_twice(tmp_path):
    _make(tmp_path, "1/log-1.csv", "2/log-3.csv")
    assert [s.text for s in available(_table(tmp_path, "{SPAN}/log-{SPAN}.csv"))] == ["1"]


def test_dates_in_three_directories(tmp_path):
    _make(tmp_path, "2026/11/30/a.csv", "2026/12/01/a.csv", "2026/12/01/b.csv")
    table = _table(tmp_path, "{YYYY}/{MM}/{DD}/*.csv")
    window = resolve_window(table, WindowConfig(spans=2))
    assert _names(window) == ["2026-11-30", "2026-12-01"]
    assert [len(span.files) for span in window.spans] == [1, 2]


def test_names_written_in_two_ways_are_refused(tmp_path):
    _make(tmp_path, "20261126.csv", "2026-11-27.csv")
    with pytest.raises(DataError, match="not written alike"):
        available(_table(tmp_path, "{SPAN}.csv"))
    _make(tmp_path / "n", "7.csv", "007.csv")
    with pytest.raises(DataError, match="'007' and '7' are not written alike"):
        available(_table(tmp_path / "n", "{SPAN}.csv"))


def test_a_window_ends_with_its_span_and_begins_with_the_first_there_is(tmp_path):
    _make(tmp_path, *(f"2026-11-{day}.csv" for day in range(20, 27)))
    table = _table(tmp_path, "{SPAN}.csv")
    three = WindowConfig(spans=3)
    assert _names(resolve_window(table, three)) == ["2026-11-24", "2026-11-25", "2026-11-26"]
    assert resolve_window(table, three, "latest") == resolve_window(table, three)
    assert _names(resolve_window(table, three, "2026-11-21")) == ["2026-11-20", "2026-11-21"]
    assert resolve_window(table, three, "2026-11-21").missing == ()


def test_a_span_without_files_is_named_with_those_there_are(tmp_path):
    _make(tmp_path, "2026-11-20.csv", "2026-11-21.csv")
    table = _table(tmp_path, "{SPAN}.csv")
    for span in ("2026-11-22", "20261121", "5"):
        with pytest.raises(DataError, match=rf"'{span}' has no file.* 2026-11-20 to 2026-11-21"):
            resolve_window(table, WindowConfig(spans=3), span)


def test_missing_spans_fail_or_are_counted(tmp_path):
    _make(tmp_path, "1.csv", "2.csv", "5.csv")
    table = _table(tmp_path, "{SPAN}.csv")
    with pytest.raises(DataError, match=r"2 of the 4 spans .*: 3, 4\. Deliver them"):
        resolve_window(table, WindowConfig(spans=4))
    window = resolve_window(table, WindowConfig(spans=4, gaps="count"))
    assert (_names(window), window.missing) == (["2", "5"], ("3", "4"))


def test_the_range_of_a_backfill(tmp_path):
    _make(tmp_path, "08.csv", "09.csv", "11.csv", "12.csv")
    table = _table(tmp_path, "{SPAN}.csv")
    assert between(table, "09", "12") == ["09", "11", "12"]
    for first, last in (("12", "09"), ("2026-11-01", "2026-11-02"), ("9", "")):
        with pytest.raises(DataError):
            between(table, first, last)


def test_latest_without_a_window_is_the_newest_span_alone(tmp_path):
    _make(tmp_path, "1.csv", "2.csv", "items-2.csv")
    config = from_dict(
        DataConfig,
        {
            "interactions": {"files": [f"{tmp_path}/{{SPAN}}.csv"]},
            "items": {"files": [f"{tmp_path}/items-{{SPAN}}.csv"]},
        },
    )
    inputs = find_inputs(config, "latest")
    assert inputs.span == "2"
    assert [file.path for files in inputs.files.values() for file in files] == [
        f"{tmp_path}/2.csv",
        f"{tmp_path}/items-2.csv",
    ]


def test_relative_paths_are_found(tmp_path, monkeypatch):
    _make(tmp_path, "logs/1/a.csv", "logs/2/a.csv")
    monkeypatch.chdir(tmp_path)
    window = resolve_window(InteractionsConfig(files=("logs/{SPAN}/*.csv",)), WindowConfig(spans=2))
    assert _names(window) == ["1", "2"]


def test_only_names_written_alike_are_compared():
    names = ["2026-11-25", "2026-11-26", "2026-11-27"]
    assert newer_than(names, []) == names
    assert newer_than(names, ["2026-11-26", "2026-11-25"]) == ["2026-11-27"]
    # Another notation, and the name of a run from before there were spans.
    assert newer_than(names, ["20261127", "99999", "all"]) == names
