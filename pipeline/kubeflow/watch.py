"""Waits for the end of a run, and explains what failed, why, and what to do next.

Kubeflow's API returns the nodes of Argo's workflow (``root``, ``trainer``, ``executor``,
``executor(0)``), none of which includes a reason. The reason is in the log of the failed step's
last pod. The id of a node, and hence the name of its pod, is a hash of the node's place in the
workflow (argo-workflows ``workflow/util/pod_name.go`` and ``Workflow.NodeID``), so it can be
computed.
"""

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import kfp
import kfp_server_api
import kubernetes
import urllib3

SUCCEEDED = "SUCCEEDED"
FAILED = "FAILED"
_END_STATES = (SUCCEEDED, FAILED, "SKIPPED", "CANCELED")

_DRIVER = "-driver"
# Nodes that duplicate the state of a step: the workflow's root, and attempts.
_INNER_NODE = re.compile(r"root|executor(\(\d+\))?")
# Templates of Kubeflow's compiler that are part of pod names; before Argo 3.3, pod names have none.
_STEP_TEMPLATES = ("retry-system-container-impl-", "system-container-impl-", "")
_DRIVER_TEMPLATES = ("system-container-driver-", "")
_CONTAINER = "main"
_LOG_LINES = 20
_LOG_LINES_READ = 400
# Lines of Argo's executor and of Kubeflow's launcher that are not errors.
_SHELL_LINE = re.compile(r"time=\S+ level=INFO |[IW]\d{4} \d\d:\d\d:\d\d\.\d+ ")


class StillRunning(Exception):
    """The run has not ended within the given time."""


def wait(client: kfp.Client, run_id: str, timeout_seconds: float, interval_seconds: float) -> Any:
    """Waits until a run has ended and returns it.

    kfp.Client's own waiting never ends if a run is cancelled.

    Raises:
      StillRunning: after ``timeout_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    while (run := client.get_run(run_id)).state not in _END_STATES:
        if time.monotonic() > deadline:
            raise StillRunning(
                f"Run {run_id} has not ended within {timeout_seconds} s; it is still running."
            )
        time.sleep(interval_seconds)
    return run


def explain(client: kfp.Client, run: Any, namespace: str) -> str:
    """Describes what failed in a run, its last log lines, and the next command to type.

    Args:
      client: Client of the server that ran it.
      run: A run that did not succeed, as returned by the server.
      namespace: Namespace of the run.
    """
    details = run.run_details.task_details if run.run_details else None
    tasks = details or []
    workflow = _workflow(tasks)
    failed = _failed_steps(tasks)
    paragraphs = [_explain_step(client, run, namespace, workflow, name) for name in failed]
    if not failed:
        reason = run.error.message if run.error else "the server gave no reason"
        paragraphs = [f"No step failed: {reason}."]
    paragraphs.append(
        "When the cause is fixed, submit again with the same command: Kubeflow takes the steps "
        "that succeeded from its cache."
    )
    return "\n".join(paragraphs)


def _workflow(tasks: list[Any]) -> str:
    """Returns the name of Argo's workflow: the only task that is the parent of ``root``."""
    nodes = {child.pod_name for task in tasks for child in task.child_tasks or []}
    for task in tasks:
        if task.display_name and _node_id(task.display_name, "root") in nodes:
            return task.display_name
    return ""


def _failed_steps(tasks: list[Any]) -> list[str]:
    workflow = _workflow(tasks)
    names = {
        task.display_name
        for task in tasks
        if task.state == FAILED
        and task.display_name
        and task.display_name != workflow
        and not _INNER_NODE.fullmatch(task.display_name)
    }
    return sorted(names)


