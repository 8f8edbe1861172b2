"""Every row of the table of bad input in docs/data.md."""

import bz2
import collections
import gzip
import itertools
import json

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from components.example_gen.errors import DataError
from tests.unit.components.example_gen.ingestion import ingest, read_bad_rows

# Five people with three events each, so that one bad row of fifteen and one is 6 %.
GOOD = [f"u{user},i{item},{time}" for user in range(5) for time, item in enumerate("abc")]
HEADER = "user_id,item_id,timestamp"


def _ingest(folder, data, name="log.csv", **config):
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    config.setdefault("max_bad_row_fraction", 0.5)
    interactions: dict = {"files": [f"{folder}/{name}"], **config.pop("interactions", {})}
    return ingest(folder, interactions=interactions, **config)


def _csv(*rows, header=HEADER):
    return "\n".join([header, *rows]) + "\n"


def _events(done):
    """All kept events as (user, item), in order: what test rows hold in full."""
    return [(row["user_id"][0], item) for row in done.splits["test"] for item in row["item_id"]]


BAD_CSV_ROWS = {
    b",ia,1": "missing_user_id",
    b" ,ia,1": "missing_user_id",
    b"u0,,1": "missing_item_id",
    b"u0,ia,": "missing_timestamp",
    b"u0,ia,yesterday": "unparsable_timestamp",
    b"u0,ia,-1": "negative_timestamp",
    b"u0,ia,1577880000000": "timestamp_out_of_range",
    b"u\xff,ia,1": "not_utf8",
    b"u0,i\xff,1": "not_utf8",
    b"u0,ia": "wrong_number_of_columns",
    b"u0,ia,1,9": "wrong_number_of_columns",
}


def test_bad_csv_rows_are_set_apart_and_the_rest_survives(tmp_path):
    lines = [HEADER.encode()]
    for good, bad in itertools.zip_longest(map(str.encode, GOOD), BAD_CSV_ROWS):
        lines += [row for row in (good, bad) if row is not None]
    done = _ingest(tmp_path, b"\n".join(lines))
    assert sorted(_events(done)) == sorted(tuple(row.split(",")[:2]) for row in GOOD)
    assert done.report["tables"]["interactions"] == {
        "read": len(GOOD) + len(BAD_CSV_ROWS),
        "bad": dict(collections.Counter(BAD_CSV_ROWS.values())),
    }
    assert done.report["bad_rows"] == f"{tmp_path}/bad/bad_rows-00000-of-00001.jsonl"
    found = {row["row"]: row for row in done.bad_rows}
    for bad, reason in BAD_CSV_ROWS.items():
        line = 1 + lines.index(bad)
        text = bad.decode("utf-8", "backslashreplace")
        cells = dict(zip(HEADER.split(","), text.split(","), strict=False))
        assert found.pop(line) == {
            "reason": reason,
            "table": "interactions",
            "file": f"{tmp_path}/log.csv",
            "row": line,
            "raw": text if reason == "wrong_number_of_columns" else cells,
        }
    assert not found


BAD_JSON_ROWS = {
    '{"user_id": "u0", "item_id"': "unparsable_json",
    '["u0", "ia", 1]': "unparsable_json",
    '{"item_id": 7, "timestamp": 1}': "missing_user_id",
    '{"user_id": null, "item_id": 7, "timestamp": 1}': "missing_user_id",
    '{"user_id": "u0", "item_id": 1.5, "timestamp": 1}': "id_not_whole",
    '{"user_id": ["u0", "u1"], "item_id": 7, "timestamp": 1}': "id_not_single",
    '{"user_id": "u0", "item_id": {"$oid": "7"}, "timestamp": 1}': "id_not_single",
}


def test_bad_json_lines_are_set_apart_and_the_rest_survives(tmp_path):
    good = [
        json.dumps({"user_id": user, "item_id": int(item, 36), "timestamp": int(time)})
        for user, item, time in (row.split(",") for row in GOOD)
    ]
    done = _ingest(tmp_path, "\n".join([*good, *BAD_JSON_ROWS]), name="log.jsonl")
    assert len(_events(done)) == len(GOOD)
    assert [
        (row["row"], row["reason"]) for row in sorted(done.bad_rows, key=lambda r: r["row"])
    ] == [(row, reason) for row, reason in enumerate(BAD_JSON_ROWS.values(), len(GOOD) + 1)]


