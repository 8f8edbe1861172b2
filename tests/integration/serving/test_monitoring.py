"""Rules and dashboard ask for metrics and labels that a running server really has."""

import collections
import re
import socket
import threading

import grpc
import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving import release
from serving.request_sampler import FAILED
from serving.saved_model import SavedModel
from serving.worker_board import Board, Worker
from serving.worker_metrics import registry_of_all
from tests import live_server, monitoring_files, serving_models
from tests.running_server import LONG_SECONDS, RunningServer, wait_until

# What Prometheus adds to every series.
_TARGET = {"job", "instance"}


@pytest.fixture(scope="module")
def scraped(recommender, live_shop, tmp_path_factory):
    """Values by label, by sample, of a server to which all has happened that it counts."""
    folder = tmp_path_factory.mktemp("monitored")
    base = folder / "base"
    serving_models.push(recommender, base, 1)
    serving_models.save_constant(folder / "broken", "", is_broken=True)
    serving_models.push(folder / "broken", base, 2)
    options = ["--canary", "0.5", "--min_requests", "5"]
    assert release.main(["promote", "--model_base_path", str(base), "2", *options]) == 0
    (folder / "no directory").write_text("")
    with RunningServer(
        model_base_path=str(base),
        history_store=str(folder / "no directory"),
        request_log_sample=1.0,
        request_log_dir=str(folder / "samples"),
        file_system_poll_wait_seconds=0.05,
        max_requests_under_way=1,
    ) as server:

        def ask(n=0):
            body = {"inputs": {"history": [["1", "unknown"], ["unknown", ""]], "k": 2}}
            headers = {"x-caller-key": f"person {n}"}
            server.http.post("/v1/models/mind:predict", json=body, headers=headers)

        def taken_back():
            ask(next(numbers))
            rollbacks = {"model": "mind", "cause": "errors"}
            return server.metric("serving_canary_rollbacks_total", **rollbacks)

        numbers = iter(range(10**9))
        wait_until(taken_back)
        server.http.post("/v1/models/mind:predict", json={"inputs": 1})
        (base / "3").mkdir()
        (base / "3" / "saved_model.pb").write_bytes(b"broken")
        failures = {"model": "mind", "outcome": "failure"}
        wait_until(lambda: server.metric("serving_model_loads_total", **failures))
        samples = {"model": "mind", "outcome": "written"}
        wait_until(lambda: server.metric("serving_request_samples_total", **samples))
        _refuse_and_give_up(server)
        text = server.http.get("/metrics").text
    text += _of_a_live_catalogue(live_shop, folder) + _of_workers(folder)
    found = collections.defaultdict(lambda: collections.defaultdict(set))
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values = found[sample.name]
            for label, value in sample.labels.items():
                values[label].add(value)
    return found


def _of_a_live_catalogue(live_shop, folder):
    """What a server shows to which a change was sent."""
    serving_models.push(live_shop, folder / "live" / "mind", 1)
    with live_server.serving(folder / "live" / "mind", str(folder / "log")) as server:
        assert live_server.upsert(server, live_server.NEW).is_success
        return server.http.get("/metrics").text


def _of_workers(folder):
    """What several workers show, of which one was started again."""
    board = Board(folder / "board", 2)
    board.count_restart(1)
    (folder / "workers").mkdir()
    worker = Worker(0, board, folder / "workers", lifeline=-1, listens_first=True)
    return generate_latest(registry_of_all(worker, ())).decode()


def _refuse_and_give_up(server):
    """A second request beside one that runs is refused; then the caller of the first one goes."""
    body = b'{"inputs": {"history": [["1"]], "k": 2}}'
    head = b"POST /v1/models/mind:predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
    runs, may_end = threading.Event(), threading.Event()
    run = SavedModel.run

    def wait(*args, **kwargs):
        runs.set()
        may_end.wait(LONG_SECONDS)
        return run(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SavedModel, "run", wait)
        with socket.create_connection(("127.0.0.1", server.server.rest_port)) as connection:
            connection.sendall(head % len(body) + body)
            assert runs.wait(LONG_SECONDS)
            refused = server.http.post("/v1/models/mind:predict", content=body)
            assert refused.status_code == 503
        wait_until(lambda: server.metric("serving_abandoned_requests_total", stage="run"))
        may_end.set()


