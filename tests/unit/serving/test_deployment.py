"""The files of deploy/serving, read as TF Serving reads them."""

from pathlib import Path

import yaml
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from serving.command_line import parse_args
from serving.model_server import model_server_config

_FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "serving"


def test_the_model_configuration_parses_and_is_read_by_our_server():
    path = _FOLDER / "models.config"
    config = model_server_config_pb2.ModelServerConfig()
    text_format.Parse(path.read_text(), config)
    (model,) = config.model_config_list.config
    assert model.name == "mind"
    assert model.model_version_policy.latest.num_versions == 2
    assert model_server_config(parse_args(["--model_config_file", str(path)])) == config


def test_compose_mounts_what_the_flags_name():
    service = yaml.safe_load((_FOLDER / "compose.yaml").read_text())["services"]["tf-serving"]
    flags = dict(flag.removeprefix("--").split("=", 1) for flag in service["command"])
    mounts = {volume.split(":")[-2]: volume for volume in service["volumes"]}
    for flag in ("model_config_file", "monitoring_config_file"):
        folder, name = flags[flag].rsplit("/", 1)
        assert folder in mounts
        assert (_FOLDER / name).is_file()
    assert "/models/mind" in mounts
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
