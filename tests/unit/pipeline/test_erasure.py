"""What an erasure deletes, keeps and names; ``tests/e2e`` has one of a real run."""

import gzip
import json
import os

import pytest

from contract.config_types import from_dict
from pipeline import forget
from pipeline.config import RunConfig
from pipeline.erasure import Erasure
from pipeline.run_lock import exclusive
from pipeline.target import local_target
from tests.two_steps import TwoSteps, runs_of_importer


def _write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _summary(**parts):
    return json.dumps({"name": "shop", "data": {"bad_rows": ""}, "sample_people": [], **parts})


@pytest.fixture
def pipeline(tmp_path):
    """A pipeline that has run once, and further files of a run that names u-1 and i-1."""
    pipeline = TwoSteps(tmp_path)
    pipeline.run()
    layout = pipeline.layout
    _write(layout.spans / "1" / "log-abc" / "report.json", '{"user": "u-1"}')
    _write(layout.bad_rows / "bad_rows-00000-of-00001.jsonl", '{"raw": "u-1,i-1"}')
    _write(layout.checkpoints / "key" / "latest" / "checkpoint", "i-1")
    _write(layout.log_file("20261126-000000"), "bad row of u-1")
    run = layout.runs / "20261126-000001"
    _write(run / "summary.json", _summary(sample_people=[{"user_id": "u-1"}]))
    _write(run / "report.html", "<b>u-1</b>")
    _write(layout.runs / "20261126-000002" / "summary.json", _summary(sample_people=[1]))
    return pipeline


@pytest.fixture
def erasure(pipeline):
    return _erasure(pipeline)


def _config(pipeline, **more):
    (pipeline.layout.output.parent / "log.csv").write_text("user_id,item_id,timestamp\nu,i,1\n")
    return {
        "name": pipeline.layout.name,
        "output_dir": str(pipeline.layout.output),
        "data": {"interactions": {"files": [f"{pipeline.layout.output.parent}/log.csv"]}},
        **more,
    }


def _erasure(pipeline):
    return Erasure(from_dict(RunConfig, _config(pipeline)))


def _files(pipeline):
    output = pipeline.layout.output
    return {str(p.relative_to(output)) for p in output.rglob("*") if p.is_file()}


def test_all_that_was_made_of_the_data_goes_and_the_summaries_stay(pipeline, erasure):
    done = erasure.erase({"users": ["u-1"]})
    assert (done.num_new, done.num_runs, done.left) == (1, 1, [])
    left = _files(pipeline)
    assert {path.split("/")[0] for path in left} == {"forgotten", "runs", "serving_models"}
    runs = {path for path in left if path.startswith("runs/")}
    assert runs == {
        "runs/two-steps/20261126-000001/summary.json",
        "runs/two-steps/20261126-000002/summary.json",
    }
    assert json.loads(_read(pipeline, "20261126-000001")) == json.loads(
        _summary(sample_people=None)
    )
    assert json.loads(_read(pipeline, "20261126-000002"))["sample_people"] == [1]


def _read(pipeline, run):
    return (pipeline.layout.runs / run / "summary.json").read_text()


def test_a_run_whose_summary_names_the_id_elsewhere_goes_whole(pipeline, erasure):
    folder = pipeline.layout.runs / "20261126-000003"
    _write(folder / "summary.json", _summary(data={"u-1": 3}))
    erasure.erase({"users": ["u-1"]})
    assert not folder.exists()


def test_an_id_that_is_on_the_list_already_costs_nothing_more(pipeline, erasure):
    erasure.erase({"items": ["i-1"]})
    pipeline.run()  # everything anew
    assert len(runs_of_importer) == 2
    artifact = _write(
        pipeline.layout.pipeline_root / "last-pushed" / "model" / "1" / "x.gz",
        gzip.compress(b"a\0\x42\x03i-1"),
    )
    done = erasure.erase({"items": ["i-1"]})
    assert (done.num_new, done.left) == (0, [])
    assert not artifact.parent.exists()
    pipeline.run()
    assert len(runs_of_importer) == 2  # from cache


def test_the_models_of_tunings_go_and_their_recipes_stay(pipeline, erasure):
    tuning = pipeline.layout.tunings / "key"
    _write(tuning / "winner.yaml", "model: {dropout: 0.3}")
    vocabulary = "model/Format-Serving/assets/item_vocabulary"
    _write(tuning / "trials" / "0003" / vocabulary, "i-1\ni-2\n")
    done = erasure.erase({"items": ["i-1"]})
    assert done.left == []
    assert [path.name for path in tuning.iterdir()] == ["winner.yaml"]
    # A trial that began before the id was on the list, and is found by the id.
    left = _write(tuning / "trials" / "0004" / vocabulary, "i-1\n")
    _write(tuning / "trials" / "0005" / vocabulary, "i-2\n")
    assert erasure.erase({"items": ["i-1"]}).left == []
    assert not left.exists()
    assert [path.name for path in (tuning / "trials").iterdir()] == ["0005"]


