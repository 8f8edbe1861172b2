"""What a run removes of earlier ones, and what it must not."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import pytest
from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from components.example_gen.inputs import find_inputs
from components.example_gen.span_store import stored_files
from contract.config_types import from_dict
from pipeline import entries, retention
from pipeline.config import RunConfig
from pipeline.retention import Removed, clean_up
from pipeline.source_digest import source_digest
from retrieval.manifest import write_manifest
from tests.two_steps import TwoSteps, runs_of_importer


def _config(window=None, **keep):
    data = {"interactions": {"files": ["{SPAN}.csv"]}, "window": window}
    return from_dict(RunConfig, {"name": "two-steps", "data": data, "retention": keep})


def _write(path, text="12345"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def pipeline(tmp_path):
    return TwoSteps(tmp_path)


def _clean(pipeline, **keep):
    return clean_up(_config(**keep), pipeline.target(), pipeline.layout)


def _models(pipeline):
    """The importer's outputs that are there."""
    return _names(pipeline.layout.pipeline_root / "importer" / "model")


def test_artifacts_of_the_newest_runs_stay(pipeline):
    for model in ("a", "b", "c"):
        pipeline.run(model)
    before = _models(pipeline)
    assert len(before) == 3
    removed = _clean(pipeline, runs=2)
    assert _models(pipeline) == before[1:]
    assert removed.artifacts == 2  # of the importer and of the pusher
    assert removed.bytes > 0
    assert not removed.failed


def test_a_run_from_the_cache_keeps_the_artifacts_of_the_older_execution(pipeline):
    pipeline.run("a")
    pipeline.run("b")
    pipeline.run("a")  # from cache
    assert len(runs_of_importer) == 2
    before = _models(pipeline)
    _clean(pipeline, runs=1)
    assert _models(pipeline) == before[:1]
    pipeline.run("a")
    assert len(runs_of_importer) == 2  # again from cache
    pipeline.run("b")
    assert len(runs_of_importer) == 3


def test_what_is_removed_is_deleted_for_ml_metadata_too(pipeline):
    pipeline.run("a")
    pipeline.run("b")
    _clean(pipeline, runs=1)
    store = MetadataStore(pipeline.target().metadata_connection_config)
    states = [artifact.state for artifact in store.get_artifacts_by_type("Model")]
    assert states == [metadata_store_pb2.Artifact.DELETED, metadata_store_pb2.Artifact.LIVE]


def test_a_run_that_failed_does_not_count_and_stays_as_long_as_its_neighbours(
    pipeline, monkeypatch
):
    pipeline.run("a")
    pipeline.run("b")
    monkeypatch.setattr("components.pusher.executor.push", None)
    with pytest.raises(TypeError):
        pipeline.run("c")
    monkeypatch.undo()
    pipeline.run("d")
    before = _models(pipeline)
    _clean(pipeline, runs=2)
    assert _models(pipeline) == before[1:]
    _clean(pipeline, runs=1)
    assert _models(pipeline) == before[3:]


def test_system_files_of_tfx_go(pipeline):
    pipeline.run()
    leftover = _write(
        pipeline.layout.pipeline_root / "importer/.system/stateful_working_dir/x/file"
    )
    _clean(pipeline)
    assert not leftover.parent.exists()


def test_the_examples_that_a_pushed_version_names_stay(pipeline):
    examples = pipeline.layout.pipeline_root / "example-gen" / "examples" / "1"
    _write(examples / "Split-eval" / "data")
    other = _write(examples.with_name("2") / "Split-eval" / "data")
    (version,) = pipeline.run()
    write_manifest(
        str(pipeline.layout.serving_models / version), {"examples": f"{examples}/Split-eval"}
    )
    _clean(pipeline, runs=1)
    assert (examples / "Split-eval" / "data").exists()
    assert not other.exists()


def test_versions_beyond_the_newest_go_but_for_the_one_to_compare_with(pipeline):
    for model in ("a", "b", "c", "d"):
        pushed = pipeline.run(model)
    for version in pushed:
        os.utime(pipeline.layout.serving_models / version / "saved_model.pb", (0, 0))
    assert _clean(pipeline, versions=3).versions == 1
    target = pipeline.target()
    object.__setattr__(target, "baseline_version", pushed[1])
    removed = clean_up(_config(versions=2), target, pipeline.layout)
    assert removed.versions == 0
    assert _clean(pipeline, versions=2).versions == 1
    assert [n for n in _names(pipeline.layout.serving_models) if n.isdigit()] == pushed[2:]


def _run_dir(layout, time, bad_rows=""):
    summary = {"data": {"bad_rows": str(bad_rows)} if bad_rows else None}
    return _write(layout.runs / time / "summary.json", json.dumps(summary)).parent


