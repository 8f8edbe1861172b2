"""Bearer tokens: who is answered, over both transports, and how tokens are replaced."""

import asyncio
import logging
import socket

import grpc
import httpx
import pytest
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.client import AsyncClient, Client
from serving.client.__main__ import TOKEN_VARIABLE, main
from serving.server import main as serve
from serving.transports import ClientError
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

_OLD, _NEW, _WRONG = "old-token-0123456789", "new+token/0123456789==", "wrong-token-01234567"
_BODY = {"inputs": {"history": [["1"]], "k": 2}}
_PREDICT = "/v1/models/mind:predict"


@pytest.fixture(scope="module")
def base(recommender, tmp_path_factory):
    path = tmp_path_factory.mktemp("base")
    serving_models.push(recommender, path, 1)
    return path


@pytest.fixture
def token_file(tmp_path):
    path = tmp_path / "tokens"
    path.write_text(f"# of the shop\n\n{_OLD}\n")
    return path


@pytest.fixture
def server(base, token_file):
    with _serving(base, token_file) as running:
        yield running


def _serving(base, token_file, **config):
    return RunningServer(
        model_base_path=str(base),
        auth_token_file=str(token_file),
        file_system_poll_wait_seconds=0.05,
        **config,
    )


def _post(server, authorization=None, path=_PREDICT):
    headers = {} if authorization is None else {"Authorization": authorization}
    return server.http.post(path, json=_BODY, headers=headers)


def _call(server, authorization=None, request=None):
    """The status name of a Predict call."""
    metadata = () if authorization is None else (("authorization", authorization),)
    if request is None:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "nope"
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        with pytest.raises(grpc.RpcError) as e:
            stub.Predict(request, timeout=LONG_SECONDS, metadata=metadata)
    return e.value.code().name


@pytest.mark.parametrize(
    ("authorization", "error"),
    [
        (None, "The server requires a token"),
        ("", "must be 'Bearer TOKEN'"),
        (f"Basic {_OLD}", "must be 'Bearer TOKEN'"),
        (_OLD, "must be 'Bearer TOKEN'"),
        (f"Bearer {_OLD} {_OLD}", "must be 'Bearer TOKEN'"),
        (f"Bearer {_WRONG}", "The token is not valid"),
        (f"Bearer {_OLD[:-1]}", "The token is not valid"),
        (f"Bearer {_OLD}=", "The token is not valid"),
        ("Bearer #", "The token is not valid"),
    ],
)
def test_without_a_valid_token_nothing_is_answered(server, authorization, error):
    response = _post(server, authorization)
    assert response.status_code == 401
    assert error in response.json()["error"]
    challenge = 'Bearer realm="mind-serving"'
    if authorization is not None:
        challenge += ', error="invalid_token"'
    assert response.headers["WWW-Authenticate"] == challenge
    assert _call(server, authorization) == "UNAUTHENTICATED"
    for api in ("REST", "gRPC"):
        refused = {"model": "", "method": "unauthenticated", "code": "UNAUTHENTICATED"}
        assert server.metric("serving_requests_total", api=api, **refused) == 1


@pytest.mark.parametrize("authorization", [f"Bearer {_OLD}", f"bearer  {_OLD}"])
def test_with_a_token_everything_is_as_without(server, authorization):
    assert len(_post(server, authorization).json()["outputs"]["item_ids"][0]) == 2
    assert _call(server, authorization) == "NOT_FOUND"  # the model that it names