def test_a_bad_parquet_row(tmp_path):
    rows = [row.split(",") for row in GOOD]
    table = pa.table(
        {
            "user_id": pa.array([user.encode() for user, _, _ in rows] + [b"\xff"]),
            "item_id": pa.array([float(ord(item[1])) for _, item, _ in rows] + [1.0]),
            "timestamp": pd.to_datetime([int(time) for *_, time in rows] + [0], unit="s"),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    done = ingest(
        tmp_path,
        interactions={"files": [f"{tmp_path}/log.parquet"]},
        max_bad_row_fraction=0.5,
    )
    assert done.splits["test"][0]["item_id"] == ["97", "98", "99"]  # not "97.0"
    assert done.report["tables"]["interactions"]["bad"] == {"not_utf8": 1}


def test_too_many_bad_rows_fail_and_stay_behind(tmp_path):
    with pytest.raises(DataError) as error:
        _ingest(
            tmp_path,
            _csv(*GOOD, "u0,ia,soon", "u0,ia,", "u0,ia,never"),
            max_bad_row_fraction=0.05,
        )
    message = str(error.value)
    assert "3 of 18 rows of interactions are bad (16.7%); max_bad_row_fraction is 5.0%" in message
    assert "unparsable_timestamp: 2 (check `timestamp_unit`" in message
    assert '"row": 17' in message
    assert str(tmp_path / "bad") in message
    assert sorted(row["row"] for row in read_bad_rows(tmp_path)) == [17, 18, 19]


def test_as_many_bad_rows_as_allowed_pass(tmp_path):
    assert _ingest(tmp_path, _csv(*GOOD, "u0,ia,x"), max_bad_row_fraction=1 / 16)


def test_bad_rows_of_an_earlier_run_do_not_linger(tmp_path):
    assert _ingest(tmp_path, _csv(*GOOD, "u0,ia,x")).bad_rows
    assert not _ingest(tmp_path, _csv(*GOOD)).bad_rows


def test_ids_survive_to_the_letter(tmp_path):
    ids = ["a,b", 'the "best"', " spaced  out ", "line\nbreak", "日本語", "007", "7", "1e5", "NA"]
    ids += ["null", "\\N", "a|b", "x" * 5000]
    quoted = ['"' + text.replace('"', '""') + '"' for text in ids]
    rows = [f"{text},{text},{time}" for text in quoted for time in range(3)]
    done = _ingest(tmp_path, _csv(*rows))
    assert sorted(row["user_id"][0] for row in done.splits["test"]) == sorted(ids)
    assert all(row["item_id"] == row["user_id"] * 3 for row in done.splits["test"])
    assert sorted(row["item_id"][0] for row in done.splits["catalog"]) == sorted(ids)


def test_duplicate_events_are_dropped_or_kept(tmp_path):
    data = _csv(*GOOD, GOOD[0], GOOD[0])
    done = _ingest(tmp_path, data)
    assert len(_events(done)) == len(GOOD)
    assert done.report["events"]["dropped_duplicates"] == 2
    kept = _ingest(tmp_path, data, drop_duplicates=False)
    assert len(_events(kept)) == len(GOOD) + 2
    assert kept.report["events"]["duplicates"] == 2


def test_equal_times_stay_in_file_order(tmp_path):
    done = _ingest(tmp_path, _csv(*(f"u,{item},5" for item in "zayb")))
    assert done.splits["test"][0]["item_id"] == list("zayb")


def test_a_person_with_one_event_is_dropped_by_the_filter(tmp_path):
    done = _ingest(tmp_path, _csv(*GOOD, "lonely,ia,1"))
    assert "lonely" not in {user for user, _ in _events(done)}
    assert done.report["events"]["dropped_inactive_users"] == 1


def test_a_person_with_two_events_goes_to_train(tmp_path):
    done = _ingest(tmp_path, _csv(*GOOD, "short,ia,1", "short,ib,2"), min_user_interactions=2)
    [row] = [row for row in done.splits["train"] if row["user_id"] == ["short"]]
    assert row["item_id"] == ["ia", "ib"]
    assert "short" not in {user for user, _ in _events(done)}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"min_user_interactions": 4}, "The filters left nobody: 5 people and 3 items before"),
        ({"min_item_interactions": 6}, "min_item_interactions = 6"),
        ({"split": {"protocol": "leave_last", "num_targets": 2}}, "Split 'eval' is empty"),
        ({"max_sequence_length": 5}, r"max_sequence_length \(5\) must be larger"),
    ],
)
def test_settings_that_leave_nothing(tmp_path, config, message):
    with pytest.raises(DataError, match=message):
        _ingest(tmp_path, _csv(*GOOD), **config)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("", "log.csv is empty"),
        (f"{HEADER}\n", "contain no events: they are empty except for the header"),
        (_csv("u0,ia,x"), "no usable event"),
        (
            _csv(*GOOD, header="user,item_id,timestamp"),
            "user_column = 'user_id'; did you mean 'user'",
        ),
    ],
)
def test_files_that_hold_nothing_usable(tmp_path, data, message):
    with pytest.raises(DataError, match=message):
        _ingest(tmp_path, data, max_bad_row_fraction=1.0)


