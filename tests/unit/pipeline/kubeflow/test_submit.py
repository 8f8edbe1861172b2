import json
import socket
import types

import kfp_server_api
import pytest
import urllib3

from pipeline.kubeflow import submit
from tests import kubeflow_recordings
from tests.unit.pipeline.kubeflow.kfp_api import ApiError, KfpApi
from tests.unit.pipeline.kubeflow.pipelines import to_yaml, two_steps


@pytest.fixture
def package(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))  # kfp.Client keeps a context file there
    monkeypatch.delenv(submit.TOKEN_VARIABLE, raising=False)
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(two_steps(["true"], ["true"])))
    return path


@pytest.fixture
def api():
    with KfpApi() as server:
        yield server


def _submit(api, package, parameters=None, token_file=None, namespace=None, **options):
    return submit.submit(
        package,
        "tiny",
        parameters or {},
        submit.Destination(host=api.url, token_file=token_file, namespace=namespace),
        submit.RunOptions(watch_interval_seconds=0.01, **options),
    )


def test_uploads_and_runs_with_parameters(api, package):
    options = {"experiment": "e1", "run_name": "r1", "service_account": "runner"}
    assert _submit(api, package, {"steps": 5}, **options) == 0
    (pipeline,) = api.pipelines.values()
    (version,) = api.versions.values()
    (experiment,) = api.experiments.values()
    (run,) = api.runs.values()
    assert pipeline["display_name"] == "tiny"
    assert version["text"] == package.read_text()
    assert experiment["display_name"] == "e1"
    assert run["display_name"] == "r1"
    assert run["experiment_id"] == experiment["experiment_id"]
    assert run["service_account"] == "runner"
    assert run["runtime_config"]["parameters"] == {"steps": 5}
    assert run["pipeline_version_reference"] == {
        "pipeline_id": pipeline["pipeline_id"],
        "pipeline_version_id": version["pipeline_version_id"],
    }


def test_submitting_twice_uploads_once(api, package):
    _submit(api, package)
    _submit(api, package)
    assert len(api.calls("POST", "/pipelines/upload_version")) == 1
    assert len(api.runs) == 2


def test_a_pipeline_belongs_to_its_namespace(api, package):
    """As on a multi-user installation: the same name in two profiles, twice each."""
    for namespace in ("team-a", "team-b", "team-a", "team-b"):
        _submit(api, package, namespace=namespace)
    assert [p["namespace"] for p in api.pipelines.values()] == ["team-a", "team-b"]
    assert len(api.versions) == 2
    assert len(api.runs) == 4


def test_changed_pipeline_becomes_a_new_version_and_an_unchanged_one_does_not(api, package):
    _submit(api, package)
    package.write_text(package.read_text() + "# edited\n")
    _submit(api, package)
    _submit(api, package)
    assert len(api.pipelines) == 1
    assert len(api.versions) == 2
    newest = list(api.versions)[-1]
    references = [r["pipeline_version_reference"]["pipeline_version_id"] for r in api.runs.values()]
    assert references[1:] == [newest, newest]


