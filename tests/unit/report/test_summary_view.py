import pytest

from contract.metric_names import CUTOFF_QUANTITIES
from report import summary_view, training_view
from tests.unit.report import summaries


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("recall_at_50", "Recall@50"),
        ("ndcg_at_10_history_included", "NDCG@10"),
        ("hit_rate_at_20", "Hit rate@20"),
        ("mrr_history_included", "MRR"),
        ("recall_at_50_tail", "Recall@50, tail"),
        ("recall_at_50_lift_over_popularity", "Recall@50 above popularity"),
        ("recall_at_50_history_included_lift_over_popularity", "Recall@50 above popularity"),
    ],
)
def test_metric_label(name, label):
    assert summary_view.metric_label(name) == label


def test_every_quantity_has_a_word_and_coverage_has_one_name():
    assert set(summary_view.QUANTITIES) == set(CUTOFF_QUANTITIES)
    assert summary_view.metric_name("ndcg", 20, True) == "ndcg_at_20_history_included"
    assert summary_view.metric_name("coverage", 20, True) == "coverage_at_20"
    assert summary_view.metric_name("mrr", None, False) == "mrr"


def test_cutoffs_are_those_measured():
    names = ["recall_at_5", "recall_at_100", "recall_at_5_history_included", "recall_at_5_tail"]
    metrics = {"mind": {"overall": {name: {"value": 0.0} for name in names}}}
    assert summary_view.cutoffs(metrics) == [5, 100]


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("recall_at_5", 0.1, 0.4, (0.1, 0.4)),
        ("hit_rate_at_5", 0.9, 1.005, (0.9, 1.0)),
        ("mrr", -0.01, 0.2, (0.0, 0.2)),
        ("recall_at_5_lift_over_popularity", -0.02, 0.1, (-0.02, 0.1)),
        ("coverage_at_5", 0.1, 0.2, (None, None)),
    ],
)
def test_intervals_stay_within_what_the_metric_can_be(metric, low, high, expected):
    metrics = {"mind": {"overall": {metric: {"value": 0.15, "low": low, "high": high}}}}
    found = summary_view.estimate(metrics, "mind", metric)
    assert found.value == 0.15
    assert (found.low, found.high) == expected


def test_what_was_not_measured_is_none():
    metrics = {"mind": {"overall": {"recall_at_5_unseen": {}}}}
    assert summary_view.estimate(metrics, "mind", "recall_at_5_unseen") is None
    assert summary_view.estimate(metrics, "pushed", "recall_at_5") is None


def test_events_read_are_kept_or_dropped():
    data = summaries.pushed()["data"]
    dropped = summary_view.dropped_events(data)
    assert dropped == {"negative timestamp": 1, "unparsable timestamp": 2, "item too rare": 710}
    assert data["events"]["kept"] + sum(dropped.values()) == 100_000
    data["tables"]["interactions"]["forgotten"] = 5
    assert summary_view.dropped_events(data)["person or item forgotten"] == 5


def test_gates_pass_in_a_pushed_run():
    lift, change = summary_view.gates(summaries.pushed())
    assert lift.passed
    assert (lift.condition, lift.measured) == (
        "Recall@50 above popularity by more than 0",
        "0.1870 above",
    )
    assert change.passed
    assert (change.condition, change.measured) == (
        "Recall@50 at most 0.01 below the last pushed model",
        "0.0110 above",
    )


def test_no_gate_on_the_pushed_model_before_the_first_push():
    summary = summaries.pushed()
    del summary["metrics"]["pushed"]
    assert [gate.condition for gate in summary_view.gates(summary)] == [
        "Recall@50 above popularity by more than 0"
    ]


def test_a_refusal_says_what_was_required_and_measured():
    summary = summaries.refused()
    assert summary_view.verdict(summary) == "Not blessed, not pushed"
    assert summary_view.why_not_pushed(summary) == [
        "Required: Recall@50 at most 0.01 below the last pushed model; measured: 0.0170 below"
    ]


def test_an_unexplained_refusal_gives_the_evaluators_reason():
    summary = summaries.pushed()
    summary["blessing"] |= {"blessed": False, "reasons": ["a slice is missing"]}
    summary["push"]["pushed"] = False
    assert summary_view.why_not_pushed(summary) == ["a slice is missing"]


def test_a_refused_index_is_the_reason():
    summary = summaries.pushed()
    summary["push"]["pushed"] = False
    summary["index"] |= {"blessed": False, "reasons": ["recall@100 is 0.9"]}
    assert summary_view.verdict(summary) == "Blessed, but the index was refused: not pushed"
    assert summary_view.why_not_pushed(summary) == ["recall@100 is 0.9"]


def test_what_was_pushed_is_not_said_to_serve_while_another_version_is_pinned():
    summary = summaries.pushed()
    version = summary["push"]["version"]
    assert summary_view.verdict(summary) == f"Blessed and pushed as version {version}"
    summary["push"]["in_service"] = "17"
    expected = f"Blessed and pushed as version {version}; version 17 is in service"
    assert summary_view.verdict(summary) == expected


def test_a_withdrawn_model_is_not_said_to_be_pushed():
    summary = summaries.pushed()
    summary["push"] |= {
        **{"pushed": False, "version": "", "path": ""},
        **{"withdrawn_version": "17", "not_pushed_because": "Version 17 was withdrawn"},
    }
    assert summary_view.verdict(summary) == "Blessed, but withdrawn as version 17: not pushed"
    assert summary_view.why_not_pushed(summary) == ["Version 17 was withdrawn"]