def test_summaries_and_logs_of_older_runs_go(pipeline):
    layout = pipeline.layout
    for begin, end in (("10", "15"), ("20", "25"), ("30", "35")):
        _write(layout.log_file(f"20261126-0000{begin}"))
        _run_dir(layout, f"20261126-0000{end}")
    _write(layout.log_file("20261126-000013"))  # refused while the first one ran
    _write(layout.log_file("20261126-000017"))  # failed before the second one
    other = _write(layout.logs / "two-steps-b-20261126-000010.log")  # of another pipeline
    removed = _clean(pipeline, runs=2)
    assert removed.runs == 1
    assert _names(layout.runs) == ["20261126-000025", "20261126-000035"]
    assert sorted(layout.log_files()) == [f"20261126-0000{t}" for t in ("17", "20", "30")]
    assert other.exists()
    # Two logs and a summary.
    assert removed.bytes == 2 * len("12345") + len('{"data": null}')


def test_bad_rows_stay_as_long_as_a_summary_names_them(pipeline):
    layout = pipeline.layout
    named = _write(layout.bad_rows / "bad_rows-00000-of-00001.jsonl")
    leftover = _write(layout.bad_rows / "beam-temp-bad_rows" / "part")
    _run_dir(layout, "20261126-000015", named)
    _clean(pipeline, runs=1)
    assert named.exists()
    assert not leftover.parent.exists()
    _run_dir(layout, "20261126-000025")
    _clean(pipeline, runs=1)
    assert not named.exists()


def test_of_interrupted_trainings_the_newest_can_be_resumed(pipeline):
    layout = pipeline.layout
    old, new = (_write(layout.checkpoints / key / "latest" / "checkpoint") for key in "ba")
    os.utime(old, (1_000, 1_000))
    os.utime(new, (2_000, 2_000))
    (layout.checkpoints / "c").mkdir()  # of a training that ended
    _clean(pipeline, runs=0)
    assert _names(layout.checkpoints) == ["a"]


def test_everything_stays_if_so_configured(pipeline):
    for model in ("a", "b", "c"):
        for version in pipeline.run(model):
            os.utime(pipeline.layout.serving_models / version / "saved_model.pb", (0, 0))
    _run_dir(pipeline.layout, "20261126-000015")
    _run_dir(pipeline.layout, "20261126-000025")
    assert _clean(pipeline, runs=0, versions=0, spans="all") == Removed()


def test_what_cannot_be_removed_is_reported_and_the_rest_goes(pipeline, monkeypatch):
    layout = pipeline.layout
    for time in ("20261126-000015", "20261126-000025", "20261126-000035"):
        _run_dir(layout, time)
    whole = shutil.rmtree
    calls = []

    def fails_first(path):
        calls.append(path)
        if len(calls) == 1:
            raise PermissionError(13, "Permission denied", str(path))
        whole(path)

    monkeypatch.setattr(retention.shutil, "rmtree", fails_first)
    removed = _clean(pipeline, runs=1)
    assert removed.runs == 1
    assert removed.failed == [f"{layout.runs / '20261126-000015'}: Permission denied"]
    # What was renamed is removed by the next run.
    assert _clean(pipeline, runs=1).failed == []
    assert _names(layout.runs) == ["20261126-000035"]


def test_a_log_that_went_meanwhile_does_not_fail_the_run(pipeline, tmp_path):
    data = {"interactions": {"files": [f"{tmp_path}/{{SPAN}}.csv"]}, "window": {"spans": 2}}
    config = from_dict(RunConfig, {"name": "two-steps", "data": data})
    target = dataclasses.replace(pipeline.target(), span="1")
    (failure,) = clean_up(config, target, pipeline.layout).failed
    assert failure.startswith(f"{pipeline.layout.spans}: No input file matches")


def test_what_is_kept_of_spans_goes_when_they_leave_the_window_or_are_corrected(pipeline, tmp_path):
    for span in (1, 2, 3, 4):
        _write(tmp_path / "logs" / f"{span}.csv", f"user_id,item_id,timestamp\nu,i,{span}\n")
    data = {"interactions": {"files": [f"{tmp_path}/logs/{{SPAN}}.csv"]}, "window": {"spans": 2}}

    def spans_after(span, **keep):
        config = from_dict(RunConfig, {"name": "two-steps", "data": data, "retention": keep})
        store = pipeline.layout.spans
        target = dataclasses.replace(pipeline.target(), span=span, span_store=str(store))
        for file in stored_files(
            find_inputs(config.data, span),
            config.data.interactions,
            str(store),
            source_digest(*entries.SPAN_READER),
        ):
            _write(Path(file.entry) / "report.json")
        removed = clean_up(config, target, pipeline.layout)
        kept = {s.name: len(_names(s)) for s in store.iterdir()}
        return kept, removed.spans

    assert spans_after("2") == ({"1": 1, "2": 1}, 0)
    assert spans_after("3", spans="all") == ({"1": 1, "2": 1, "3": 1}, 0)
    _write(tmp_path / "logs" / "3.csv", "user_id,item_id,timestamp\nu,other,3\n")
    assert spans_after("3") == ({"2": 1, "3": 1}, 2)  # of span 1, and of what 3 was before
    assert spans_after("2") == ({"1": 1, "2": 1, "3": 1}, 0)  # a newer span stays
