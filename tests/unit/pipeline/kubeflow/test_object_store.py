import json
import socket

import pytest

from pipeline.kubeflow import object_store


def _input(*endpoints, ssl=False):
    sessions = [
        {"Provider": "minio", "Params": {"endpoint": e, "disableSSL": str(not ssl).lower()}}
        for e in endpoints
    ]
    artifacts = [{"uri": "minio://b/a", "metadata": {"display_name": "a"}}] + [
        {"uri": "minio://b/a", "metadata": {"store_session_info": json.dumps(session)}}
        for session in sessions
    ]
    return {"inputs": {"artifacts": {"a": {"artifacts": artifacts}}}}


@pytest.fixture
def listening(monkeypatch):
    """Hosts and ports that accept connections."""
    known = set()

    def create_connection(address, timeout):
        if address not in known:
            raise ConnectionRefusedError(111, "Connection refused")
        return socket.socket()

    monkeypatch.setattr(socket, "create_connection", create_connection)
    return known


def _both(url):
    return {"S3_ENDPOINT": url, "AWS_ENDPOINT_URL": url}


def test_the_store_that_the_driver_names_is_taken(listening):
    listening.add(("seaweedfs.kubeflow", 9000))
    found = object_store.environment(_input("minio-service.kubeflow:9000"))
    assert found == _both("http://minio-service.kubeflow:9000")
    assert object_store.environment(_input("store.example:443", ssl=True)) == _both(
        "https://store.example:443"
    )


def test_amazon_needs_no_endpoint():
    assert object_store.environment(_input("s3.amazonaws.com", ssl=True)) == {}


@pytest.mark.parametrize(
    ("installed", "url"),
    [
        # MinIO, up to 2.14.
        ({("minio-service.kubeflow", 9000)}, "http://minio-service.kubeflow:9000"),
        # SeaweedFS under both names in 2.15; only one of them has the port.
        (
            {("minio-service.kubeflow", 9000), ("seaweedfs.kubeflow", 8333)},
            "http://minio-service.kubeflow:9000",
        ),
        # From 2.16 on; MinIO may be left over from before an upgrade.
        (
            {("minio-service.kubeflow", 9000), ("seaweedfs.kubeflow", 9000)},
            "http://seaweedfs.kubeflow:9000",
        ),
    ],
)
def test_a_step_without_inputs_takes_the_installed_service(listening, installed, url):
    listening.update(installed)
    assert object_store.environment({"inputs": {}}) == _both(url)


def test_no_store_at_all_says_what_to_set(listening):
    with pytest.raises(
        RuntimeError, match=r"seaweedfs.kubeflow.*object_store.endpoint .* to aws\)"
    ):
        object_store.environment({"inputs": {}})
