import json

from report.run_history import spans


def test_spans_of_runs_in_their_order_without_runs_that_read_none(tmp_path):
    found = {"20261126-1": "2", "20261125-1": "1", "20261127-1": "", "20261128-1": None}
    for name, span in found.items():
        (tmp_path / name).mkdir()
        data = None if span is None else {"span": span}
        (tmp_path / name / "summary.json").write_text(json.dumps({"data": data}))
    (tmp_path / "20261129-1").mkdir()  # a run that left no summary
    assert spans(tmp_path) == ["1", "2"]
    assert spans(tmp_path / "nowhere") == []
