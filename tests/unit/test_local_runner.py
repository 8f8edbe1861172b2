"""The command line of local_runner.py, up to the point at which a run would begin."""

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


def test_a_misspelt_beam_option_is_bad_usage(capsys):
    arguments = ["--interactions", "a.csv", "--", "--direct_num_worker=2"]
    assert local_runner.main(arguments) == local_runner.EXIT_USAGE
    assert "Did you mean '--direct_num_workers'?" in capsys.readouterr().err
