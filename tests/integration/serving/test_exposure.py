"""What a server keeps to itself: whom it answers, and what it writes down."""

import io
import logging
import socket
import ssl

import grpc
import httpx
import pytest

from serving import logs
from tests import serving_models
from tests.running_server import RunningServer

_PATHS = ("/", "/demo/models", "/v1/models/half_plus_two", "/metrics", "/health")


def _get(server, path, **headers):
    return httpx.get(server.url + path, headers=headers, timeout=600.0)


@pytest.mark.parametrize("path", _PATHS)
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example", ""]
)
def test_a_page_whose_name_points_here_reads_nothing(server, path, host):
    response = _get(server, path, Host=host)
    assert response.status_code == 403
    assert "does not answer requests for the host" in response.json()["error"]


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:80", "127.0.0.1", "127.8.8.8", "[::1]:1"])
def test_the_loopbacks_names_are_answered(server, host):
    assert _get(server, "/health", Host=host).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://localhost.evil"])
def test_pages_of_other_sites_cannot_send_requests(server, origin):
    body = {"instances": [1.0]}
    url = f"{server.url}/v1/models/half_plus_two:predict"
    refused = httpx.post(url, json=body, headers={"Origin": origin}, timeout=600.0)
    assert refused.status_code == 403
    assert "does not answer pages of" in refused.json()["error"]
    own = httpx.post(url, json=body, headers={"Origin": server.url}, timeout=600.0)
    assert own.json() == {"predictions": [2.5]}


def test_named_hosts_are_answered_and_their_pages_too(half_plus_two, tmp_path):
    serving_models.push(half_plus_two, tmp_path, 1)
    with RunningServer(model_base_path=str(tmp_path), allowed_hosts=("api.example",)) as server:
        assert _get(server, "/health", Host="api.example:8501").status_code == 200
        origin = {"Origin": "https://api.example"}
        assert _get(server, "/health", **origin).status_code == 200
        assert _get(server, "/health", Host="other.example").status_code == 403


def test_beyond_the_loopback_there_is_no_demo_and_any_host(half_plus_two, tmp_path):
    serving_models.push(half_plus_two, tmp_path, 1)
    config = {"model_base_path": str(tmp_path), "host": "0.0.0.0"}
    with RunningServer(**config) as server:
        for path in ("/", "/demo/models", "/demo/items", "/static/demo.js"):
            assert _get(server, path).status_code == 404
        assert _get(server, "/health", Host="pod.example").status_code == 200
        evil = {"Host": "pod.example", "Origin": "http://evil.example"}
        assert _get(server, "/health", **evil).status_code == 403
    with RunningServer(**config, demo="on") as server:
        assert _get(server, "/demo/models").json() == ["mind"]


_SECRET = "item-that-somebody-bought"


def _malformed(server):
    """Requests that are refused, with the secret in every place that an error may show."""
    path = "/v1/models/half_plus_two:predict"
    number = {"signature_name": "number", "inputs": [f"{_SECRET}\nforged"]}
    bodies = [
        {"inputs": {"x": [_SECRET]}},
        {"instances": [{"x": _SECRET}]},
        {"instances": [{"x": 1, "y": _SECRET}]},
        {"instances": _SECRET},
        {"inputs": 1, "instances": [_SECRET]},
        {"signature_name": "bytes", "inputs": [{"b64": "?", "x": _SECRET}]},
        {"signature_name": [_SECRET], "inputs": 1},
        number,
    ]
    for body in bodies:
        response = httpx.post(server.url + path, json=body, timeout=600.0)
        assert response.status_code == 400
        yield response.json()["error"]


@pytest.mark.parametrize("with_content", [False, True])
def test_histories_are_not_logged_unless_asked_for(half_plus_two, tmp_path, caplog, with_content):
    caplog.set_level(logging.DEBUG)
    serving_models.push(half_plus_two, tmp_path, 1)
    with RunningServer(
        model_base_path=str(tmp_path),
        model_name="half_plus_two",
        log_requests="all",
        log_request_content=with_content,
    ) as server:
        told = [*_malformed(server)]
    written = "\n".join(logs.JsonFormatter().format(record) for record in caplog.records)
    # The client sees its own values, as TF Serving shows them.
    assert sum(_SECRET in error for error in told) >= 6
    assert (_SECRET in written) == with_content
    reasons = [record.error for record in caplog.records if record.msg == "request"]
    assert len(reasons) == len(told)
    assert all(reasons)
    assert "refused by the model" in reasons[-1] or with_content


def test_messages_that_cannot_be_parsed_are_refused_and_counted(server):
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    logging.getLogger().addHandler(handler)
    labels = {"model": "", "api": "gRPC", "method": "Predict", "code": "INVALID_ARGUMENT"}
    before = server.metric("serving_requests_total", **labels)
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            for _ in range(50):
                with pytest.raises(grpc.RpcError) as e:
                    call(b"\xff" * 100)
                assert e.value.code() == grpc.StatusCode.INVALID_ARGUMENT
                assert "message of 100 bytes cannot be parsed as a request of Predict" in (
                    e.value.details()
                )
    finally:
        logging.getLogger().removeHandler(handler)
    assert server.metric("serving_requests_total", **labels) == before + 50
    written = stream.getvalue()
    assert "Traceback" not in written
    assert "exception in a library" not in written
    assert 0 < written.count('"event": "request"') < 50


def test_only_authenticated_encryption_is_spoken(half_plus_two, tmp_path, certificate):
    chain, key = certificate
    serving_models.push(half_plus_two, tmp_path / "base", 1)
    with RunningServer(
        model_base_path=str(tmp_path / "base"), tls_certificate=str(chain), tls_key=str(key)
    ) as server:
        for port in (server.server.rest_port, server.server.grpc_port):
            assert _handshake(port, "ECDHE+AESGCM").startswith("ECDHE-RSA-AES")
            with pytest.raises(ssl.SSLError):
                _handshake(
                    port, "ECDHE-RSA-AES128-SHA256:AES128-SHA256:AES256-SHA:AES128-GCM-SHA256"
                )


def _handshake(port, ciphers):
    """The cipher agreed on, of those of TLS 1.2 that the client offers."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=600.0) as plain,
        context.wrap_socket(plain) as secured,
    ):
        return secured.cipher()[0]


@pytest.mark.parametrize(("level", "lines"), [("none", 0), ("errors", 10), ("all", 43)])
def test_refused_requests_do_not_fill_the_log(half_plus_two, tmp_path, caplog, level, lines):
    serving_models.push(half_plus_two, tmp_path, 1)
    caplog.set_level(logging.INFO)
    with RunningServer(model_base_path=str(tmp_path), model_name="m", log_requests=level) as server:
        for number in range(20):
            assert server.http.post("/v1/models/m:predict", json={}).status_code == 400
            path = f"/v1/models/made-up-{number}:predict"
            assert server.http.post(path, json={}).status_code == 404
        for _ in range(3):
            server.http.post("/v1/models/m:predict", json={"instances": [1.0]})
    written = [record for record in caplog.records if record.msg == "request"]
    # Five of each kind: INVALID_ARGUMENT of m, NOT_FOUND of all models that do not exist.
    assert len(written) == lines
