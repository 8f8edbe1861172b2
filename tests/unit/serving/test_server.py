import json
import logging

import pytest

from serving.config import BatchingConfig, ServerConfig
from serving.logs import JsonFormatter
from serving.server import main, parse_args


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
        ([], "give one of --model_base_path and --model_config_file"),
        (["--model_base_path", "m", "--model_config_file", "c"], "give one of"),
        (["--model_base_path", "m", "--rest_port", "99999"], "--rest_port: Input should be less"),
        (["--model_base_path", "m", "--batching_num_threads", "0"], "--batching_num_threads:"),
        (["--model_base_path", "m", "--tls_key", "k"], "--tls_certificate and --tls_key"),
        (["--model_base_path", "m", "--tls_client_ca", "c"], "needs --tls_certificate"),
        (["--nope"], "unrecognized arguments"),
    ],
)
def test_flags_that_cannot_be_used_say_why(argv, message, capsys):
    with pytest.raises(SystemExit):
        parse_args(["--model_base_path", "m", *argv] if argv == ["--nope"] else argv)
    assert message in capsys.readouterr().err


def test_every_flag_is_described(capsys):
    with pytest.raises(SystemExit):
        parse_args(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Largest request body. (default: 16777216)" in shown
    assert "refused with UNAVAILABLE. (default: 1000)" in shown


def test_a_port_in_use_is_an_error_not_a_stack_trace(capsys, tmp_path):
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for flag in ("--rest_port", "--grpc_port"):
            other = "--grpc_port" if flag == "--rest_port" else "--rest_port"
            argv = ["--model_base_path", str(tmp_path), flag, port, other, "0"]
            assert main(argv) == 1


def test_log_lines_are_json_with_their_extra_fields():
    record = logging.makeLogRecord(
        {"name": "n", "levelname": "INFO", "msg": "loaded %s", "args": ("a",), "version": 3}
    )
    entry = json.loads(JsonFormatter().format(record))
    assert entry["event"] == "loaded a"
    assert entry["version"] == 3
    assert entry["time"].endswith("Z")
