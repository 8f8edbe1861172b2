"""People and items that are never read again."""

import hashlib
import json

import pyarrow as pa
import pytest

from components.example_gen.errors import DataError
from components.example_gen.forgotten import (
    NOBODY,
    Forgotten,
    add_forgotten,
    entries,
    read_forgotten,
)
from tests.unit.components.example_gen.ingestion import ingest

_HEADER = "user_id,item_id,timestamp\n"


@pytest.fixture
def listed(tmp_path):
    """Makes a list; returns its path."""

    def make(**ids):
        path = tmp_path / "list" / "shop.json"
        add_forgotten(path, ids, "2026-11-26")
        return path

    return make


def _hmac(key, text):
    """HMAC-SHA256 as RFC 2104 defines it, for a key no longer than a block."""
    key = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + text).digest()
    return hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).hexdigest()


def test_the_list_holds_keyed_hashes_and_no_ids(listed):
    path = listed(users=["somebody"], items=["something"])
    key_file = path.with_name("shop.json.key")
    key = bytes.fromhex(key_file.read_text())
    assert json.loads(path.read_text()) == {
        "users": {_hmac(key, b"somebody"): "2026-11-26"},
        "items": {_hmac(key, b"something"): "2026-11-26"},
    }
    assert {file.stat().st_mode & 0o777 for file in (path, key_file)} == {0o600}
    assert len(key) == 32


def test_ids_are_added_once_and_keep_their_day(listed):
    path = listed(users=["a"])
    assert add_forgotten(path, {"users": ["a", "b"], "items": ["a"]}, "2026-12-01") == 2
    assert sorted(entries(path)["users"].values()) == ["2026-11-26", "2026-12-01"]
    before = read_forgotten(str(path))
    assert add_forgotten(path, {"users": ["b"]}, "2026-12-02") == 0
    assert read_forgotten(str(path)) == before


def test_the_digest_follows_the_list_and_the_key(listed):
    one = read_forgotten(str(listed(users=["a"])))
    assert one.digest
    other_key = Forgotten(b"k", one.users, one.items)
    more = read_forgotten(str(listed(users=["b"])))
    assert len({one.digest, other_key.digest, more.digest, NOBODY.digest}) == 4
    assert NOBODY.digest == Forgotten(b"k").digest == ""


def test_ids_of_one_kind_do_not_count_as_the_other(listed):
    forgotten = read_forgotten(str(listed(users=["a"], items=["b"])))
    values = pa.array(["a", None, "b", "", "a"])
    assert forgotten.is_listed("users", values).tolist() == [True, False, False, False, True]
    assert forgotten.is_listed("items", values).tolist() == [False, False, True, False, False]
    assert NOBODY.is_listed("users", values).tolist() == [False] * 5


@pytest.mark.parametrize("lost", ["shop.json", "shop.json.key"])
def test_a_list_that_was_lost_stops_the_run(listed, tmp_path, lost):
    path = listed(users=["a"])
    path.with_name(lost).unlink()
    with pytest.raises(DataError, match="would be read again"):
        read_forgotten(str(path))


@pytest.fixture
def shop(tmp_path):
    """A log, items and people, with bad rows of those who are to be forgotten."""
    rows = [f"{user},{item},{n}" for n, item in enumerate("abcd") for user in ("u1", "u2", "u3")]
    rows += ["u2,a,yesterday", "u1,a,yesterday", "u1,c,", "u1,  ,5", "u2,broken"]
    (tmp_path / "log.csv").write_text(_HEADER + "\n".join(rows) + "\n")
    (tmp_path / "items.csv").write_text("item_id,genre\na,x\nb,y\nc,z\nd,x\n")
    (tmp_path / "users.csv").write_text("user_id,age\nu1,old\nu2,young\n")
    return {
        "interactions": {"files": [f"{tmp_path}/log.csv"]},
        "items": {
            "files": [f"{tmp_path}/items.csv"],
            "features": {"genre": {"column": "genre"}},
        },
        "users": {
            "files": [f"{tmp_path}/users.csv"],
            "features": {"age": {"column": "age"}},
        },
        "min_user_interactions": 2,
        "max_bad_row_fraction": 1.0,
        "num_shards": 1,
    }


def test_people_and_items_on_the_list_are_not_read(tmp_path, shop, listed):
    done = ingest(tmp_path, **shop, forgotten=str(listed(users=["u2"], items=["c"])))
    people = {
        row["user_id"][0] for split in ("train", "eval", "test") for row in done.splits[split]
    }
    assert people == {"u1", "u3"}
    assert [row["item_id"] for row in done.splits["test"]] == [["a", "b", "d"]] * 2
    assert sorted(row["item_id"][0] for row in done.splits["catalog"]) == ["a", "b", "d"]
    tables = done.report["tables"]
    # Of u2 four events and the bad one; of c two more events, and the bad one of u1.
    assert tables["interactions"] == {
        "read": 17,
        "forgotten": 8,
        "bad": {"unparsable_timestamp": 1, "missing_item_id": 1, "wrong_number_of_columns": 1},
    }
    assert (tables["items"]["forgotten"], tables["users"]["forgotten"]) == (1, 1)
    assert done.report["events"]["kept"] == 6


def test_bad_rows_do_not_show_who_was_forgotten(tmp_path, shop, listed):
    done = ingest(tmp_path, **shop, forgotten=str(listed(users=["u2"], items=["c"])))
    by_reason = {row["reason"]: row["raw"] for row in done.bad_rows}
    assert by_reason["unparsable_timestamp"]["user_id"] == "u1"
    # Which cell of this row is whose id nobody can tell: it is "u2,broken".
    assert by_reason["wrong_number_of_columns"].startswith("not shown")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".csv"]
    assert not any(b"u2" in path.read_bytes() for path in written)


def test_without_a_list_everything_is_as_before(tmp_path, shop):
    done = ingest(tmp_path, **shop)
    assert "forgotten" not in done.report["tables"]["interactions"]
    assert {row["user_id"][0] for row in done.splits["test"]} == {"u1", "u2", "u3"}
    assert {row["raw"] if isinstance(row["raw"], str) else "" for row in done.bad_rows} == {
        "",
        "u2,broken",
    }


def test_kept_spans_are_read_again_without_who_was_forgotten(tmp_path, listed):
    for day, rows in ((1, ["u1,a,1", "u2,a,2", "u1,b,3", "u2,b,4"]), (2, ["u1,c,9", "u2,c,8"])):
        (tmp_path / f"{day}.csv").write_text(_HEADER + "\n".join(rows) + "\n")
    config = {
        "interactions": {"files": [f"{tmp_path}/{{SPAN}}.csv"]},
        "window": {"spans": 2},
        "min_user_interactions": 2,
        "num_shards": 1,
    }
    first = ingest(tmp_path, **config)
    kept = sorted((tmp_path / "spans").glob("*/*"))
    path = listed(users=["u2"])
    second = ingest(tmp_path, **config, forgotten=str(path), output="second")
    assert {row["user_id"][0] for row in first.splits["test"]} == {"u1", "u2"}
    assert {row["user_id"][0] for row in second.splits["test"]} == {"u1"}
    assert second.report["tables"]["interactions"] == {"read": 6, "bad": {}, "forgotten": 3}
    assert all(span["read_now"] for span in second.report["window"]["spans"])
    new = sorted(set((tmp_path / "spans").glob("*/*")) - set(kept))
    assert len(new) == 2
    third = ingest(tmp_path, **config, forgotten=str(path), output="third")
    assert not any(span["read_now"] for span in third.report["window"]["spans"])
    assert third.report["tables"] == second.report["tables"]
