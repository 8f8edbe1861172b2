"""A window of spans through the real executor: what is read, kept, split and reported."""

import os
import pathlib

import numpy as np
import pytest

from components.example_gen.errors import DataError
from components.example_gen.splits import last_events
from tests.unit.components.example_gen.ingestion import ingest

_HEADER = "user_id,item_id,timestamp\n"
_DAY = 86_400
_DAYS = ("2026-11-24", "2026-11-25", "2026-11-26")


def _write(folder, span, rows, name="log.csv"):
    path = folder / "logs" / span / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_HEADER + "".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    _write(tmp_path, _DAYS[0], ["u1,a,10", "u1,b,20", "u2,a,30", "u3,c,40"])
    _write(tmp_path, _DAYS[1], [f"u1,c,{_DAY + 10}", f"u2,b,{_DAY + 5}", f"u4,a,{_DAY + 6}"])
    _write(
        tmp_path,
        _DAYS[2],
        [f"u1,d,{2 * _DAY + 1}", f"u2,c,{2 * _DAY + 2}", f"u2,d,{2 * _DAY + 3}", "u5,a,172900"],
    )
    return tmp_path


def _config(folder, spans=3, files="logs/{SPAN}/*.csv", **more):
    return {
        "interactions": {"files": [f"{folder}/{files}"]},
        "window": {"spans": spans, **more.pop("window", {})},
        # By this seed u1 is in eval and u2 in test.
        "split": {
            "protocol": "newest_span",
            "eval_fraction": 0.4,
            "seed": 1,
            **more.pop("split", {}),
        },
        "min_user_interactions": 2,
        "num_shards": 2,
        **more,
    }


def _items(rows):
    return {row["user_id"][0]: row["item_id"] for row in rows}


def _read_now(done):
    return [span["name"] for span in done.report["window"]["spans"] if span["read_now"]]


def test_the_newest_span_holds_the_targets_by_hand(folder):
    done = ingest(folder, **_config(folder))
    # u3, u4 and u5 have one event in the window.
    assert _items(done.splits["train"]) == {"u1": ["a", "b", "c"], "u2": ["a", "b"]}
    assert _items(done.splits["eval"]) == {"u1": ["a", "b", "c", "d"]}
    assert _items(done.splits["test"]) == {"u2": ["a", "b", "c", "d"]}
    assert [done.splits[split][0]["num_targets"] for split in ("eval", "test")] == [[1], [2]]


def test_eval_and_test_are_different_people_who_stay_where_they_are(folder):
    rows = [f"v{n},a,{n}" for n in range(200)] + [f"v{n},b,{n + 300}" for n in range(200)]
    _write(folder, _DAYS[1], rows)
    _write(folder, _DAYS[2], [f"v{n},c,{2 * _DAY + n}" for n in range(200)])
    done = ingest(folder, **_config(folder, spans=2))
    eval_people, test_people = (set(_items(done.splits[s])) for s in ("eval", "test"))
    assert not eval_people & test_people
    assert len(eval_people | test_people) == 200
    assert 50 < len(eval_people) < 110
    _write(folder, "2026-11-27", [f"v{n},d,{3 * _DAY + n}" for n in range(100)])
    later = ingest(folder, output="later", **_config(folder, spans=2, min_user_interactions=2))
    assert set(_items(later.splits["eval"])) < eval_people


def test_only_new_files_are_read(folder):
    _write(folder, _DAYS[2], ["u1,d,172801", "u2,c,172802"], name="early.csv")
    (folder / "logs" / _DAYS[2] / "log.csv").unlink()
    first = ingest(folder, **_config(folder))
    assert _read_now(first) == list(_DAYS)
    (folder / "logs" / _DAYS[0] / "log.csv").chmod(0o644)
    _write(folder, "2026-11-27", ["u1,a,260000", "u2,a,260001"])
    second = ingest(folder, output="second", **_config(folder))
    assert _read_now(second) == ["2026-11-27"]
    assert [span["name"] for span in second.report["window"]["spans"]] == [
        "2026-11-25",
        "2026-11-26",
        "2026-11-27",
    ]
    assert second.report["tables"]["interactions"]["read"] == 3 + 2 + 2


