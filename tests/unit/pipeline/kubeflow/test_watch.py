"""What ``--watch`` says of a run that failed, from what Kubeflow 2.17 answered of one."""

import pytest
import urllib3

from pipeline.kubeflow import submit, watch
from tests import kubeflow_recordings
from tests.unit.pipeline.kubeflow.kfp_api import KfpApi
from tests.unit.pipeline.kubeflow.pipelines import to_yaml, two_steps

_CAUSE = "AttributeError: 'NoneType' object has no attribute 'get'"


@pytest.fixture
def no_cluster(monkeypatch, tmp_path):
    """No kubectl context, and not inside a pod."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.setattr("kubernetes.config.load_config", _refuse_config)


def _refuse_config():
    import kubernetes

    raise kubernetes.config.ConfigException("no configuration")


def _watch(recorded, logs, tmp_path, capsys):
    package = tmp_path / "tiny.yaml"
    package.write_text(to_yaml(two_steps(["true"], ["true"])))
    with KfpApi(final_state="FAILED", run_details=recorded["run"]["run_details"]) as api:
        api.logs = logs
        destination = submit.Destination(host=api.url)
        options = submit.RunOptions(watch=True, watch_interval_seconds=0.01)
        assert submit.submit(package, "tiny", {}, destination, options) == 1
        url = api.url
    return capsys.readouterr().out.splitlines(), url


def test_failed_step_is_named_with_its_log_and_the_next_command(no_cluster, tmp_path, capsys):
    recorded = kubeflow_recordings.failed_run()
    lines, url = _watch(recorded, {recorded["pod"]: recorded["log"]}, tmp_path, capsys)
    start = lines.index("Step 'statistics-gen' failed; the log of its last pod ends with")
    assert any(line.strip() == _CAUSE for line in lines[start:])
    assert not any("argo=true" in line for line in lines)
    command = f"kubectl --namespace kubeflow logs {recorded['pod']} --container main"
    assert f"The whole log: {command}" in lines
    assert any("submit again with the same command" in line for line in lines)
    assert any(line.startswith(f"The run in Kubeflow's interface: {url}/#/runs") for line in lines)
    # Argo's own nodes say nothing to a person.
    assert not any("executor(0)" in line or "root" in line for line in lines[start:])


def test_without_a_log_the_command_that_shows_it_is_printed(no_cluster, tmp_path, capsys):
    recorded = kubeflow_recordings.failed_run()
    lines, _ = _watch(recorded, {}, tmp_path, capsys)
    (line,) = [line for line in lines if line.startswith("Step 'statistics-gen' failed")]
    assert line.endswith(f"kubectl --namespace kubeflow logs {recorded['pod']} --container main")


def test_the_log_is_read_from_the_cluster_if_kubeflow_has_none(tmp_path, capsys, monkeypatch):
    """On a single-user installation Kubeflow's API does not find the pod."""
    recorded = kubeflow_recordings.failed_run()
    asked = []

    class CoreV1Api:
        def read_namespaced_pod_log(self, pod, namespace, container, tail_lines):
            asked.append((pod, namespace, container))
            return recorded["log"]

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("kubernetes.config.load_config", lambda: None)
    monkeypatch.setattr("kubernetes.client.CoreV1Api", CoreV1Api)
    lines, _ = _watch(recorded, {}, tmp_path, capsys)
    assert asked == [(recorded["pod"], "kubeflow", "main")]
    assert any(line.strip() == _CAUSE for line in lines)


def test_a_cluster_that_does_not_answer_is_no_error(monkeypatch):
    class CoreV1Api:
        def read_namespaced_pod_log(self, *args, **kwargs):
            raise urllib3.exceptions.MaxRetryError(None, "/", None)

    monkeypatch.setattr("kubernetes.config.load_config", lambda: None)
    monkeypatch.setattr("kubernetes.client.CoreV1Api", CoreV1Api)
    assert watch.log_of_kubernetes("kubeflow", "pod") == ""
