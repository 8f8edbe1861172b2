"""Measures of spans by hand, through the real executor."""

import pytest
from scipy.spatial import distance

from tests.unit.components.example_gen.ingestion import ingest

_DAY = 86_400


def _write(folder, span, rows):
    path = folder / f"{span}.csv"
    path.write_text("user_id,item_id,timestamp\n" + "".join(f"{row}\n" for row in rows))


def _measures(folder, **more):
    done = ingest(
        folder,
        interactions={"files": [f"{folder}/{{SPAN}}.csv"]},
        window={"spans": 3},
        split={"protocol": "newest_span", "eval_fraction": 0.4, "seed": 1},
        min_user_interactions=2,
        max_bad_row_fraction=0.5,
        num_shards=2,
        **more,
    )
    return done.report["window"]["measures"]


@pytest.fixture
def folder(tmp_path):
    _write(tmp_path, 1, ["u1,a,10", "u1,b,20", "u2,a,30", "u3,c,40"])
    _write(tmp_path, 2, [f"u1,c,{_DAY + 10}", f"u2,b,{_DAY + 5}", f"u4,a,{_DAY + 6}"])
    # The first event stands in span 1, the second is older than the newest of span 2.
    newest = ["u3,c,40", f"u2,c,{_DAY}", f"u2,d,{2 * _DAY}", f"u2,d,{2 * _DAY + 3}"]
    _write(tmp_path, 3, [*newest, f"u1,d,{2 * _DAY + 1}", "u5,a,4000000000", ",a,1", "u1,,2"])
    return tmp_path


def test_a_span_beside_those_before_it_by_hand(folder):
    first, second, newest = _measures(folder)
    assert [span["name"] for span in (first, second, newest)] == ["1", "2", "3"]
    assert first["new_item_share"] is first["item_drift"] is first["repeated_share"] is None
    assert (second["events"], second["people"], second["busiest_person"]) == (3, 3, 1)
    assert second["new_item_share"] == 0.0
    assert second["gap_drift"] is None  # nobody has two events in span 2
    assert second["new_people_share"] == pytest.approx(1 / 3)  # u4
    assert (newest["events"], newest["people"], newest["busiest_person"]) == (6, 4, 3)
    assert newest["bad_share"] == pytest.approx(2 / 8)
    assert newest["repeated_share"] == pytest.approx(1 / 6)
    assert newest["early_share"] == pytest.approx(2 / 6)
    assert newest["future_share"] == pytest.approx(1 / 6)
    assert newest["new_item_share"] == pytest.approx(3 / 6)  # d
    assert newest["new_people_share"] == pytest.approx(1 / 4)  # u5


def test_drifts_by_hand(folder):
    newest = _measures(folder)[-1]
    # Before: a 3, b 2 and c 2 of 7 events, which begin at 0, 3/7 and 5/7: three buckets.
    before, now = [3 / 7, 2 / 7, 2 / 7, 0], [1 / 6, 0, 2 / 6, 3 / 6]
    assert newest["item_drift"] == pytest.approx(distance.jensenshannon(before, now, 2) ** 2)
    # People with 1 and with 2 or 3 events: 2 and 1 in span 1, all three with 1 in span 2.
    assert newest["activity_drift"] == pytest.approx(distance.jensenshannon([5, 1], [3, 1], 2) ** 2)
    # Seconds between events, plus one: 11 in span 1; 86,401 and 4 in span 3.
    assert newest["gap_drift"] == 1.0


def test_only_the_spans_of_the_window_that_are_compared_are_measured(tmp_path):
    for span in range(1, 13):
        _write(tmp_path, span, [f"u{n},a{n % 3},{span * 100 + n}" for n in range(6)])
    done = ingest(
        tmp_path,
        interactions={"files": [f"{tmp_path}/{{SPAN}}.csv"]},
        window={"spans": 12},
        split={"protocol": "newest_span", "eval_fraction": 0.4, "seed": 1},
        num_shards=1,
    )
    measures = done.report["window"]["measures"]
    assert [span["name"] for span in measures] == [str(n) for n in range(5, 13)]
    # Of the first spans only the counts are kept, but their items and people are known.
    assert {span["new_item_share"] for span in measures} == {0.0}
