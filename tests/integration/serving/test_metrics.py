import re

import pytest

from tests import serving_models
from tests.running_server import RunningServer


@pytest.fixture
def server(recommender, tmp_path):
    serving_models.push(recommender, tmp_path / "mind", 7)
    with RunningServer(model_base_path=str(tmp_path / "mind")) as running:
        yield running


def _post(server, body, model="mind"):
    return server.http.post(f"/v1/models/{model}:predict", json=body)


def test_histories_are_counted_with_what_is_unknown_in_them(server):
    histories = [["1", "2", "x"], ["y", "", ""], ["", "", ""]]
    assert _post(server, {"inputs": {"history": histories}}).status_code == 200
    assert server.metric("serving_histories_total", model="mind") == 3
    assert server.metric("serving_empty_histories_total", model="mind") == 2
    assert server.metric("serving_history_items_total", model="mind") == 4
    assert server.metric("serving_unknown_history_items_total", model="mind") == 2


def test_requests_errors_latency_and_versions(server):
    for k in (1, 2, 0):
        _post(server, {"inputs": {"history": [["1"]], "k": k}})
    labels = {"model": "mind", "api": "REST", "method": "predict"}
    assert server.metric("serving_requests_total", code="OK", **labels) == 2
    assert server.metric("serving_requests_total", code="INVALID_ARGUMENT", **labels) == 1
    signature = {"model": "mind", "signature": "serving_default"}
    assert server.metric("serving_request_seconds_count", **signature) == 2
    assert server.metric("serving_model_version_available", model="mind", version="7") == 1
    for path in ("/metrics", "/monitoring/prometheus/metrics"):
        page = server.http.get(path)
        assert page.headers["content-type"].startswith("text/plain")
        assert re.search(r'serving_requests_total\{.*code="OK".*\} 2\.0', page.text)


def test_clients_cannot_invent_label_values(server):
    for i in range(5):
        assert _post(server, {"inputs": 1}, model=f"made-up-{i}").status_code == 404
    body = {"signature_name": "made-up", "inputs": 1}
    assert _post(server, body).status_code == 400
    assert "made-up" not in server.http.get("/metrics").text
    labels = {"model": "", "api": "REST", "method": "predict", "code": "NOT_FOUND"}
    assert server.metric("serving_requests_total", **labels) == 5
