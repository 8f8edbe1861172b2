"""Uploads a compiled pipeline to Kubeflow Pipelines and starts it, once or on a schedule."""

import contextlib
import dataclasses
import datetime
import hashlib
import io
import json
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kfp
import kfp_server_api
import urllib3

from pipeline.kubeflow import watch

TOKEN_VARIABLE = "KFP_TOKEN"

_DEFAULT_NAMESPACE = "kubeflow"
_RECURRING_DISABLED = "DISABLED"
_VERSION_DIGITS = 12
_PAGE_SIZE = 100
_CRON_FIELDS = 6
_MACRO = "[["
_SCHEDULED_TIME = f"{_MACRO}ScheduledTime"

_ADVICE = {
    401: "The server requires a bearer token: pass --token_file or set $KFP_TOKEN.",
    403: "The account does not have permission: check --namespace and the roles of the account.",
    404: "The server at this address is not the API of Kubeflow Pipelines 2: check --host.",
    409: "Something of this name exists already.",
}


class SubmitError(Exception):
    """A submission failed; the message is meant for the user."""


@dataclasses.dataclass(frozen=True)
class Destination:
    """Where to submit the pipeline.

    Attributes:
      host: URL of the API; None is the cluster that this runs in.
      namespace: Namespace of the run, on a multi-user installation.
      token_file: File with a bearer token; None uses ``$KFP_TOKEN`` or, in a cluster, the mounted
        token of the service account.
      ca_cert: Certificate authority of the host's certificate.
    """

    host: str | None = None
    namespace: str | None = None
    token_file: str | None = None
    ca_cert: str | None = None


@dataclasses.dataclass(frozen=True)
class RunOptions:
    """How to run the pipeline.

    Attributes:
      experiment: Name of the experiment; it is created if it does not exist.
      run_name: Name shown to people; empty uses the pipeline's name and the time.
      service_account: Service account of the steps; None uses the installation's default.
      recurring: Schedule as six cron fields; None runs once, now.
      watch: Whether to wait for the end of the run.
      watch_timeout_seconds: Longest time to wait.
      watch_interval_seconds: Time between two polls of the run.
    """

    experiment: str = "Default"
    run_name: str = ""
    service_account: str | None = None
    recurring: str | None = None
    watch: bool = False
    watch_timeout_seconds: int = 24 * 3600
    watch_interval_seconds: float = 10.0


def check_image(image: str) -> None:
    """Refuses an image reference that may name another image tomorrow.

    Raises:
      SubmitError: the reference has ``:latest``, no tag, or an incomplete digest.
    """
    if re.search(r"@sha256:[0-9a-f]{64}$", image):
        return
    if "@" in image:
        raise SubmitError(
            f"--image {image}: expected 64 hexadecimal digits after @sha256:, received "
            f"{image.partition('@')[2]!r}. `docker push` prints the whole digest."
        )
    _, colon, tag = image.rpartition("/")[2].partition(":")
    if not colon or not tag or tag == "latest":
        raise SubmitError(
            f"--image {image}: expected a fixed image, REGISTRY/NAME@sha256:DIGEST or "
            "REGISTRY/NAME:VERSION. The image that :latest names may change between the steps of "
            "a run, and cached outputs could come from another image."
        )


def submit(
    package: Path,
    name: str,
    parameters: dict[str, Any],
    destination: Destination,
    options: RunOptions,
) -> int:
    """Uploads ``package`` and runs it.

    The pipeline is uploaded as a version named after its content, or not at all if the server
    already has that version: submitting again starts another run of the same version. A recurring
    run replaces an earlier one of the same name.

    Args:
      package: A compiled YAML file, validated by ``pipeline.kubeflow.spec``.
      name: Name of the pipeline.
      parameters: Validated parameter values.
      destination: Where to submit.
      options: How to run.

    Returns:
      The exit code: 0, or 1 if a watched run did not succeed.

    Raises:
      SubmitError: says what was refused, why, and what was created before.
    """
    if options.recurring:
        _check_schedule(options, parameters)
    made: list[str] = []
    with explained(destination, made):
        client = _connect(destination)
        pipeline_id, version_id = _upload(client, package, name, destination.namespace, made)
        with _quiet():
            experiment = client.create_experiment(
                options.experiment, namespace=destination.namespace
            )
        what = {
            "pipeline_id": pipeline_id,
            "version_id": version_id,
            "params": parameters,
            "service_account": options.service_account,
        }
        if options.recurring:
            _schedule(
                client, experiment.experiment_id, options.run_name or name, what, options, made
            )
            return 0
        run_name = options.run_name or f"{name} {datetime.datetime.now():%Y-%m-%d %H:%M:%S}"
        with _quiet():
            run = client.run_pipeline(experiment.experiment_id, run_name, **what)
        made.append(f"run {run.run_id}")
        print(f"Run {run_name!r} created: {run.run_id}")
        return _watch(client, run.run_id, destination, options) if options.watch else 0