def test_a_quote_that_nothing_closes_costs_every_line_that_it_swallows(tmp_path):
    data = _csv(*GOOD[:9], '"u0,ia,1', *GOOD[9:])
    done = _ingest(tmp_path, data)
    assert done.report["tables"]["interactions"] == {"read": 16, "bad": {"unclosed_quote": 7}}
    assert [row["raw"] for row in done.bad_rows] == ['"u0,ia,1', *GOOD[9:]]
    with pytest.raises(DataError, match=r"unclosed_quote: 7 \(set `quoting: false`"):
        _ingest(tmp_path, data, max_bad_row_fraction=0.1)
    assert len(_events(_ingest(tmp_path, data, interactions={"quoting": False}))) == len(GOOD)


def test_a_file_that_breaks_off(tmp_path):
    whole = gzip.compress(_csv(*(f"u{n},i{n * 7919 % 1000},{n}" for n in range(5000))).encode())
    with pytest.raises(DataError, match=r"Cannot read .*log\.csv\.gz"):
        _ingest(tmp_path, whole[: len(whole) // 2], name="log.csv.gz")


def test_one_file_of_many_that_is_empty_or_breaks_off_is_named(tmp_path):
    (tmp_path / "a.csv").write_text(_csv(*GOOD))
    (tmp_path / "b.csv").write_text("")
    with pytest.raises(DataError, match=r"b\.csv is empty"):
        ingest(tmp_path, interactions={"files": [f"{tmp_path}/*.csv"]})


JSON_OBJECTS = [{"user_id": f"u{n}", "item_id": 1, "timestamp": 1} for n in range(3)]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "log.csv",
            gzip.compress(_csv(*GOOD).encode(), mtime=0),
            r"gzip \(rename it to end with \.gz\)",
        ),
        ("log.csv", bz2.compress(_csv(*GOOD).encode()), r"rename it to end with \.bz2"),
        ("log.jsonl", b"PAR1\x15\x04", r"Parquet \(set `format: parquet`\)"),
        ("log.json", json.dumps(JSON_OBJECTS), r"one JSON array .* jq -c"),
        ("log.json", json.dumps(JSON_OBJECTS, indent=1), r"one JSON array .* jq -c"),
        ("log.json", json.dumps(JSON_OBJECTS[0], indent=1), "none of the first lines"),
        ("log.csv", _csv(*GOOD, header=f"{HEADER},item_id"), "2 columns called 'item_id'"),
    ],
)
def test_a_file_of_another_kind_than_it_is_read_as(tmp_path, name, data, message):
    with pytest.raises(DataError, match=rf"{name}.*{message}"):
        _ingest(tmp_path, data, name=name)


