import json

from report import history
from report.run_history import of_failure, of_summary, read, remember, spans
from tests.unit.report import summaries


def test_spans_of_runs_in_their_order_without_runs_that_read_none(tmp_path):
    found = {"20261126-1": "2", "20261125-1": "1", "20261127-1": "", "20261128-1": None}
    for name, span in found.items():
        (tmp_path / name).mkdir()
        data = None if span is None else {"span": span}
        (tmp_path / name / "summary.json").write_text(json.dumps({"data": data}))
    (tmp_path / "20261129-1").mkdir()  # a run that left no summary
    assert spans(tmp_path) == ["1", "2"]
    assert spans(tmp_path / "nowhere") == []


def test_a_run_leaves_a_line_with_what_became_of_it(tmp_path):
    path = tmp_path / "history" / "shop.jsonl"
    assert read(path) == []
    summary = summaries.pushed()
    summary["data"] |= {"span": "2026-11-26", "window": {"measures": [{"item_drift": 0.031}]}}
    remember(path, of_summary(summary))
    remember(path, of_summary(summaries.refused()))
    remember(
        path, of_failure("7", "2 guard rail(s) stopped the run:\n  volume: half\n  row u1", 3.21)
    )
    pushed, refused, failed = read(path)
    overall = summary["metrics"]["mind"]["overall"][summary["primary_metric"]]
    assert (pushed.outcome, pushed.why) == ("pushed", summary["push"]["version"])
    assert (pushed.span, pushed.item_drift) == ("2026-11-26", 0.031)
    assert (pushed.values["mind"], pushed.low, pushed.high) == (
        overall["value"],
        overall["low"],
        overall["high"],
    )
    assert (pushed.steps, pushed.generation) == (summary["training"]["steps"], 0)
    assert (refused.outcome, refused.item_drift) == ("not pushed", None)
    assert refused.why.startswith("Required: Recall@50 at most 0.01 below the last pushed model")
    assert (failed.outcome, failed.seconds, failed.values) == ("failed", 3.2, {})
    # Further lines may hold rows of the data.
    assert failed.why == "volume: half"
    assert of_failure("", "No event\nrow u1", 1.0).why == "No event"


def test_a_run_of_which_only_the_steps_are_known_has_a_line():
    assert of_summary(summaries.empty()).values == {}


def test_the_page_shows_every_run_newest_first(tmp_path):
    entries = [of_summary(summaries.pushed()), of_failure("7", "No input <file>", 3.0)]
    text = history.page("shop", [*entries[:1], *entries])
    assert text.index("No input &lt;file&gt;") < text.index("<td>pushed: ")
    assert text.count('<svg role="img"') == 2
    assert "Recall@50 of 2 runs" in text


def test_the_command_says_what_is_missing(tmp_path, capsys):
    assert history.main([f"--output_dir={tmp_path}"]) == 1
    assert "No run of 'movielens-100k' has ended yet" in capsys.readouterr().err
    path = tmp_path / "history" / "movielens-100k.jsonl"
    remember(path, of_summary(summaries.pushed()))
    assert history.main([f"--output_dir={tmp_path}", f"--html={tmp_path / 'h.html'}"]) == 0
    assert "outcome" in capsys.readouterr().out
    assert (tmp_path / "h.html").read_text().startswith("<!doctype html>")