def test_a_corrected_file_is_read_again_and_no_other(folder):
    ingest(folder, **_config(folder))
    path = folder / "logs" / _DAYS[1] / "log.csv"
    before = path.stat()
    path.write_text(path.read_text().replace("u1,c", "u1,z"))  # as long as before
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    done = ingest(folder, output="second", **_config(folder))
    assert _read_now(done) == [_DAYS[1]]
    assert _items(done.splits["train"])["u1"] == ["a", "b", "z"]


def test_a_late_file_of_an_old_span_is_read_alone(folder):
    ingest(folder, **_config(folder))
    _write(folder, _DAYS[0], ["u4,z,3"], name="late.csv")
    done = ingest(folder, output="second", **_config(folder))
    assert _read_now(done) == [_DAYS[0]]
    assert _items(done.splits["train"])["u4"] == ["z", "a"]
    stored = [path.name for path in (folder / "spans" / _DAYS[0]).iterdir()]
    assert sorted(name.partition("-")[0] for name in stored) == ["late.csv", "log.csv"]


def test_the_highest_version_of_a_span_replaces_the_others(folder):
    for version, item in ((1, "old"), (2, "newer"), (10, "newest")):
        _write(folder, f"{_DAYS[0]}/v{version}", [f"u1,{item},1", "u1,b,20"])
    for day in _DAYS[1:]:
        (folder / "logs" / day / "log.csv").rename(
            _write(folder, f"{day}/v1", []).with_name("log.csv")
        )
    config = _config(folder, files="logs/{SPAN}/v{VERSION}/*.csv")
    done = ingest(folder, **config)
    assert _items(done.splits["train"])["u1"] == ["newest", "b", "c"]


def test_other_reading_code_or_columns_read_again(folder):
    ingest(folder, **_config(folder))
    assert _read_now(ingest(folder, output="b", **_config(folder))) == []
    other = ingest(folder, output="c", reading_digest="new", **_config(folder))
    assert _read_now(other) == list(_DAYS)
    config = _config(folder)
    config["interactions"]["timestamp_unit"] = "ms"
    assert _read_now(ingest(folder, output="d", **config)) == list(_DAYS)


def test_a_window_reads_what_the_files_themselves_give(folder):
    """The same splits, byte for byte, with and without spans in between."""
    split = {"protocol": "leave_last"}
    window = _config(folder, split=split)
    plain = {**window, "interactions": {"files": [f"{folder}/logs/*/*.csv"]}}
    del plain["window"]
    ingest(folder, output="window", **window)
    ingest(folder, output="kept", **window)
    done = ingest(folder, output="plain", **plain)
    assert {split: len(rows) for split, rows in done.splits.items()} == {
        "train": 2,
        "eval": 2,
        "test": 2,
        "catalog": 2,
    }
    shards = sorted(path.relative_to(folder / "plain") for path in folder.glob("plain/Split-*/*"))
    assert len(shards) == 4 * 2
    for shard in shards:
        expected = (folder / "plain" / shard).read_bytes()
        assert (folder / "window" / shard).read_bytes() == expected
        assert (folder / "kept" / shard).read_bytes() == expected


def test_items_that_left_the_window_leave_the_data_and_come_back(folder):
    _write(folder, "2026-11-27", [f"u1,a,{3 * _DAY + 9}", f"u2,c,{3 * _DAY}"])
    done = ingest(folder, **_config(folder, spans=2))
    assert {"c", "d"} == {item for row in done.splits["train"] for item in row["item_id"]}
    wide = ingest(folder, output="wide", **_config(folder, spans=4))
    assert "b" in {item for row in wide.splits["train"] for item in row["item_id"]}