def test_a_column_of_lists_is_no_id(tmp_path):
    table = pa.table({"user_id": [["a", "b"]], "item_id": ["i"], "timestamp": [1]})
    pyarrow.parquet.write_table(table, tmp_path / "log.parquet")
    with pytest.raises(DataError, match=r"log\.parquet: user_column = 'user_id' is a column of"):
        ingest(tmp_path, interactions={"files": [f"{tmp_path}/log.parquet"]})


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_directory_stands_for_the_files_in_it(tmp_path, ending):
    folder = tmp_path / "log"
    folder.mkdir()
    (folder / "part-0.csv").write_text(_csv(*GOOD[:6]))
    (folder / "part-1.csv").write_text(_csv(*GOOD[6:]))
    (folder / "_SUCCESS").write_text("")
    done = ingest(tmp_path, interactions={"files": [f"{folder}{ending}"]})
    assert len(_events(done)) == len(GOOD)
    (folder / "older").mkdir()
    with pytest.raises(DataError, match=r"has directories in it \(older\).*Write .*log/\*\*"):
        ingest(tmp_path, interactions={"files": [f"{folder}{ending}"]})


def test_events_of_the_future_are_counted_by_file(tmp_path):
    done = _ingest(tmp_path, _csv(*GOOD, "u0,ia,32503680000", "u1,ia,32503680000"))
    assert done.report["future_events"] == {f"{tmp_path}/log.csv": 2}
    assert "future_events" not in _ingest(tmp_path, _csv(*GOOD)).report


def test_the_report_names_the_files(tmp_path):
    assert _ingest(tmp_path, _csv(*GOOD)).report["files"] == {
        "interactions": [f"{tmp_path}/log.csv"]
    }


def test_a_numeric_feature_without_any_number_fails(tmp_path):
    (tmp_path / "items.csv").write_text("item_id,price\nia,cheap\nib,dear\nic,\n")
    items = {
        "files": [f"{tmp_path}/items.csv"],
        "features": {"price": {"column": "price", "kind": "numeric"}},
    }
    with pytest.raises(DataError) as error:
        _ingest(tmp_path, _csv(*GOOD), items=items)
    assert "items.features.price is of `kind: numeric`" in str(error.value)
    assert f"none of the 2 values in column 'price' of {tmp_path}/items.csv" in str(error.value)


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"No input file matches .*Nearest.*log\.csv"):
        _ingest(tmp_path, _csv(*GOOD), interactions={"files": [f"{tmp_path}/logs.csv"]})


def test_bad_items_and_profiles(tmp_path):
    (tmp_path / "items.csv").write_bytes(
        b"item_id,title,price\nia,T,1\n,no id,2\nia,again,3\nib,\xff,4\nic,,dear\n"
    )
    (tmp_path / "users.csv").write_text("user_id,city\nu0,X\nu0,Y\nu1\nstranger,Z\n")
    done = _ingest(
        tmp_path,
        _csv(*GOOD),
        items={
            "files": [f"{tmp_path}/items.csv"],
            "title_column": "title",
            "features": {"price": {"column": "price", "kind": "numeric"}},
        },
        users={"files": [f"{tmp_path}/users.csv"], "features": {"city": {"column": "city"}}},
    )
    assert done.report["tables"]["items"] == {
        "read": 5,
        "bad": {"missing_id": 1, "not_utf8": 1},
        "duplicate_ids": 1,
        "unparsable_numbers": {"price": 1},
    }
    assert done.report["tables"]["users"] == {
        "read": 4,
        "bad": {"wrong_number_of_columns": 1},
        "duplicate_ids": 1,
        "unparsable_numbers": {},
    }
    # The item whose row is bad is still in the catalogue: train holds it.
    train_items = {item for row in done.splits["train"] for item in row["item_id"]}
    assert train_items == {"ia"}
    assert done.splits["catalog"] == [
        {"item_id": ["ia"], "title": ["T"], "item_price": [1.0]},
        {"item_id": ["ic"]},
    ]
    cities = {row["user_id"][0]: row.get("user_city") for row in done.splits["train"]}
    assert cities == {"u0": ["X"], "u1": None, "u2": None, "u3": None, "u4": None}


def test_too_many_bad_items_fail_too(tmp_path):
    (tmp_path / "items.csv").write_text('item_id\nia\n""\n')
    with pytest.raises(DataError, match="1 of 2 rows of items are bad"):
        _ingest(
            tmp_path,
            _csv(*GOOD),
            items={"files": [f"{tmp_path}/items.csv"]},
            max_bad_row_fraction=0.1,
        )
