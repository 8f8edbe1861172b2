"""The model that the Evaluator compares with."""

import pytest
from tfx.types import standard_artifacts
from tfx.utils import path_utils

from components.last_pushed.component import LastPushedModel
from retrieval.manifest import write_manifest


@pytest.fixture
def run(tmp_path):
    """Runs the component; returns (version, contents of saved_model.pb)."""
    for name, run_key in (("5", "run-a"), ("6", "run-b")):
        directory = tmp_path / "pushed" / name
        directory.mkdir(parents=True)
        (directory / "saved_model.pb").write_text(f"pushed {name}")
        write_manifest(str(directory), {"run_key": run_key})
    fallback = tmp_path / "popularity" / "Format-Serving"
    fallback.mkdir(parents=True)
    (fallback / "saved_model.pb").write_text("popularity")

    def call(destination="pushed", version="", run_key="run-z"):
        inputs, output = standard_artifacts.Model(), standard_artifacts.Model()
        inputs.uri, output.uri = str(tmp_path / "popularity"), str(tmp_path / "output")
        LastPushedModel.test_call(
            fallback_model=inputs,
            model=output,
            push_destination=str(tmp_path / destination),
            version=version,
            run_key=run_key,
            source_digest="",
        )
        model_dir = tmp_path / path_utils.serving_model_path(output.uri)
        return (
            output.get_string_custom_property("version"),
            (model_dir / "saved_model.pb").read_text(),
        )

    return call


def test_the_newest_version_of_another_run(run):
    assert run() == ("6", "pushed 6")
    assert run(run_key="run-b") == ("5", "pushed 5")


def test_a_named_version(run):
    assert run(version="5") == ("5", "pushed 5")


def test_the_fallback_while_nothing_is_pushed(run):
    assert run(destination="nothing") == ("", "popularity")


def test_an_unknown_version_is_refused_with_those_that_exist(run):
    with pytest.raises(ValueError, match=r"'7' is not a complete version .*\['5', '6'\]"):
        run(version="7")
