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
def known_hosts(monkeypatch):
    """Names that the cluster's name service knows."""
    known = set()

    def getaddrinfo(host, port):
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.1", port))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def _both(url):
    return {"S3_ENDPOINT": url, "AWS_ENDPOINT_URL": url}


def test_the_store_that_the_driver_names_is_taken(known_hosts):
    known_hosts.add("seaweedfs.kubeflow")
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
        ({"minio-service.kubeflow"}, "http://minio-service.kubeflow:9000"),
        ({"seaweedfs.kubeflow"}, "http://seaweedfs.kubeflow:9000"),
        ({"minio-service.kubeflow", "seaweedfs.kubeflow"}, "http://seaweedfs.kubeflow:9000"),
    ],
)
def test_a_step_without_inputs_takes_the_installed_service(known_hosts, installed, url):
    known_hosts.update(installed)
    assert object_store.environment({"inputs": {}}) == _both(url)


def test_no_store_at_all_says_what_to_set(known_hosts):
    with pytest.raises(RuntimeError, match=r"seaweedfs.kubeflow.*kubeflow.object_store.endpoint"):
        object_store.environment({"inputs": {}})
