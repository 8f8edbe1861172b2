import asyncio
import dataclasses
import json
import logging
import re
import socket

import pytest

from serving.command_line import parse_args
from serving.config import BatchingConfig, ServerConfig
from serving.logs import JsonFormatter
from serving.model_server import serve


def test_flags_become_the_configuration():
    config = parse_args(
        [
            *("--model_base_path", "models", "--rest_port", "0", "--allow_reload"),
            *("--batching_padded_inputs", "a,b", "--no-batching_enabled"),
        ]
    )
    assert config == ServerConfig(
        model_base_path="models",
        rest_port=0,
        allow_reload=True,
        batching=BatchingConfig(padded_inputs=("a", "b"), enabled=False),
    )


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "give either --model_base_path or --model_config_file"),
        (["--model_base_path", "m", "--model_config_file", "c"], "give either"),
        (["--model_base_path", "m", "--rest_port", "99999"], "--rest_port: Input should be less"),
        (["--model_base_path", "m", "--batching_num_threads", "0"], "--batching_num_threads:"),
        (["--model_base_path", "m", "--tls_key", "k"], "--tls_certificate and --tls_key"),
        (["--model_base_path", "m", "--tls_client_ca", "c"], "needs --tls_certificate"),
        (
            ["--model_base_path", "m", "--request_log_sample", "0.1"],
            "--request_log_sample needs --request_log_dir",
        ),
        (
            ["--model_base_path", "m", "--workers", "2", "--allow_reload"],
            "--allow_reload needs --workers 1",
        ),
        (
            ["--model_base_path", "m", "--live_catalogue", "redis:/cache"],
            "--live_catalogue: The location of a Redis server must be redis://",
        ),
        (["--nope"], "unrecognized arguments"),
    ],
)
def test_flags_that_cannot_be_used_say_why(argv, message, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--model_base_path", "m", *argv] if argv == ["--nope"] else argv)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("has_docstrings", [True, False])
def test_every_flag_is_described(capsys, monkeypatch, has_docstrings):
    if not has_docstrings:  # as under `python -OO`
        monkeypatch.setattr(ServerConfig, "__doc__", None)
        monkeypatch.setattr(BatchingConfig, "__doc__", None)
    with pytest.raises(SystemExit) as e:
        parse_args(["--help"])
    assert e.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Largest request body, in bytes. (default: 16777216)" in shown
    assert "refused with UNAVAILABLE. (default: 1000)" in shown
    flags = [f"--{field.name}" for field in dataclasses.fields(ServerConfig)]
    flags += [f"--batching_{field.name}" for field in dataclasses.fields(BatchingConfig)]
    flags.remove("--batching")
    for flag in flags:
        described = re.search(rf" {flag},?( --no-\w+| [A-Z_.,]+)? (.*?) \(default: ", shown)
        assert described, flag
        assert described[2][0].isupper(), flag


@pytest.mark.parametrize("flag", ["rest_port", "grpc_port"])
def test_a_port_in_use_is_reported(flag, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ports = {"rest_port": 0, "grpc_port": 0, flag: taken.getsockname()[1]}
        config = ServerConfig(model_base_path=str(tmp_path), **ports)
        with pytest.raises(OSError, match=f"{ports[flag]}"):
            asyncio.run(serve(config))


def test_log_lines_are_json_with_their_extra_fields():
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "loaded %s", "args": ("a",), "version": 3}
    )
    entry = json.loads(JsonFormatter().format(record))
    assert entry["event"] == "loaded a"
    assert entry["version"] == 3
    assert entry["time"].endswith("Z")