def test_recurring_run_replaces_the_one_of_the_same_name(api, package):
    _submit(api, package, {"text": "[[CurrentTime]]"}, recurring="0 0 3 * * *")
    _submit(api, package, recurring="0 0 4 * * *")
    _submit(api, package, recurring="0 0 5 * * *", run_name="other")
    first, second, other = api.recurring_runs.values()
    assert first["status"] == "DISABLED"
    assert first["runtime_config"]["parameters"] == {"text": "[[CurrentTime]]"}
    assert (second["status"], other["status"]) == ("ENABLED", "ENABLED")
    # A macro is replaced only in runs of the newest version; else the version is named.
    (version,) = api.versions
    assert "pipeline_version_id" not in first["pipeline_version_reference"]
    assert second["pipeline_version_reference"]["pipeline_version_id"] == version
    assert second["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert second["no_catchup"] is True
    assert second["max_concurrency"] in (1, "1")
    assert not api.runs


@pytest.mark.parametrize("schedule", ["0 3 * * *", "daily"])
def test_schedule_needs_six_fields(api, package, schedule):
    with pytest.raises(submit.SubmitError, match="expected six fields"):
        _submit(api, package, recurring=schedule)
    assert not api.requests


def test_a_macro_that_kubeflow_leaves_alone_is_refused(api, package):
    with pytest.raises(submit.SubmitError, match=r"--param text=.*Use \[\[CurrentTime"):
        _submit(api, package, {"text": "[[ScheduledTime.20060102]]"}, recurring="0 0 3 * * *")
    assert not api.requests


def test_token_is_sent_as_bearer(package, tmp_path):
    token_file = tmp_path / "token"
    token_file.write_text("s3cret\n")
    with KfpApi(token="s3cret") as api:
        _submit(api, package, token_file=str(token_file))
        assert {request.authorization for request in api.requests} == {"Bearer s3cret"}
        assert len(api.runs) == 1


def test_token_from_the_environment(package, monkeypatch):
    monkeypatch.setenv(submit.TOKEN_VARIABLE, "s3cret")
    with KfpApi(token="s3cret") as api:
        _submit(api, package)
        assert len(api.runs) == 1


def test_missing_token(package):
    with KfpApi(token="s3cret") as api:
        with pytest.raises(submit.SubmitError, match=r"401.*--token_file.*\n.*Nothing was created"):
            _submit(api, package)
        assert len(api.requests) == 1


def test_missing_token_file(api, package):
    with pytest.raises(submit.SubmitError, match="--token_file /no/such: No such file"):
        _submit(api, package, token_file="/no/such")


def test_unreachable_host(package):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(submit.SubmitError, match=r"cannot be reached.*\n.*Nothing was created"):
        submit.submit(package, "tiny", {}, submit.Destination(host=url), submit.RunOptions())


@pytest.mark.parametrize(
    ("call", "status", "message", "stands"),
    [
        (("GET", "/pipelines"), 403, r"403.*User is not allowed.*--namespace", "Nothing was"),
        (("POST", "/pipelines"), 409, r"409.*exists already", "Nothing was created"),
        (
            ("POST", "/pipelines/upload_version"),
            400,
            r"400.*User is not allowed",
            "Already created: pipeline 'tiny'",
        ),
        (("POST", "/experiments"), 403, r"403.*--namespace", "Already created: pipeline 'tiny'"),
        (("POST", "/runs"), 500, r"500.*on the server's side", "Already created: pipeline 'tiny'"),
        (("GET", "/healthz"), 404, r"404.*not the API of Kubeflow", "Nothing was created"),
    ],
)
def test_refusal_says_why_and_what_was_made(api, package, call, status, message, stands):
    api.fail[call] = ApiError(status, "User is not allowed")
    with pytest.raises(submit.SubmitError, match=f"(?s){message}.*{stands}"):
        _submit(api, package)
    assert not api.runs


def test_server_refuses_an_old_schema(api, package):
    package.write_text(package.read_text().replace("2.1.0", "2.0.0"))
    with pytest.raises(submit.SubmitError, match=r"400.*only supports schema version 2\.1\.0"):
        _submit(api, package)
    assert not api.versions


def test_server_refuses_a_parameter_of_another_type(api, package):
    with pytest.raises(submit.SubmitError, match=r"400.*steps: expected NUMBER_INTEGER"):
        _submit(api, package, {"steps": "many"})
    assert not api.runs


@pytest.mark.parametrize(("state", "code"), [("SUCCEEDED", 0), ("CANCELED", 1)])
def test_watch_ends_with_the_run(package, capsys, state, code):
    with KfpApi(final_state=state) as api:
        assert _submit(api, package, watch=True) == code
    assert state in capsys.readouterr().out


def test_watch_gives_up_in_time(package):
    late = pytest.raises(submit.SubmitError, match="has not ended within 0 s; it is still running")
    with KfpApi(final_state="RUNNING") as api, late:
        _submit(api, package, watch=True, watch_timeout_seconds=0)


def _refuse(answer):
    """A server's answer as kfp.Client raises it."""
    return kfp_server_api.ApiException(
        http_resp=types.SimpleNamespace(
            status=answer["status"],
            reason="",
            data=json.dumps(answer["body"]),
            getheaders=dict,
        )
    )


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        ("upload_of_an_old_schema", "the pipeline spec has version 2.0.0."),
        ("upload_of_a_version_of_an_unknown_pipeline", "Failed to create a pipeline version."),
        ("pipeline_that_exists", "The name ppp already exist. Please specify a new name."),
        ("unknown_run", "Run 1234 not found."),
        ("unknown_path", "Not Found."),
        ("run_of_an_unknown_version", "PipelineVersion y not found."),
    ],
)
def test_what_kubeflow_answered_is_shown(refused, reason):
    answer = kubeflow_recordings.refusals()[refused]
    with (
        pytest.raises(submit.SubmitError) as raised,
        submit.explained(submit.Destination(host="http://kfp"), []),
    ):
        raise _refuse(answer)
    assert reason in str(raised.value)
    assert str(raised.value).startswith(f"http://kfp answered {answer['status']}")


def _answer(api, method, path, body=None, upload=None):
    fields = {"uploadfile": ("p.yaml", upload)} if upload else None
    headers = None if upload else {"Content-Type": "application/json"}
    response = urllib3.request(
        method,
        f"{api.url}/apis/v2beta1{path}",
        fields=fields,
        body=None if upload else json.dumps(body),
        headers=headers,
    )
    return response.status, response.json()


@pytest.mark.parametrize(
    ("refused", "call"),
    [
        ("upload_of_an_old_schema", ("POST", "/pipelines/upload_version?name=v&pipelineid={id}")),
        (
            "upload_of_a_version_of_an_unknown_pipeline",
            ("POST", "/pipelines/upload_version?name=v&pipelineid=1234"),
        ),
        ("pipeline_that_exists", ("POST", "/pipelines")),
        ("unknown_path", ("GET", "/nothing")),
    ],
)
def test_the_stub_refuses_as_kubeflow_did(api, package, refused, call):
    method, path = call
    upload = None
    made = _answer(api, "POST", "/pipelines", {"display_name": "ppp"})[1]
    if "upload" in path:
        upload = package.read_text()
        if refused == "upload_of_an_old_schema":
            upload = upload.replace("2.1.0", "2.0.0")
    path = path.format(id=made["pipeline_id"])
    status, body = _answer(api, method, path, {"display_name": "ppp"}, upload)
    recorded = kubeflow_recordings.refusals()[refused]
    assert status == recorded["status"]
    for key in ("message", "error_message", "code"):
        assert body.get(key) == recorded["body"].get(key)


@pytest.mark.parametrize(
    "image", ["registry:5000/mind:1.2", "mind@sha256:" + "0" * 64, "r/mind:2@sha256:" + "a" * 64]
)
def test_fixed_images(image):
    submit.check_image(image)


@pytest.mark.parametrize("image", ["mind", "mind:latest", "registry:5000/mind", "mind:"])
def test_images_that_may_change(image):
    with pytest.raises(submit.SubmitError, match="expected a fixed image"):
        submit.check_image(image)


def test_a_digest_that_is_not_whole_is_not_blamed_on_the_tag():
    with pytest.raises(submit.SubmitError) as error:
        submit.check_image("mind@sha256:12")
    assert "expected 64 hexadecimal digits after @sha256:, received 'sha256:12'" in str(error.value)
    assert "latest" not in str(error.value)
