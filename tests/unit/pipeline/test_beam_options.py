"""Options for Apache Beam that Beam itself would ignore."""

import pytest

from pipeline import beam_options
from pipeline.config import ConfigError


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--direct_num_workers=2", "--direct_running_mode", "multi_processing"],
        ["--experiments=a", "--experiments", "b"],
        # Flink's job server has it, Beam's Python code has not.
        ["--runner=FlinkRunner", "--allowNonRestoredState", "true"],
    ],
)
def test_valid_options_pass(arguments):
    beam_options.check(arguments)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--direct_num_worker=2"],
            "'--direct_num_worker' is not an option of Apache Beam."
            " Did you mean '--direct_num_workers'?",
        ),
        (
            ["--runner=FlinkRunner", "--flink_mster=HOST:8081"],
            "Did you mean '--flink_master'?",
        ),
        (["--direct_num_workers=2", "b.csv"], "'b.csv' is neither an option"),
        (["--direct_num_workers=two"], "--direct_num_workers: invalid int value: 'two'"),
    ],
)
def test_what_beam_would_ignore_is_refused(arguments, expected):
    with pytest.raises(ConfigError) as error:
        beam_options.check(arguments)
    assert expected in str(error.value)
