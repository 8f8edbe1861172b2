"""A Kubeflow Pipelines API server on loopback that validates like the real one.

State lives in memory. It answers the REST calls that ``kfp.Client`` makes for
uploading and running pipelines, refuses pipelines and parameters that the real
server refuses, and can be told to fail a given call. Its refusals, and what it says
of a failed run, have the form of the real server's, which ``tests/recordings``
holds; ``test_recordings.py`` compares.
"""

import dataclasses
import email
import http.server
import itertools
import json
import re
import threading
import urllib.parse
from typing import Any

import yaml

from pipeline.kubeflow import spec

_BASE = "/apis/v2beta1"
_GRPC_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6}
_NOW = "2026-01-01T00:00:00Z"


class ApiError(Exception):
    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
        self.message = message


@dataclasses.dataclass
class Request:
    method: str
    path: str
    query: dict[str, str]
    authorization: str
    body: Any = None


class KfpApi:
    """The server; ``with KfpApi() as api: ... api.url``."""

    def __init__(
        self,
        token: str = "",
        final_state: str = "SUCCEEDED",
        run_details: dict[str, Any] | None = None,
    ):
        self.token = token
        self.final_state = final_state
        self.run_details = run_details or {}
        self.logs: dict[str, str] = {}  # by pod
        self.fail: dict[tuple[str, str], ApiError] = {}
        self.requests: list[Request] = []
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.recurring_runs: dict[str, dict[str, Any]] = {}
        self._ids = itertools.count(1)

    def __enter__(self) -> "KfpApi":
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: Any) -> None:
                pass

            def _answer(self) -> None:
                try:
                    status, result = 200, api.answer(self)
                except ApiError as error:
                    path = urllib.parse.urlparse(self.path).path
                    status, result = error.status, _refusal(path, error)
                text = isinstance(result, str)
                payload = result.encode() if text else json.dumps(result).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if text else "application/json")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            do_GET = do_POST = do_DELETE = _answer

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        return self

    def __exit__(self, *args: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def calls(self, method: str, path: str) -> list[Request]:
        return [r for r in self.requests if (r.method, r.path) == (method, _BASE + path)]

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> dict[str, Any] | str:
        url = urllib.parse.urlparse(handler.path)
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        content_type = handler.headers.get("Content-Type", "")
        body: Any = None
        if content_type.startswith("multipart/"):
            parts = email.message_from_bytes(
                b"Content-Type: " + content_type.encode() + b"\r\n\r\n" + raw
            ).get_payload()
            body = parts[0].get_payload(decode=True).decode()
        elif raw:
            body = json.loads(raw)
        request = Request(
            handler.command,
            url.path,
            dict(urllib.parse.parse_qsl(url.query)),
            handler.headers.get("Authorization", ""),
            body,
        )
        self.requests.append(request)
        if self.token and request.authorization != f"Bearer {self.token}":
            raise ApiError(401, "Request header error: there is no user identity header.")
        if match := re.fullmatch("/apis/v1alpha1/runs/([^/]+)/nodes/([^/]+)/log", url.path):
            # The real one answers 200 and says afterwards that it has no log.
            no_log = json.dumps({"error_message": "BadRequestError: Failed to read logs"})
            return self.logs.get(match.group(2), no_log)
        path = url.path.removeprefix(_BASE)
        if (request.method, path) in self.fail:
            raise self.fail[request.method, path]
        return self._route(request, path)

    def _route(self, request: Request, path: str) -> dict[str, Any]:
        call = (request.method, path)
        if call == ("GET", "/healthz"):
            return {"multi_user": False}
        if call == ("GET", "/experiments"):
            return {"experiments": _named(self.experiments, request)}
        if call == ("POST", "/experiments"):
            return self._keep(self.experiments, "experiment_id", request.body)
        if call == ("GET", "/pipelines"):
            namespace = request.query.get("namespace", "")
            in_namespace = {
                k: v for k, v in self.pipelines.items() if v.get("namespace", "") == namespace
            }
            return {"pipelines": _named(in_namespace, request)}
        if call == ("POST", "/pipelines"):
            return self._create_pipeline(request.body)
        if call == ("POST", "/pipelines/upload_version"):
            return self._upload_version(
                request.query["pipelineid"], request.query["name"], request.body
            )
        if match := re.fullmatch("/pipelines/([^/]+)/versions", path):
            of_pipeline = {
                k: v for k, v in self.versions.items() if v["pipeline_id"] == match.group(1)
            }
            return {"pipeline_versions": _named(of_pipeline, request)}
        if call == ("POST", "/runs"):
            self._check_job(request.body)
            return self._keep(self.runs, "run_id", {**request.body, "state": "RUNNING"})
        if match := re.fullmatch("/runs/([^/]+)", path):
            run = self.runs[match.group(1)]
            run["state"] = self.final_state
            run["run_details"] = self.run_details
            return run
        if call == ("GET", "/recurringruns"):
            return {"recurringRuns": _named(self.recurring_runs, request)}
        if call == ("POST", "/recurringruns"):
            self._check_job(request.body, newest=True)
            if not request.body.get("trigger", {}).get("cron_schedule", {}).get("cron"):
                raise ApiError(400, "Schedule is missing")
            job = {**request.body, "status": "ENABLED"}
            return self._keep(self.recurring_runs, "recurring_run_id", job)
        if match := re.fullmatch("/recurringruns/([^/]+):disable", path):
            self.recurring_runs[match.group(1)]["status"] = "DISABLED"
            return {}
        raise ApiError(404, "Not Found")

    def _keep(self, where: dict[str, Any], id_name: str, item: dict[str, Any]) -> dict[str, Any]:
        key = f"{id_name.removesuffix('_id')}-{next(self._ids)}"
        where[key] = {**item, id_name: key, "created_at": _NOW}
        return where[key]

    def _create_pipeline(self, body: dict[str, Any]) -> dict[str, Any]:
        name, namespace = body["display_name"], body.get("namespace", "")
        if any(
            (p["display_name"], p["namespace"]) == (name, namespace)
            for p in self.pipelines.values()
        ):
            raise ApiError(
                409,
                "Failed to create a pipeline due to server error: Failed to create a pipeline in "
                "PipelineStore: Already exist error: Failed to create a new pipeline. The name "
                f"{name} already exist. Please specify a new name",
            )
        pipeline = {"display_name": name, "name": name, "namespace": namespace}
        return self._keep(self.pipelines, "pipeline_id", pipeline)

    def _upload_version(self, pipeline_id: str, name: str, text: str) -> dict[str, Any]:
        if pipeline_id not in self.pipelines:
            raise ApiError(400, "Failed to create a pipeline version")
        _parse(text)
        version = {"pipeline_id": pipeline_id, "display_name": name, "text": text}
        kept = self._keep(self.versions, "pipeline_version_id", version)
        documents = list(yaml.safe_load_all(text))
        return {**{k: v for k, v in kept.items() if k != "text"}, "pipeline_spec": documents[0]}

    def _check_job(self, body: dict[str, Any], newest: bool = False) -> None:
        if body.get("experiment_id") not in self.experiments:
            raise ApiError(400, "Invalid input error: experiment not found")
        reference = body.get("pipeline_version_reference") or {}
        version = self.versions.get(reference.get("pipeline_version_id", ""))
        if newest and "pipeline_version_id" not in reference:
            of_pipeline = [
                v
                for v in self.versions.values()
                if v["pipeline_id"] == reference.get("pipeline_id")
            ]
            version = of_pipeline[-1] if of_pipeline else None
        if version is None or version["pipeline_id"] != reference.get("pipeline_id"):
            raise ApiError(400, "Invalid input error: no such pipeline version")
        given = (body.get("runtime_config") or {}).get("parameters") or {}
        try:
            spec.parameter_values(spec.parse(version["text"]), given)
        except spec.SpecError as error:
            raise ApiError(400, f"invalid pipeline job inputs: {error}") from None


def _parse(text: str) -> None:
    try:
        spec.parse(text)
    except spec.SpecError as error:
        raise ApiError(400, str(error)) from None


def _refusal(path: str, error: ApiError) -> dict[str, Any]:
    if path.startswith(f"{_BASE}/pipelines/upload"):  # no gRPC gateway answers there
        return {"error_message": error.message, "error_details": f"{error.message}\ngithub.com/…"}
    return {"code": _GRPC_CODES.get(error.status, 13), "message": error.message}


def _named(items: dict[str, dict[str, Any]], request: Request) -> list[dict[str, Any]]:
    found = [{k: v for k, v in item.items() if k != "text"} for item in items.values()]
    for predicate in json.loads(request.query.get("filter") or "{}").get("predicates", []):
        assert predicate["operation"] in ("EQUALS", 1)
        found = [i for i in found if i[predicate["key"]] == predicate["stringValue"]]
    return found
