import io
import re
import shlex
import sys

import pytest
from rich.cells import cell_len
from rich.console import Console

from report import terminal_summary
from tests.unit.report import summaries


def _lines(summary, width=100, cutoffs=(10, 20, 50), exclude_history=True):
    console = Console(file=io.StringIO(), width=width, highlight=False, markup=False)
    console.print(terminal_summary.render(summary, cutoffs, exclude_history), crop=False)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


def _starting(lines, start):
    return next(line for line in lines if line.startswith(start))


def test_the_counts_add_up_in_words():
    lines = _lines(summaries.pushed(), width=140)
    assert _starting(lines, "Events") == (
        "Events     100,000 read, 99,287 kept; not kept: negative timestamp 1, "
        "unparsable timestamp 2, item too rare 710"
    )
    assert _starting(lines, "People") == "People     943; by split: 943 train, 943 eval, 943 test"


def test_what_is_odd_about_the_input_is_said_and_names_the_file():
    summary = summaries.pushed()
    data = summary["data"]
    data["files"] = {"interactions": ["log.csv"], "items": ["i.csv"], "users": ["a", "b", "c"]}
    data["future_events"] = {"log.csv": 2}
    data["tables"]["items"] |= {"duplicate_ids": 3, "unparsable_numbers": {"price": 4}}
    data["tables"]["users"] |= {"duplicate_ids": 1, "bad": {"missing_id": 1}}
    data["catalogue"]["not_in_items_file"] = 30
    notes = [line.split(maxsplit=1)[1] for line in _lines(summary, 300) if line[:4] == "Note"]
    assert [note.partition(";")[0] for note in notes] == [
        "2 events in log.csv lie in the future",
        "3 rows of items (i.csv) repeat an id",
        "4 values of the numeric feature 'price' of items (i.csv) are not numbers and count as "
        "missing.",
        "1 rows of users (a and 2 more) are set apart in "
        "output/bad_rows/movielens-100k/interactions.jsonl.",
        "1 rows of users (a and 2 more) repeat an id",
        "30 of 1,682 items in the catalogue are not in the items table (i.csv), so they have "
        "neither title nor side features.",
    ]


def test_targets_that_are_not_counted_are_said_with_the_key_to_change():
    summary = summaries.pushed()
    summary["data"]["splits"]["test"]["repeated_share"] = 0.43
    [note] = [line for line in _lines(summary, 300) if line.startswith("Note")]
    assert "43.0% of the 943 test targets are not counted" in note
    assert "evaluation.exclude_history=false" in note
    summary["primary_metric"] = "recall_at_50_history_included"
    assert not any(line.startswith("Note") for line in _lines(summary, 300))


def test_each_ranker_has_a_line_with_intervals():
    lines = _lines(summaries.pushed())
    header = _starting(lines, "Test split")
    assert re.split(" {2,}", header) == ["Test split", "Recall@50", "NDCG@50", "Hit rate@50"]
    assert _starting(lines, "Item-kNN").split()[1:3] == ["0.3120", "0.282\N{EN DASH}0.342"]
    order = [line.split()[0] for line in lines if line.startswith(("MIND", "Last", "Item", "Pop"))]
    assert order == ["MIND", "Last", "Item-kNN", "Popularity"]


def test_the_largest_cutoff_and_the_primary_ranking_are_shown():
    lines = _lines(summaries.pushed(), cutoffs=(10, 20), exclude_history=False)
    assert "Recall@20" in _starting(lines, "Test split")
    # 0.199 * 0.82
    assert "0.1632" in _starting(lines, "MIND")


def test_recommendations_are_grouped_by_interest_with_titles_and_hits():
    lines = _lines(summaries.pushed())
    assert _starting(lines, "  Interest 2") == (
        "  Interest 2  Beauty and the Beast* · Snow White and the Seven Dwarfs · Fantasia"
    )
    assert any("* what the person really chose next" in line for line in lines)


def test_items_of_the_fallback_and_without_title():
    summary = summaries.pushed()
    summary["sample_people"][0]["interests"] = [
        {"interest": -1, "items": [{"item_id": "x 1", "title": ""}]}
    ]
    assert _starting(_lines(summary), "  Most popular") == "  Most popular  x 1"


def test_the_command_to_try_can_be_pasted_whatever_the_ids():
    summary = summaries.pushed()
    summary["sample_people"][0]["history"][-1]["item_id"] = "it's 5"
    words = shlex.split(_starting(_lines(summary, width=40), "Query it"))[2:]
    assert words[1:5] == ["-m", "serving.client", "--history", "187,318,it's 5"]


def test_the_command_to_serve_names_what_this_run_pushed(monkeypatch, tmp_path):
    summary = summaries.pushed()
    summary["push"]["destination"] = "/else where/serving_models/x"
    monkeypatch.setattr(sys, "executable", "/opt/venv/bin/python")
    words = shlex.split(_starting(_lines(summary, width=40), "Serve it"))[2:]
    assert words[:3] == ["/opt/venv/bin/python", "-m", "serving.server"]
    assert words[3:] == ["--model_base_path", "/else where/serving_models/x"]
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/.venv/bin/python")
    monkeypatch.chdir(tmp_path)
    words = shlex.split(_starting(_lines(summary, width=40), "Serve it"))
    assert words[2] == ".venv/bin/python"


def test_the_outcome_of_a_push_is_last():
    lines = [line for line in _lines(summaries.pushed()) if line]
    assert [line.split("  ")[0] for line in lines[-6:]] == [
        "Index",
        "Result",
        "Pushed to",
        "Serve it",
        "Query it",
        "Time",
    ]
    assert lines[-5] == "Result     Blessed and pushed as version 1795518151"
    assert "recall@100 0.9908, one request 1.9 ms (p99 3.4 ms), 3.5 MB" in lines[-6]


def test_what_was_removed_of_earlier_runs_is_said():
    counts = {"runs": 12, "artifacts": 0, "versions": 3, "spans": 0, "bytes": 214_000_000}
    lines = _lines({**summaries.pushed(), "removed": {**counts, "failed": []}})
    assert "Removed    12 runs, 3 versions, 214.0 MB" in lines


def test_a_recall_measured_less_deeply_than_configured_is_said():
    summary = summaries.pushed()
    assert not any("index.recall_k" in line for line in _lines(summary))
    summary["index"]["recall_k"] = 40
    [note] = [line for line in _lines(summary, 200) if "index.recall_k" in line]
    assert "index.recall_k is 100, but an answer has at most 40 items" in note


def test_a_refusal_says_why_and_gives_no_command():
    lines = _lines(summaries.refused())
    result = lines.index("Result     Not blessed, not pushed")
    assert lines[result + 1].endswith("last pushed model; measured: 0.0170 below")
    assert lines[result + 2].strip() == "The model in service is unchanged."
    assert not any(line.startswith(("Pushed to", "Query it")) for line in lines)


def test_a_run_without_results_still_has_an_outcome():
    lines = [line for line in _lines(summaries.empty()) if line]
    assert lines[0] == "Result     Not evaluated, not pushed"
    assert lines[-1] == "Time       3 min 32 s"


@pytest.mark.parametrize("width", [60, 80, 120])
def test_only_what_is_to_be_copied_may_be_wider_than_the_terminal(width):
    lines = _lines(summaries.pushed(), width=width)
    too_wide = [line.split("  ")[0] for line in lines if cell_len(line) > width]
    assert set(too_wide) <= {"Pushed to", "Serve it", "Query it"}
    joined = " ".join(" ".join(lines).split())
    for title in ("Indiana Jones and the Last Crusade", "Snow White and the Seven Dwarfs"):
        assert title in joined