def _check_schedule(options: RunOptions, parameters: dict[str, Any]) -> None:
    for name, value in parameters.items():
        if _SCHEDULED_TIME in str(value):
            raise SubmitError(
                f"--param {name}={value}: Kubeflow Pipelines 2 does not replace "
                f"{_SCHEDULED_TIME}…]] in the parameters of a compiled pipeline. Use "
                "[[CurrentTime.20060102]], the time when the run starts, which it replaces from "
                "2.16 on."
            )
    fields = (options.recurring or "").split()
    if len(fields) != _CRON_FIELDS:
        raise SubmitError(
            f"--recurring {options.recurring!r}: expected six fields (second minute hour day month "
            f"weekday), like '0 0 3 * * *', received {len(fields)}"
        )
    if options.watch:
        raise SubmitError("--watch: a recurring run never ends; remove --watch.")


def _connect(destination: Destination) -> kfp.Client:
    token = _token(destination)
    if destination.host:
        # kfp.Client asks five times, with pauses, and does not say why it failed.
        configuration = kfp_server_api.Configuration(host=destination.host.rstrip("/"))
        if token:
            configuration.api_key = {"authorization": token}
            configuration.api_key_prefix = {"authorization": "Bearer"}
        if destination.ca_cert:
            configuration.ssl_ca_cert = destination.ca_cert
        api = kfp_server_api.ApiClient(configuration)
        kfp_server_api.HealthzServiceApi(api).healthz_service_get_healthz()
    with _quiet():
        return kfp.Client(
            host=destination.host,
            namespace=destination.namespace or _DEFAULT_NAMESPACE,
            existing_token=token,
            ssl_ca_cert=destination.ca_cert,
        )