@pytest.fixture(scope="module")
def known(scraped):
    """Labels by metric: scraped, recorded by a rule, and made by Prometheus."""
    labels = {name: set(values) | _TARGET for name, values in scraped.items()}
    labels["up"] = _TARGET
    for rule in monitoring_files.rules():
        if "record" in rule:
            labels[rule["record"]] = set(monitoring_files.parse(rule["expr"]).grouped) - {"le"}
    return labels


_EXPRESSIONS = [rule["expr"] for rule in monitoring_files.rules()] + monitoring_files.queries()


@pytest.mark.parametrize("text", _EXPRESSIONS)
def test_every_metric_and_label_exists(scraped, known, text):
    expression = monitoring_files.parse(text)
    assert expression.selectors or text.startswith("vector(")
    available = set()
    for selector in expression.selectors:
        assert selector.metric in known, selector.metric
        labels = known[selector.metric]
        available |= labels
        for label, operator, value in selector.matchers:
            assert label in labels, (selector.metric, label)
            if operator in ("=", "=~") and not value.startswith("$"):
                _check_value(scraped[selector.metric], label, operator, value)
    assert expression.grouped <= available


def _check_value(values, label, operator, value):
    """A value that is asked for can occur."""
    if label == "job":
        config = yaml.safe_load((monitoring_files.FOLDER / "prometheus.yaml").read_text())
        assert value == config["scrape_configs"][0]["job_name"]
    elif label == "code":
        assert set(value.split("|")) <= {code.name for code in grpc.StatusCode}
    elif label == "outcome" and value == FAILED:
        pass  # the disk would have to fail
    elif label in values:
        pattern = value if operator == "=~" else re.escape(value)
        assert any(re.fullmatch(pattern, known) for known in values[label]), (label, value)


def test_the_parser_sees_what_expressions_ask_for():
    parsed = monitoring_files.parse(
        'histogram_quantile(0.9, sum by (job, le) (rate(a_bucket{x="1", y=~"2|3"}[5m]))) > 1e5'
        " * scalar(b:c) and on (instance) time() - d offset 1d > 3 * 86400"
    )
    assert parsed.grouped == {"job", "le", "instance"}
    assert parsed.selectors == (
        monitoring_files.Selector("a_bucket", (("x", "=", "1"), ("y", "=~", "2|3"))),
        monitoring_files.Selector("b:c"),
        monitoring_files.Selector("d"),
    )


def test_one_bucket_stands_for_the_objective():
    texts = [*_EXPRESSIONS, (monitoring_files.ROOT / "docs" / "slo.md").read_text()]
    assert {le for text in texts for le in re.findall(r'le="([^"]*)"', text)} == {"0.05"}


def _alerts():
    return [rule for rule in monitoring_files.rules() if "alert" in rule]


def test_every_alert_tells_what_to_do():
    text = (monitoring_files.ROOT / "docs" / "slo.md").read_text()
    anchors = {heading.lower() for heading in re.findall(r"(?m)^### (\w+)$", text)}
    linked = set()
    for alert in _alerts():
        assert alert["labels"]["severity"] in ("page", "ticket")
        assert set(alert["annotations"]) == {"summary", "description", "runbook"}
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert page == "docs/slo.md"
        linked.add(anchor)
    assert linked == anchors


def test_every_alert_is_seen_to_fire_in_its_unit_tests():
    fired = {
        case["alertname"]
        for path in monitoring_files.TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", ())
        if case.get("exp_alerts")
    }
    assert fired == {alert["alert"] for alert in _alerts()}


def test_the_dashboard_is_whole():
    dashboard = monitoring_files.dashboard()
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken = collections.Counter()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        taken.update((at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"]))
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${datasource}"
            assert panel["targets"]
    assert set(taken.values()) == {1}
    variables = {variable["name"] for variable in dashboard["templating"]["list"]}
    used = {name for text in monitoring_files.queries() for name in re.findall(r"\$(\w+)", text)}
    assert used - {"__rate_interval"} == variables - {"datasource"}