def test_late_and_premature_events_in_the_newest_span_hardly_move_the_cut(folder):
    rows = [f"u1,x{n},{2 * _DAY + n}" for n in range(20)]
    _write(folder, _DAYS[2], ["u1,late,11", *rows, f"u2,c,{2 * _DAY + 30}"])
    done = ingest(folder, **_config(folder))
    row = next(r for s in ("eval", "test") for r in done.splits[s] if r["user_id"] == ["u1"])
    # 22 events are in the span; the last 22 of all begin with the latest of the day before.
    assert row["item_id"] == ["a", "late", "b", "c", *[f"x{n}" for n in range(20)]]
    assert row["num_targets"] == [21]


def test_a_gap_fails_or_is_counted(folder):
    (folder / "logs" / _DAYS[1] / "log.csv").unlink()
    with pytest.raises(DataError, match=rf"1 of the 3 spans .* no file: {_DAYS[1]}.*gaps"):
        ingest(folder, **_config(folder))
    done = ingest(folder, **_config(folder, window={"gaps": "count"}))
    assert done.report["window"]["missing"] == [_DAYS[1]]
    assert [span["name"] for span in done.report["window"]["spans"]] == [_DAYS[0], _DAYS[2]]


def test_one_bad_span_fails_though_the_window_as_a_whole_would_pass(folder):
    _write(folder, _DAYS[0], [f"u{n % 50},a,{n}" for n in range(10_000)])
    _write(folder, _DAYS[2], ["u1,d,tomorrow", "u2,c,172802"])
    with pytest.raises(DataError, match=rf"1 of 2 rows of span {_DAYS[2]} are bad \(50.0%\)"):
        ingest(folder, **_config(folder))
    # Once it is corrected, only that span is read again.
    _write(folder, _DAYS[2], ["u1,d,172801", "u2,c,172802"])
    assert _read_now(ingest(folder, output="second", **_config(folder))) == [_DAYS[2]]


def test_bad_rows_of_kept_spans_stay_counted_and_readable(folder):
    path = _write(folder, _DAYS[0], ["u1,a,10", "u1,b,20", "u2,a,30", ",c,40"])
    config = _config(folder, max_bad_row_fraction=0.3)
    first = ingest(folder, **config)
    second = ingest(folder, output="second", **config)
    assert _read_now(second) == []
    for done in (first, second):
        assert done.report["tables"]["interactions"]["bad"] == {"missing_user_id": 1}
        (bad,) = done.bad_rows
        assert (bad["reason"], bad["file"], bad["row"]) == ("missing_user_id", str(path), 5)
    assert second.report["window"]["spans"][0]["bad_rows"] == 1


def test_an_unreadable_file_is_named_and_the_files_that_were_read_are_kept(folder):
    broken = folder / "logs" / _DAYS[1] / "log.csv"
    broken.rename(broken.with_suffix(".csv.gz"))
    with pytest.raises(DataError, match=r"log\.csv\.gz"):
        ingest(folder, **_config(folder, files="logs/{SPAN}/log*"))
    stored = {path.parent.parent.name for path in folder.glob("spans/*/*/report.json")}
    assert stored <= {_DAYS[0], _DAYS[2]}


def test_what_a_killed_reader_left_is_not_taken_for_a_span(folder):
    ingest(folder, **_config(folder))
    (report,) = (folder / "spans" / _DAYS[1]).glob("*/report.json")
    report.unlink()  # it is written last
    done = ingest(folder, output="second", **_config(folder))
    assert _read_now(done) == [_DAYS[1]]
    assert _items(done.splits["train"]) == {"u1": ["a", "b", "c"], "u2": ["a", "b"]}


def test_the_cut_is_the_time_of_the_newest_span_whatever_its_size():
    times, counts = np.array([1, 5, 7, 9]), np.array([4, 1, 2, 3])
    assert [last_events(times, counts, n) for n in (0, 2, 3, 4, 5, 6, 10, 99)] == [
        10,
        10,
        9,
        9,
        7,
        5,
        1,
        1,
    ]


def test_example_gen_needs_no_folder_for_spans_without_a_window(tmp_path):
    (tmp_path / "log.csv").write_text(_HEADER + "u,a,1\nu,b,2\nu,c,3\nu,d,4\n")
    ingest(tmp_path, interactions={"files": [f"{tmp_path}/log.csv"]})
    assert not pathlib.Path(tmp_path / "spans").exists()