def test_a_preflight_needs_no_token_and_what_follows_does(base, token_file):
    origin = {"Origin": "http://shop.example"}
    with _serving(
        base,
        token_file,
        rest_api_enable_cors_support=True,
        allowed_hosts=("shop.example",),
    ) as server:
        # A browser asks without credentials (https://fetch.spec.whatwg.org/#cors-preflight-fetch).
        asked = {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        }
        answer = server.http.options(_PREDICT, headers=origin | asked)
        assert answer.status_code == 200
        allowed = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert allowed == ["content-type", "authorization"]
        assert answer.content == b""
        other = {"Origin": "http://other.example"}
        assert server.http.options(_PREDICT, headers=other | asked).status_code == 403
        # What is no preflight, and what follows one, needs a token.
        assert server.http.options(_PREDICT, headers=origin).status_code == 401
        assert server.http.options(_PREDICT, headers=asked).status_code == 401
        headers = origin | {"Authorization": f"Bearer {_OLD}"}
        assert server.http.post(_PREDICT, json=_BODY, headers=origin).status_code == 401
        assert server.http.post(_PREDICT, json=_BODY, headers=headers).status_code == 200


def test_what_is_open_and_what_is_not(server):
    for path in ("/health", "/ready"):
        assert server.http.get(path).status_code == 200
        assert server.http.post(path).status_code == 401
    paths = ("/metrics", "/monitoring/prometheus/metrics", "/", "/demo/models", "/nothing/here")
    for path in (*paths, "/v1/models/mind", "/health/", "//health", "/health/../metrics"):
        assert server.http.get(path).status_code == 401, path
    with grpc.insecure_channel(server.grpc_address) as channel:
        status = get_model_status_pb2.GetModelStatusRequest()
        status.model_spec.name = "mind"
        with pytest.raises(grpc.RpcError) as e:
            model_service_pb2_grpc.ModelServiceStub(channel).GetModelStatus(status)
        assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED
        for kind in ("unary_unary", "stream_stream"):
            call = getattr(channel, kind)("/nothing.Here/Method")
            with pytest.raises(grpc.RpcError) as e:
                [*call(iter([b"x"]))] if kind == "stream_stream" else call(b"x")
            assert e.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_metrics_can_be_open(base, token_file):
    with _serving(base, token_file, auth_open_metrics=True) as server:
        for path in ("/metrics", "/monitoring/prometheus/metrics"):
            assert server.http.get(path).status_code == 200
        assert server.http.get("/v1/models/mind").status_code == 401