def _explain_step(client: kfp.Client, run: Any, namespace: str, workflow: str, name: str) -> str:
    tasks = run.run_details.task_details
    nodes = {child.pod_name for task in tasks for child in task.child_tasks or []}
    attempts = list(_attempts(workflow, name, nodes))
    what = f"Step {name!r} failed"
    templates: tuple[str, ...] = _STEP_TEMPLATES
    if name.endswith(_DRIVER):
        what = f"Kubeflow's driver of step {name.removesuffix(_DRIVER)!r} failed"
        templates, node = _DRIVER_TEMPLATES, _node_id(workflow, "root", name)
    else:
        node = attempts[-1] if attempts else _node_id(workflow, "root", name)
        if len(attempts) > 1:
            what += f" in each of {len(attempts)} attempts"
    pods = [node.replace(f"{workflow}-", f"{workflow}-{template}") for template in templates]
    command = f"kubectl --namespace {namespace} logs {{pod}} --container {_CONTAINER}"
    for pod in pods:
        log = _log(client, run.run_id, namespace, pod)
        if log:
            return "\n".join(
                [
                    f"{what}; the log of its last pod ends with",
                    *(f"    {line}" for line in _last_lines(log)),
                    f"The whole log: {command.format(pod=pod)}",
                ]
            )
    return (
        f"{what}; neither Kubeflow nor the current kubectl context has its log. With access to "
        "the cluster, and as long as the pod exists, run: "
        f"{command.format(pod=pods[0])}"
    )


def _attempts(workflow: str, step: str, nodes: set[str]) -> Iterator[str]:
    """Yields the node ids of a step's attempts, in order."""
    for number in itertools.count():
        node = _node_id(workflow, "root", step, f"executor({number})")
        if node not in nodes:
            break
        yield node
    single = _node_id(workflow, "root", step, "executor")
    if number == 0 and single in nodes:  # a step without retries
        yield single


def _node_id(workflow: str, *place: str) -> str:
    """Computes Argo's id of a node: FNV-1a (32 bits) of its place in the workflow."""
    value = 0x811C9DC5
    for byte in ".".join((workflow, *place)).encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return f"{workflow}-{value}"


def _log(client: kfp.Client, run_id: str, namespace: str, pod: str) -> str:
    """Returns a pod's log, from Kubeflow or from Kubernetes; empty if neither has it."""
    return _log_of_kubeflow(client, run_id, pod) or log_of_kubernetes(namespace, pod)


def _log_of_kubeflow(client: kfp.Client, run_id: str, pod: str) -> str:
    """Reads a log from Kubeflow's API, which has archived logs, and pods of multi-user installs."""
    try:
        response = client.runs.api_client.call_api(
            f"/apis/v1alpha1/runs/{run_id}/nodes/{pod}/log",
            "GET",
            auth_settings=["Bearer"],
            _return_http_data_only=True,
            _preload_content=False,
        )
    except kfp_server_api.ApiException:
        return ""
    text = response.data.decode(errors="replace")
    # The endpoint sends its status before it looks for the log.
    return "" if text.startswith('{"error_message"') else text


def log_of_kubernetes(namespace: str, pod: str) -> str:
    """Reads a log from the cluster of the current kubectl context, or of the pod this runs in."""
    try:
        kubernetes.config.load_config()
        return kubernetes.client.CoreV1Api().read_namespaced_pod_log(
            pod, namespace, container=_CONTAINER, tail_lines=_LOG_LINES_READ
        )
    except (
        kubernetes.config.ConfigException,
        kubernetes.client.ApiException,
        urllib3.exceptions.HTTPError,
        OSError,
    ):
        return ""


def _last_lines(log: str) -> list[str]:
    lines = [line for line in log.splitlines() if line.strip() and not _SHELL_LINE.match(line)]
    return lines[-_LOG_LINES:]


def message(body: str | bytes | None) -> str:
    """Returns the reason from an answer of the server; empty if there is none.

    The API answers like gRPC's gateway (``message``); its upload endpoints and its log endpoint
    have a format of their own (``error_message``).
    """
    try:
        answer = json.loads(body or "")
    except ValueError:
        return ""
    if not isinstance(answer, dict):
        return ""
    text = answer.get("message") or answer.get("error_message") or answer.get("error") or ""
    return f"{str(text).rstrip('.')}." if text else ""
