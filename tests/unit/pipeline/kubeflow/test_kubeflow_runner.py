import pytest
import yaml

import kubeflow_runner
from pipeline.kubeflow import spec
from tests.unit.pipeline.kubeflow.kfp_api import KfpApi

_IMAGE = "registry/mind@sha256:" + "0" * 64


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # kfp.Client keeps a context file there
    monkeypatch.delenv("KFP_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.config"
    path.write_text(
        yaml.safe_dump({"name": "tiny", "data": {"interactions": {"files": ["s3://b/*.csv"]}}})
    )
    return str(path)


def test_compiles_to_a_file_named_after_the_pipeline(config, tmp_path, capsys):
    assert kubeflow_runner.main(["--config", config, "--image", _IMAGE]) == 0
    assert "Compiled 'tiny' for kfp to tiny.yaml" in capsys.readouterr().out
    assert spec.load(tmp_path / "tiny.yaml").spec.pipeline_info.name == "tiny"


def test_submits_what_it_compiled(config, tmp_path):
    with KfpApi() as api:
        flags = ["--config", config, "--image", _IMAGE, "--submit", "--host", api.url]
        parameters = ["--param=training_max_steps=7", '--param=interaction_files=["s3://c/d.csv"]']
        assert kubeflow_runner.main([*flags, *parameters, "--run_name=r", "--watch"]) == 0
        (run,) = api.runs.values()
        (version,) = api.versions.values()
    assert run["runtime_config"]["parameters"] == {
        "training_max_steps": 7,
        "interaction_files": ["s3://c/d.csv"],
    }
    assert version["text"] == (tmp_path / "tiny.yaml").read_text()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--image", "registry/mind:latest", "--submit"], "expected a fixed image"),
        (["--image", _IMAGE, "--set", "training.max_step=1"], "Did you mean 'training.max_steps'"),
        (["--image", _IMAGE, "--target", "vertex"], "expected gs://BUCKET/FOLDER"),
        (["--image", _IMAGE, "--output", "tiny.json"], "ends in .yaml"),
        (["--image", _IMAGE, "--param", "steps=1"], "parameter steps is not one of"),
        (["--image", _IMAGE, "--param", "training_max_steps=x"], "expected NUMBER_INTEGER"),
        (
            ["--image", _IMAGE, "--submit", "--target", "vertex"],
            "submit the file to Vertex AI with its own tools",
        ),
    ],
)
def test_wrong_use_ends_with_a_message_and_creates_nothing(
    config, flags, message, capsys, tmp_path
):
    with KfpApi() as api:
        code = kubeflow_runner.main(["--config", config, "--host", api.url, *flags])
        assert code == kubeflow_runner.EXIT_USAGE
        assert not api.requests
    assert not list(tmp_path.glob("*.yaml"))
    assert message in capsys.readouterr().err


def test_refused_submission_is_a_failure(config, capsys):
    with KfpApi(token="other") as api:
        flags = ["--config", config, "--image", _IMAGE, "--submit", "--host", api.url]
        assert kubeflow_runner.main(flags) == kubeflow_runner.EXIT_FAILED
    assert "Nothing was created" in capsys.readouterr().err