def test_tokens_are_replaced_without_a_restart(server, token_file, caplog):
    caplog.set_level(logging.INFO, "serving.auth")

    def status(token):
        return _post(server, f"Bearer {token}").status_code

    def write(text):
        staged = token_file.with_suffix(".new")
        staged.write_text(text)
        staged.rename(token_file)

    def told(event):
        return [record for record in caplog.records if record.msg == event]

    assert (status(_OLD), status(_NEW)) == (200, 401)
    write(f"{_OLD}\n{_NEW}\n")
    wait_until(lambda: status(_NEW) == 200)
    assert status(_OLD) == 200
    write(f"{_NEW}\n")
    wait_until(lambda: status(_OLD) == 401)
    assert status(_NEW) == 200
    assert _call(server, f"Bearer {_OLD}") == "UNAUTHENTICATED"
    assert _call(server, f"Bearer {_NEW}") == "NOT_FOUND"
    # What cannot be read leaves the tokens as they are, and is told once for each reason.
    for text, reason in ((" \n", "holds no token"), ("too short\n", "line 1: a token must have")):
        before = len(told("tokens not read"))
        write(text)
        wait_until(lambda: len(told("tokens not read")) > before)  # noqa: B023
        assert reason in told("tokens not read")[-1].error
        assert (status(_OLD), status(_NEW)) == (401, 200)
    token_file.unlink()
    wait_until(lambda: len(told("tokens not read")) == 3)
    assert status(_NEW) == 200
    write(f"{_OLD}\n")
    wait_until(lambda: status(_OLD) == 200)
    assert status(_NEW) == 401
    assert len(told("tokens not read")) == 3
    written = "".join(str(vars(record)) for record in caplog.records)
    assert _OLD not in written
    assert _NEW not in written
    assert "too short" not in written


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "holds no token"),
        ("# only a comment\n\n", "holds no token"),
        (f"{_OLD}\nshort\n", "line 2: a token must have 16 characters or more"),
        ("with a space 0123456789\n", "line 1: a token must have 16 characters or more"),
    ],
)
def test_a_file_without_tokens_is_an_error_at_the_start(
    base, tmp_path, caplog, monkeypatch, text, message
):
    monkeypatch.setattr("serving.logs.configure", lambda **options: None)
    path = tmp_path / "tokens"
    if text is not None:
        path.write_text(text)
    ports = ["--rest_port", "0", "--grpc_port", "0"]
    assert serve(["--model_base_path", str(base), "--auth_token_file", str(path), *ports]) == 1
    (record,) = [record for record in caplog.records if record.msg == "cannot serve"]
    assert message in record.error
    assert "with a space" not in record.error


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_clients_send_a_token(server, token_file, tmp_path, scheme):
    url = server.url if scheme == "rest" else f"grpc://{server.grpc_address}"
    own = tmp_path / "own"
    own.write_text(f"{_WRONG}\n")

    async def ask():
        async with AsyncClient(url, token_file=str(own), timeout_seconds=LONG_SECONDS) as client:
            return await client.recommend([["1"]], k=2)

    with Client(url, token_file=str(own), timeout_seconds=LONG_SECONDS) as client:
        with pytest.raises(ClientError, match="UNAUTHENTICATED: The token is not valid"):
            client.recommend([["1"]], k=2)
        own.write_text(f"{_OLD}\n{_WRONG}\n")  # read again: a client outlives its token
        found = client.recommend([["1"]], k=2)
        assert len(found[0]) == 2
        assert asyncio.run(ask()) == found
        own.unlink()
        with pytest.raises(ClientError, match=r"UNAUTHENTICATED: no token to send: .*No such file"):
            client.titles(["1"])
    with Client(url, token=_OLD, timeout_seconds=LONG_SECONDS) as client:
        assert client.recommend([["1"]], k=2) == found
    with (
        Client(url, timeout_seconds=LONG_SECONDS) as client,
        pytest.raises(ClientError, match="UNAUTHENTICATED: The server requires a token"),
    ):
        client.titles(["1"])


def test_the_command_line_sends_a_token(server, token_file, capsys, monkeypatch):
    arguments = ["--url", server.url, "--history", "1", "-k", "2"]
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert main(arguments) == 1
    assert "UNAUTHENTICATED" in capsys.readouterr().err
    assert main([*arguments, "--token_file", str(token_file)]) == 0
    monkeypatch.setenv(TOKEN_VARIABLE, _OLD)
    assert main(arguments) == 0


def test_tokens_in_clear_text_are_warned_of(base, token_file, certificate, caplog):
    def warned(**config):
        caplog.clear()
        with _serving(base, token_file, **config):
            pass
        return any(record.msg == "tokens without TLS" for record in caplog.records)

    chain, key = certificate
    assert warned(host="0.0.0.0")
    assert not warned()
    assert not warned(host="0.0.0.0", tls_certificate=str(chain), tls_key=str(key))


def test_over_tls(base, token_file, certificate):
    chain, key = certificate
    tls = {"tls_certificate": str(chain), "tls_key": str(key)}
    with _serving(base, token_file, **tls) as server:
        for url in (server.url, f"grpcs://{server.grpc_address}"):
            with Client(url, ca_certificate=str(chain), token=_OLD) as client:
                assert client.titles(["7"]) == ["Title 7"]
            with (
                Client(url, ca_certificate=str(chain), token=_WRONG) as client,
                pytest.raises(ClientError, match="UNAUTHENTICATED"),
            ):
                client.titles(["7"])
        assert httpx.get(f"{server.url}/ready", verify=str(chain)).status_code == 200


def test_the_body_is_not_waited_for(server):
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
    address = ("127.0.0.1", server.server.rest_port)
    with socket.create_connection(address, timeout=LONG_SECONDS) as connection:
        connection.sendall(head % _PREDICT.encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 401 ")