def test_history_buckets_are_ordered_by_length():
    labels = ["50+", "5-9", "100+", "10-19", "1-4"]
    metrics = {"mind": {f"history_length_bucket={label}": {} for label in labels} | {"overall": {}}}
    assert [label for _, label in summary_view.history_buckets(metrics)] == [
        "1-4",
        "5-9",
        "10-19",
        "50+",
        "100+",
    ]


def test_hits_are_recommended_targets():
    person = {
        "targets": [{"item_id": "a"}, {"item_id": "z"}],
        "interests": [
            {"interest": 0, "items": [{"item_id": "b"}]},
            {"interest": 1, "items": [{"item_id": "c"}, {"item_id": "a"}]},
        ],
    }
    assert summary_view.hits(person) == {"a"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.97, "1 min 00 s"),
        (42, "42 s"),
        (60, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (3725.0, "1 h 02 min"),
    ],
)
def test_duration(seconds, text):
    assert summary_view.duration(seconds) == text


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(999, "999 B"), (1000, "1.0 kB"), (3_482_112, "3.5 MB"), (2e9, "2.0 GB")],
)
def test_size(num_bytes, text):
    assert summary_view.size(num_bytes) == text


def test_a_window_is_told_in_one_line():
    spans = [{"name": name, "read_now": name == "3"} for name in ("1", "3")]
    data = {"window": {"spans": spans, "missing": ["2"]}}
    assert summary_view.window(data) == (
        "1 to 3, 2 spans: 1 read now, 1 kept from earlier runs; 1 missing: 2"
    )
    assert summary_view.window({}) == ""


@pytest.mark.parametrize(
    ("removed", "expected"),
    [
        (None, ""),
        ({}, ""),
        ({"runs": 1, "bytes": 1_500}, "1 run, 1.5 kB"),
        (
            {"runs": 2, "artifacts": 1_250, "versions": 3, "spans": 1, "bytes": 214_000_000},
            "2 runs, 1,250 artifacts, 3 versions, 1 kept file, 214.0 MB",
        ),
        ({"bytes": 12}, "12 B"),  # nothing but logs or checkpoints
        ({"failed": ["/x: busy"]}, "could not be removed: /x: busy"),
        (
            {"versions": 1, "bytes": 9, "failed": ["/x: a", "/y: b", "/z: c"]},
            "1 version, 9 B; could not be removed: /x: a and 2 more",
        ),
    ],
)
def test_what_was_removed_is_one_line(removed, expected):
    nothing = {"runs": 0, "artifacts": 0, "versions": 0, "spans": 0, "bytes": 0, "failed": []}
    summary = {} if removed is None else {"removed": {**nothing, **removed}}
    assert summary_view.removed(summary) == expected


def _finding(rail, tripped, stops):
    return {"rail": rail, "message": f"About {rail}", "tripped": tripped, "stops": stops}


def test_guard_rails_warn_and_hold_back():
    summary = summaries.pushed()
    assert summary_view.warnings(summary) == []
    summary["guard_rails"] = {
        "data": [_finding("item_drift", False, True), _finding("gap_drift", True, False)],
        "model": [_finding("worse_than_item_knn", True, False)],
    }
    assert summary_view.warnings(summary) == [
        "About gap_drift (gap_drift).",
        "About worse_than_item_knn (worse_than_item_knn).",
    ]
    assert summary_view.verdict(summary).startswith("Blessed and pushed")
    summary["guard_rails"]["model"].append(_finding("distinct_lists", True, True))
    summary["push"] |= {"pushed": False, "version": "", "path": ""}
    assert summary_view.verdict(summary) == "Held back by a guard rail, not pushed"
    assert summary_view.why_not_pushed(summary) == ["About distinct_lists (distinct_lists)"]
    assert [f.rail for f in summary_view.guard_rail_findings(summary)] == [
        "distinct_lists",
        "gap_drift",
        "worse_than_item_knn",
        "item_drift",
    ]


def test_what_is_unusual_about_the_training_is_said():
    summary = summaries.pushed()
    assert training_view.notes(summary) == []
    summary["training"]["from_nothing_because"] = "the items drifted (item_drift)"
    summary["final_training"] = {"steps": 1200, "reasons": []}
    assert training_view.notes(summary) == [
        "The training started from nothing: the items drifted (item_drift).",
        "The model to push was trained again for the same 1,200 steps, including the test events.",
    ]


@pytest.mark.parametrize(
    ("kept", "beginning"), [(1, "One interest is kept: "), (4, "4 interests are kept: ")]
)
def test_the_choice_of_the_number_of_interests_is_said(kept, beginning):
    summary = summaries.pushed()
    summary["training"]["interest_choice"] = {
        "num_interests": kept,
        "several": 4,
        "cutoff": 50,
        "recall_with_one": 0.25,
        "recall_with_several": 0.26,
        "low": -0.012,
        "high": 0.03,
        "people": 1234,
    }
    assert training_view.notes(summary) == [
        f"{beginning}Recall@50 of 1,234 validation people is 0.2600 with 4 interests and 0.2500 "
        "with one (difference -0.0120 to +0.0300, 95 %)."
    ]


def test_what_holds_the_final_model_back_is_the_reason():
    summary = summaries.pushed()
    summary["final_training"] = {"steps": 1200, "reasons": ["recall_at_50 is -0.1000"]}
    summary["push"] |= {"pushed": False, "version": ""}
    rail = {"rail": "concentration", "message": "too much", "tripped": True, "stops": True}
    summary["guard_rails"] = {"data": [], "model": [], "final": [rail]}
    assert summary_view.why_not_pushed(summary) == [
        "too much (concentration)",
        "recall_at_50 is -0.1000",
    ]