def _token(destination: Destination) -> str | None:
    if not destination.token_file:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        return Path(destination.token_file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SubmitError(f"--token_file {destination.token_file}: {error.strerror}") from None


def _upload(
    client: kfp.Client, package: Path, name: str, namespace: str | None, made: list[str]
) -> tuple[str, str]:
    """Returns the ids of the pipeline and of the version whose content is ``package``."""
    digest = hashlib.sha256(package.read_bytes()).hexdigest()[:_VERSION_DIGITS]
    version_name = f"{name}-{digest}"
    pipeline_id = _pipeline_id(client, name, namespace)
    if pipeline_id is None:
        # Uploading a file as a new pipeline would name its first version after the pipeline, and a
        # second submission of the same file would not find that version.
        pipeline_id = client.pipelines.pipeline_service_create_pipeline(
            client.api_models.V2beta1Pipeline(display_name=name, namespace=namespace)
        ).pipeline_id
        made.append(f"pipeline {name!r}")
        print(f"Pipeline {name!r} created: {pipeline_id}")
    known = client.list_pipeline_versions(
        pipeline_id, page_size=_PAGE_SIZE, filter=_named(version_name)
    )
    for version in known.pipeline_versions or []:
        if version.display_name == version_name:
            print(f"Pipeline {name!r} already has version {version_name}")
            return pipeline_id, version.pipeline_version_id
    with _quiet():
        version = client.upload_pipeline_version(
            str(package), version_name, pipeline_id=pipeline_id
        )
    made.append(f"version {version_name!r} of pipeline {name!r}")
    print(f"Version {version_name} of pipeline {name!r} uploaded")
    return pipeline_id, version.pipeline_version_id


def _pipeline_id(client: kfp.Client, name: str, namespace: str | None) -> str | None:
    # kfp.Client's own lookup ignores the namespace, but on a multi-user installation pipelines
    # belong to namespaces.
    found = client.list_pipelines(page_size=_PAGE_SIZE, filter=_named(name), namespace=namespace)
    for pipeline in found.pipelines or []:
        if pipeline.display_name == name:
            return pipeline.pipeline_id
    return None


def _schedule(
    client: kfp.Client,
    experiment_id: str,
    job_name: str,
    what: dict[str, Any],
    options: RunOptions,
    made: list[str],
) -> None:
    before = client.list_recurring_runs(
        experiment_id=experiment_id, page_size=_PAGE_SIZE, filter=_named(job_name)
    )
    replaced = [
        job
        for job in before.recurring_runs or []
        if job.display_name == job_name and job.status != _RECURRING_DISABLED
    ]
    version_id = what["version_id"]
    if any(_MACRO in str(value) for value in what["params"].values()):
        # Kubeflow replaces macros only if the schedule asks its API for a run, which it does for a
        # pipeline's newest version; a specific version becomes a workflow at once.
        version_id = None
        print("The parameters contain a macro, so the schedule runs the pipeline's newest version.")
    models = client.api_models
    # kfp.Client's own method requires a version.
    recurring = client.recurring_runs.recurring_run_service_create_recurring_run(
        models.V2beta1RecurringRun(
            display_name=job_name,
            experiment_id=experiment_id,
            pipeline_version_reference=models.V2beta1PipelineVersionReference(
                pipeline_id=what["pipeline_id"], pipeline_version_id=version_id
            ),
            runtime_config=models.V2beta1RuntimeConfig(parameters=what["params"]),
            service_account=what["service_account"],
            trigger=models.V2beta1Trigger(
                cron_schedule=models.V2beta1CronSchedule(cron=options.recurring)
            ),
            mode=models.RecurringRunMode.ENABLE,
            max_concurrency=1,
            no_catchup=True,
        )
    )
    made.append(f"recurring run {recurring.recurring_run_id}")
    print(f"Recurring run {job_name!r} created: {recurring.recurring_run_id}")
    for job in replaced:
        client.disable_recurring_run(job.recurring_run_id)
        print(f"Recurring run {job.recurring_run_id} of the same name disabled")


def _watch(client: kfp.Client, run_id: str, destination: Destination, options: RunOptions) -> int:
    try:
        run = watch.wait(
            client, run_id, options.watch_timeout_seconds, options.watch_interval_seconds
        )
    except watch.StillRunning as error:
        raise SubmitError(str(error)) from None
    print(f"Run {run_id}: {run.state}")
    if run.state == watch.SUCCEEDED:
        return 0
    print(watch.explain(client, run, destination.namespace or _DEFAULT_NAMESPACE))
    if destination.host:
        host = destination.host.rstrip("/")
        print(f"The run in Kubeflow's interface: {host}/#/runs/details/{run_id}")
    return 1


def _named(name: str) -> str:
    return json.dumps(
        {"predicates": [{"operation": "EQUALS", "key": "display_name", "stringValue": name}]}
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Suppresses the output of kfp.Client, which is reported in one line instead."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def explained(destination: Destination, made: list[str]) -> Iterator[None]:
    """Converts the client's exceptions into a message that also says what was already created."""
    where = destination.host or "the cluster's Kubeflow Pipelines"
    try:
        yield
    except kfp_server_api.ApiException as error:
        advice = _ADVICE.get(error.status, "The fault is on the server's side: see its log.")
        reason = (
            f"{where} answered {error.status} {error.reason}: {watch.message(error.body)} {advice}"
        )
    except (urllib3.exceptions.HTTPError, OSError) as error:
        reason = f"{where} cannot be reached ({type(error).__name__}): check --host and network."
    else:
        return
    state = f"Already created: {', '.join(made)}." if made else "Nothing was created."
    raise SubmitError(f"{reason}\n{state}")