def test_an_erasure_that_was_killed_is_done_again_whole(pipeline, erasure, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(erasure, "_remove_derived", killed)
    with pytest.raises(KeyboardInterrupt):
        erasure.erase({"users": ["u-1"]})
    monkeypatch.undo()
    assert erasure.erase({"users": ["u-1"]}).num_new == 1
    assert not pipeline.layout.pipeline_root.exists()


def test_an_artifact_that_is_erased_does_not_come_from_the_cache(pipeline, erasure):
    erasure.erase({"items": ["i-1"]})
    pipeline.run()
    (model,) = (pipeline.layout.pipeline_root / "importer" / "model").iterdir()
    _write(model / "assets", "i-1\n")
    erasure.erase({"items": ["i-1"]})
    assert not model.exists()
    pipeline.run()
    assert len(runs_of_importer) == 3


def test_metadata_that_holds_the_id_goes_with_the_artifacts_that_it_numbers(pipeline, erasure):
    erasure.erase({"items": ["item-1"]})
    pipeline.run()
    with pipeline.layout.metadata.open("ab") as database:
        database.write(b"error: item-1")
    assert erasure.erase({"items": ["item-1"]}).left == []
    assert not pipeline.layout.metadata.exists()
    assert not pipeline.layout.pipeline_root.exists()


def test_a_version_in_use_is_named_and_an_older_one_goes(pipeline, erasure):
    first, second = pipeline.run("a")[0], pipeline.run("b")[-1]
    served = pipeline.layout.serving_models
    for version in (first, second):
        _write(served / version / "assets" / "items", "i-0\ni-1\n")
        os.utime(served / version / "saved_model.pb", (0, 0))
    third = pipeline.run("c")[-1]
    # The stable version is the newest; a roll-back would take the second.
    assert [finding.path.name for finding in erasure.check({"items": ["i-1"]})[-2:]] == [
        first,
        second,
    ]
    done = erasure.erase({"items": ["i-1"]})
    assert done.removed.versions == 1
    assert [finding.path for finding in done.left] == [served / second]
    assert "Run the pipeline" in done.left[0].advice
    assert sorted(p.name for p in served.glob("[0-9]*")) == [second, third]


def test_what_others_wrote_is_named_and_left(pipeline, erasure):
    other = _write(pipeline.layout.output / "runs" / "another" / "x" / "summary.json", '["u-1"]')
    broken = _write(pipeline.layout.output / "broken.gz", gzip.compress(os.urandom(99))[:-9])
    left = erasure.erase({"users": ["u-1"]}).left
    assert [finding.path for finding in left] == [broken, other]
    assert "cannot be read" in left[0].advice
    assert "no run of this pipeline wrote" in left[1].advice


def test_the_next_run_makes_another_model(pipeline, erasure):
    config = from_dict(RunConfig, _config(pipeline))
    before = local_target(config)
    erasure.erase({"users": ["nobody that was ever seen"]})
    after = local_target(config)
    assert after.forgotten == str(pipeline.layout.forgotten)
    for key in ("run_key", "input_fingerprint", "checkpoint_dir"):
        assert getattr(before, key) != getattr(after, key)
    assert local_target(config) == after
    assert json.loads(after.manifest(config))["config"]["data"]["forgotten"] == after.forgotten
    assert "forgotten" not in json.loads(before.manifest(config))["config"]["data"]


@pytest.fixture
def command(pipeline, tmp_path):
    (tmp_path / "config.yaml").write_text(json.dumps(_config(pipeline)))

    def call(*arguments):
        return forget.main([f"--config={tmp_path}/config.yaml", *arguments])

    return call


def test_the_command_checks_erases_and_lists(pipeline, command, capsys, tmp_path):
    (tmp_path / "ids").write_text("u-1\n\nu-2\n")
    assert command("--user_file", f"{tmp_path}/ids", "--check") == forget.EXIT_FOUND == 1
    found = capsys.readouterr().out
    assert "removes without --check" in found
    assert str(pipeline.layout.spans / "1" / "log-abc" / "report.json") in found
    assert pipeline.layout.pipeline_root.exists()

    assert command("--user_file", f"{tmp_path}/ids", "--item=i-1") == 0
    out = capsys.readouterr().out
    assert f"3 ids, 3 of them new: {pipeline.layout.forgotten}" in out
    assert "none of the ids was found" in out

    assert command("--user=u-1", "--item=i-1", "--check") == 0
    capsys.readouterr()
    assert command("--list", "--user=u-2", "--user=u-3") == 0
    out = capsys.readouterr().out
    assert "2 users" in out
    assert "u-2: on the list of users since 20" in out
    assert "u-3: not on the list" in out


def test_bad_usage_is_said(command, capsys, tmp_path):
    assert command("--check") == forget.EXIT_USAGE
    assert "No id was given" in capsys.readouterr().err
    assert command("--user_file", f"{tmp_path}/nowhere") == forget.EXIT_USAGE
    assert "nowhere: expected ids, one per line" in capsys.readouterr().err


def test_it_is_refused_while_a_run_holds_the_lock(pipeline, command, capsys):
    with exclusive(pipeline.layout.output):
        assert command("--user=u-1") == forget.EXIT_FOUND
    assert "is in use by process" in capsys.readouterr().err
    assert pipeline.layout.pipeline_root.exists()
    assert not pipeline.layout.forgotten.exists()
