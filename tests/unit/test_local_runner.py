"""The command line of local_runner.py, up to the point at which a run would begin."""

import json
import os
import subprocess
import sys
import types

import pytest
import yaml

import local_runner


@pytest.fixture
def effective(capsys):
    """Runs ``--print_config`` and returns the configuration that would be in force."""

    def call(*arguments):
        assert local_runner.main([*arguments, "--print_config"]) == 0
        return yaml.safe_load(capsys.readouterr().out)

    return call


def test_every_file_after_interactions_is_read(effective):
    shown = effective("--interactions", "a.csv", "b.csv", "--user_column", "u")
    assert shown["data"]["interactions"]["files"] == ["a.csv", "b.csv"]
    assert shown["data"]["interactions"]["user_column"] == "u"


def test_giving_interactions_twice_reads_both(effective):
    shown = effective("--interactions=a.csv", "--interactions=b.csv")
    assert shown["data"]["interactions"]["files"] == ["a.csv", "b.csv"]


def test_a_stray_word_is_bad_usage(capsys):
    with pytest.raises(SystemExit) as stopped:
        local_runner.main(["--interactions", "a.csv", "--user_column", "u", "b.csv"])
    assert stopped.value.code == local_runner.EXIT_USAGE
    assert "unrecognized arguments: b.csv" in capsys.readouterr().err


def test_a_misspelt_key_ends_the_process_with_2():
    finished = subprocess.run(
        [sys.executable, local_runner.__file__, "--interactions=a.csv", "--set=model.droput=0.1"],
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 2
    assert "Did you mean 'model.dropout'?" in finished.stderr


def test_a_missing_file_is_named(tmp_path, capfd):
    arguments = ["--interactions=/nowhere/log.csv", f"--output_dir={tmp_path}"]
    assert local_runner.main(arguments) == local_runner.EXIT_FAILED == 1
    assert "/nowhere/log.csv" in capfd.readouterr().out


def test_a_misspelt_beam_option_is_bad_usage(capsys):
    arguments = ["--interactions", "a.csv", "--", "--direct_num_worker=2"]
    assert local_runner.main(arguments) == local_runner.EXIT_USAGE
    assert "Did you mean '--direct_num_workers'?" in capsys.readouterr().err


def test_an_output_directory_that_cannot_be_made_is_named(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    output = tmp_path / "file" / "output"
    code = local_runner.main(["--interactions=a.csv", f"--output_dir={output}"])
    assert code == local_runner.EXIT_FAILED
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("output_dir: ")
    assert str(output) in line


def test_ctrl_c_before_the_run_is_one_line_and_130(capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.config.load", interrupted)
    assert local_runner.main([]) == local_runner.EXIT_INTERRUPTED
    assert capsys.readouterr().err == "Interrupted.\n"


def test_the_printed_configuration_can_be_saved_anywhere(effective, tmp_path):
    (tmp_path / "s.pbtxt").write_text("")
    config = tmp_path / "run.yaml"
    config.write_text("schema: s.pbtxt\ndata: {interactions: {files: [log.csv]}}\n")
    assert effective("--config", os.path.relpath(config))["schema"] == str(tmp_path / "s.pbtxt")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--output_dir", ""], "the command line: 'output_dir': expected at least 1 character"),
        (["--set=index.default_k=2000"], "default_k (2000) must not be above max_k (1000)"),
    ],
)
def test_a_configuration_in_conflict_is_bad_usage(arguments, expected, capsys):
    assert local_runner.main(arguments) == local_runner.EXIT_USAGE
    assert expected in capsys.readouterr().err


def test_ctrl_c_during_the_run_is_one_line_and_130(tmp_path, capfd, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(local_runner, "_run", interrupted)
    code = local_runner.main(["--interactions=a.csv", f"--output_dir={tmp_path}"])
    assert code == local_runner.EXIT_INTERRUPTED
    announced, line = capfd.readouterr().out.splitlines()
    assert announced.startswith("Running 'mind'")
    assert line.startswith("Interrupted;")


def _summary(output, name, span):
    folder = output / "runs" / "mind" / name
    folder.mkdir(parents=True)
    (folder / "summary.json").write_text(json.dumps({"data": {"span": span}}))


@pytest.fixture
def days(tmp_path, monkeypatch):
    """A log of five days, of which 1 and 3 were run; the spans that a call runs."""
    for day in range(1, 6):
        (tmp_path / f"{day}.csv").write_text("")
    _summary(tmp_path / "output", "a", "1")
    _summary(tmp_path / "output", "b", "3")
    commands = []

    def run(command):
        commands.append(command[2:])
        return types.SimpleNamespace(returncode=codes.pop(0) if codes else 0)

    codes = []
    monkeypatch.setattr(local_runner.subprocess, "run", run)

    def backfill(spans, *more, exit_codes=()):
        codes[:] = exit_codes
        commands.clear()
        code = local_runner.main(
            [
                f"--interactions={tmp_path}/{{SPAN}}.csv",
                f"--backfill={spans}",
                f"--output_dir={tmp_path}/output",
                *more,
            ]
        )
        return code, [command[0] for command in commands], commands

    return backfill


def test_a_backfill_runs_what_is_newer_than_the_last_run(days):
    code, spans, commands = days("1..5", "--require_push", "--", "--direct_num_workers=2")
    assert (code, spans) == (0, ["--span=4", "--span=5"])
    assert not any(word.startswith("--backfill") for word in commands[0])
    assert commands[0][-3:] == ["--require_push", "--", "--direct_num_workers=2"]


def test_a_backfill_of_older_spans_would_undo_a_newer_model_and_runs_nothing(days):
    assert days("1..2")[:2] == (0, [])


def test_a_backfill_goes_on_after_a_refusal_and_stops_at_a_failure(days):
    assert days("4..5", exit_codes=[local_runner.EXIT_NOT_PUSHED, 0])[:2] == (
        0,
        ["--span=4", "--span=5"],
    )
    assert days("4..5", exit_codes=[local_runner.EXIT_FAILED])[:2] == (
        local_runner.EXIT_FAILED,
        ["--span=4"],
    )


def test_a_backfill_of_no_range_is_bad_usage(days, capsys):
    assert days("5..1")[0] == local_runner.EXIT_USAGE
    assert "5..1 is not a range of spans" in capsys.readouterr().err
