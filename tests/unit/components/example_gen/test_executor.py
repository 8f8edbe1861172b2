"""The whole ExampleGen on real files, through Beam's DirectRunner."""

import hashlib
import pathlib
import random

import pandas as pd
import pytest
import yaml
from tfx.components.util import examples_utils
from tfx.proto import example_gen_pb2
from tfx.types import artifact_utils

from tests.unit.components.example_gen.ingestion import ingest

CONFIGS = pathlib.Path(__file__).parents[4] / "configs"
LOG = """user_id,item_id,timestamp
u2,a,3
u1,a,1
u1,b,2
u2,b,1
u1,c,3
u1,d,4
u2,c,2
u3,a,1
u3,b,1
u3,e,9
u1,rare,5
"""
ITEMS = """item_id,title,genre
a,The "A",x|y
never,"Never, bought",z
b,,x
"""
USERS = """user_id,age
u1,30
u9,50
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "items.csv").write_text(ITEMS)
    (tmp_path / "users.csv").write_text(USERS)
    return tmp_path


def _config(folder, **more):
    return {
        "interactions": {"files": [f"{folder}/log.csv"]},
        "items": {
            "files": [f"{folder}/items.csv"],
            "title_column": "title",
            "features": {"genre": {"column": "genre", "separator": "|"}},
        },
        "users": {
            "files": [f"{folder}/users.csv"],
            "features": {"age": {"column": "age", "kind": "numeric"}},
        },
        **more,
    }


def _items(rows):
    return {row["user_id"][0]: row["item_id"] for row in rows}


def test_leave_last_by_hand(folder):
    done = ingest(folder, **_config(folder))
    assert _items(done.splits["train"]) == {"u1": ["a", "b", "c"], "u2": ["b"], "u3": ["a"]}
    assert _items(done.splits["eval"]) == {
        "u1": ["a", "b", "c", "d"],
        "u2": ["b", "c"],
        "u3": ["a", "b"],
    }
    assert _items(done.splits["test"]) == {
        "u1": ["a", "b", "c", "d", "rare"],
        "u2": ["b", "c", "a"],
        "u3": ["a", "b", "e"],
    }
    [u1] = [row for row in done.splits["test"] if row["user_id"] == ["u1"]]
    assert u1 == {
        "user_id": ["u1"],
        "user_age": [30.0],
        "item_id": ["a", "b", "c", "d", "rare"],
        "timestamp": [1, 2, 3, 4, 5],
        "num_targets": [1],
        "history_length_bucket": ["1-4"],
    }
    # The items file, and what else train holds: c. Not d, e, rare: eval and test only.
    assert done.splits["catalog"] == [
        {"item_id": ["a"], "title": ['The "A"'], "item_genre": ["x", "y"]},
        {"item_id": ["never"], "title": ["Never, bought"], "item_genre": ["z"]},
        {"item_id": ["b"], "item_genre": ["x"]},
        {"item_id": ["c"]},
    ]
    assert done.bad_rows == []
    assert done.report == {
        "span": "",
        "files": {
            "interactions": [str(folder / "log.csv")],
            "items": [str(folder / "items.csv")],
            "users": [str(folder / "users.csv")],
        },
        "numbers": {"items": {}, "users": {"age": 2}},
        "tables": {
            "interactions": {"read": 11, "bad": {}},
            "items": {"read": 3, "bad": {}, "duplicate_ids": 0, "unparsable_numbers": {}},
            "users": {"read": 2, "bad": {}, "duplicate_ids": 0, "unparsable_numbers": {}},
        },
        "events": {
            "valid": 11,
            "duplicates": 0,
            "dropped_duplicates": 0,
            "dropped_rare_items": 0,
            "dropped_inactive_users": 0,
            "dropped_beyond_limit": 0,
            "kept": 11,
            "history_only": 0,
        },
        "users": {"read": 3, "kept": 3},
        "items": {"read": 6, "kept": 6},
        "time": {"first": 1, "last": 9},
        "splits": {
            "train": {"sequences": 3, "events": 5, "rows": 3},
            "eval": {
                "sequences": 3,
                "events": 8,
                "targets": 3,
                "rows": 3,
                "repeated_share": 0.0,
            },
            "test": {
                "sequences": 3,
                "events": 11,
                "targets": 3,
                "rows": 3,
                "repeated_share": 0.0,
            },
        },
        "catalogue": {"items": 4, "trained": 3, "not_in_items_file": 1},
        "bad_rows": "",
    }


def test_rest_holds_what_train_leaves_out_in_the_form_of_train(folder):
    done = ingest(folder, with_rest=True, **_config(folder))
    assert artifact_utils.decode_split_names(done.examples.split_names)[-1] == "rest"
    assert _items(done.splits["rest"]) == {
        "u1": ["a", "b", "c", "d", "rare"],
        "u2": ["b", "c", "a"],
        "u3": ["a", "b", "e"],
    }
    [u1] = [row for row in done.splits["rest"] if row["user_id"] == ["u1"]]
    assert (u1["num_context"], u1["num_targets"]) == ([3], [0])
    assert u1.keys() == done.splits["train"][0].keys() | {"user_age"}
    assert done.report["splits"]["rest"] == {"sequences": 3, "events": 6, "rows": 3}
    # The judged model must not know what it is asked for.
    assert "d" not in {row["item_id"][0] for row in done.splits["catalog"]}


def test_filters_items_first_then_people(folder):
    done = ingest(folder, **_config(folder, min_item_interactions=2, min_user_interactions=3))
    # d, e and rare occur once; without e, u3 has two events.
    assert _items(done.splits["test"]) == {"u1": ["a", "b", "c"], "u2": ["b", "c", "a"]}
    assert done.report["events"]["dropped_rare_items"] == 3
    assert done.report["events"]["dropped_inactive_users"] == 2
    assert done.report["users"] == {"read": 3, "kept": 2}
    assert done.report["items"] == {"read": 6, "kept": 3}


def test_artifact_is_what_tfx_expects(folder):
    done = ingest(folder, span="12", **_config(folder, num_shards=3))
    splits = ["train", "eval", "test", "catalog"]
    assert artifact_utils.decode_split_names(done.examples.split_names) == splits
    assert done.examples.span == 12
    assert examples_utils.get_payload_format(done.examples) == (
        example_gen_pb2.PayloadFormat.FORMAT_TF_EXAMPLE
    )
    assert examples_utils.get_file_format(done.examples) == "tfrecords_gzip"
    for split in splits:
        uri = pathlib.Path(artifact_utils.get_split_uri([done.examples], split))
        assert sorted(file.name for file in uri.iterdir()) == [
            f"data_tfrecord-0000{shard}-of-00003.gz" for shard in range(3)
        ]
    assert {path.name for path in pathlib.Path(done.examples.uri).iterdir()} == {
        "ingest_report.json",
        *(f"Split-{split}" for split in splits),
    }


def _digests(uri):
    return {
        str(path.relative_to(uri)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(pathlib.Path(uri).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("protocol", ["leave_last", "user", "time"])
def test_same_input_gives_the_same_bytes_and_shards_do_not_change_rows(tmp_path, protocol):
    rng = random.Random(0)
    rows = [
        (f"u{rng.randrange(40)}", f"i{rng.randrange(30)}", rng.randrange(500)) for _ in range(900)
    ]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(
        tmp_path / "log.csv", index=False
    )
    config = {
        "interactions": {"files": [f"{tmp_path}/log.csv"]},
        "split": {"protocol": protocol, "eval_fraction": 0.2, "test_fraction": 0.2},
    }
    first = ingest(tmp_path, output="1", num_shards=3, **config)
    again = ingest(tmp_path, output="2", num_shards=3, **config)
    assert _digests(first.examples.uri) == _digests(again.examples.uri)
    alone = ingest(tmp_path, output="3", num_shards=1, **config)
    assert alone.report == first.report
    for split, rows in alone.splits.items():
        key = "item_id" if split == "catalog" else "user_id"
        assert sorted(rows, key=lambda row: row[key]) == sorted(
            first.splits[split], key=lambda row: row[key]
        )


def test_vocabulary_items_come_from_train_only(tmp_path):
    # Under `time`, `late` occurs only after the cut, and nobody describes it.
    rows = [("u1", "a", t) for t in range(8)] + [("u2", "b", t) for t in range(8)]
    rows += [("u1", "late", 90), ("u2", "late", 91), ("u1", "late", 100), ("u2", "late", 101)]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(
        tmp_path / "log.csv", index=False
    )
    done = ingest(
        tmp_path,
        interactions={"files": [f"{tmp_path}/log.csv"]},
        split={"protocol": "time"},
    )
    assert [row["item_id"] for row in done.splits["catalog"]] == [["a"], ["b"]]
    assert {item for row in done.splits["train"] for item in row["item_id"]} == {"a", "b"}
    assert [row["item_id"][-1] for row in done.splits["eval"]] == ["late", "late"]
    assert done.report["splits"]["test"]["repeated_share"] == 1.0


def test_every_format_gives_the_same(folder):
    """One file of each format, in place of one file with all rows."""
    log = pd.read_csv(folder / "log.csv")
    log[:3].to_csv(folder / "1.csv.gz", index=False)
    log[3:6].to_parquet(folder / "2.parquet")
    log[6:8].to_json(folder / "3.jsonl", orient="records", lines=True)
    config = _config(folder)
    expected = ingest(folder, output="one", **config)
    log[8:].to_csv(folder / "4.csv", index=False)
    config["interactions"] = {"files": [f"{folder}/[123].*", f"{folder}/4.csv"]}
    found = ingest(folder, output="many", **config)
    assert found.splits == expected.splits
    del found.report["files"], expected.report["files"]
    assert found.report == expected.report


def test_long_history_is_chunked_and_nothing_is_lost(tmp_path):
    rows = [("u", f"i{n}", n) for n in range(100)] + [
        ("v", "i1", 1),
        ("v", "i2", 2),
        ("v", "i3", 3),
    ]
    pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]).to_csv(
        tmp_path / "log.csv", index=False
    )
    done = ingest(
        tmp_path,
        history_length=5,
        interactions={"files": [f"{tmp_path}/log.csv"]},
        max_sequence_length=20,
    )
    chunks = [row for row in done.splits["train"] if row["user_id"] == ["u"]]
    assert max(len(row["item_id"]) for row in chunks) == 20
    assert [i for row in chunks for i in row["item_id"][row["num_context"][0] :]] == [
        f"i{n}" for n in range(98)
    ]
    [test] = [row for row in done.splits["test"] if row["user_id"] == ["u"]]
    assert test["item_id"] == [f"i{n}" for n in range(79, 100)]
    assert test["history_length_bucket"] == ["50+"]


ML_1M = {
    "ratings.dat": "1::10::5::978300760\n1::20::3::978300761\n1::30::4::978300762\n",
    "movies.dat": "10::Misérables, Les (1995)::Drama|Musical\n20::Star Wars: IV::Action\n",
    "users.dat": "1::F::1::10::48067\n",
}


def test_movielens_1m_as_its_authors_write_it(tmp_path, monkeypatch):
    config = yaml.safe_load((CONFIGS / "movielens-1m.yaml").read_text())["data"]
    (tmp_path / "data/ml-1m").mkdir(parents=True)
    for name, text in ML_1M.items():
        (tmp_path / "data/ml-1m" / name).write_bytes(text.encode("latin-1"))
    monkeypatch.chdir(tmp_path)
    config.update(min_item_interactions=1, min_user_interactions=2, split={})
    done = ingest(tmp_path, **config)
    assert done.splits["test"] == [
        {
            "user_id": ["1"],
            "user_gender": ["F"],
            "user_age": ["1"],
            "user_occupation": ["10"],
            "item_id": ["10", "20", "30"],
            "timestamp": [978300760, 978300761, 978300762],
            "num_targets": [1],
            "history_length_bucket": ["1-4"],
        }
    ]
    assert done.splits["catalog"] == [
        {
            "item_id": ["10"],
            "title": ["Misérables, Les (1995)"],
            "item_genre": ["Drama", "Musical"],
        },
        {"item_id": ["20"], "title": ["Star Wars: IV"], "item_genre": ["Action"]},
    ]


@pytest.mark.slow
def test_runs_in_worker_processes(folder):
    """Nothing but elements and files passes between stages."""
    expected = ingest(folder, output="1", **_config(folder, num_shards=2))
    beam_args = [
        "--runner=DirectRunner",
        "--direct_running_mode=multi_processing",
        "--direct_num_workers=2",
    ]
    found = ingest(folder, output="2", beam_args=beam_args, **_config(folder, num_shards=2))
    assert _digests(found.examples.uri) == _digests(expected.examples.uri)
