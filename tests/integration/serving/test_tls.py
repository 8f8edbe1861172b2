import pytest

from serving.client import Client
from serving.transports import ClientError
from tests import serving_models
from tests.running_server import RunningServer


def test_both_ports_speak_tls(recommender, tmp_path, certificate):
    chain, key = certificate
    serving_models.push(recommender, tmp_path / "mind", 1)
    with RunningServer(
        model_base_path=str(tmp_path / "mind"), tls_certificate=str(chain), tls_key=str(key)
    ) as server:
        for url in (server.url, f"grpcs://{server.grpc_address}"):
            with Client(url, ca_certificate=str(chain)) as client:
                assert client.titles(["7"]) == ["Title 7"]
        for url in (f"http://127.0.0.1:{server.server.rest_port}", f"grpc://{server.grpc_address}"):
            with Client(url, timeout_seconds=2.0) as client, pytest.raises(ClientError):
                client.titles(["7"])
