"""Finds the object store of a Kubeflow installation from inside a step.

Which store Kubeflow Pipelines installs depends on its version: MinIO up to 2.14,
SeaweedFS under MinIO's name in 2.15 and under its own from 2.16 on, always with the same
credentials. A compiled file does not know where it will run, so the step finds out.
"""

import json
import socket
from collections.abc import Iterator
from typing import Any

# What ``kubeflow.object_store.endpoint`` says for Amazon's own store.
AMAZON = "aws"

# The services of Kubeflow's own manifests, the newer one first: an upgraded cluster may
# still have both. 2.15 has a service ``seaweedfs`` too, without this port.
SERVICES = (("seaweedfs.kubeflow", 9000), ("minio-service.kubeflow", 9000))

_CONNECT_SECONDS = 5.0
_ENDPOINT_VARIABLES = ("S3_ENDPOINT", "AWS_ENDPOINT_URL")  # TensorFlow's name and boto3's


def endpoint_environment(endpoint: str) -> dict[str, str]:
    """Environment variables that point TensorFlow's and Beam's ``s3://`` at ``endpoint``."""
    return dict.fromkeys(_ENDPOINT_VARIABLES, endpoint)


def environment(executor_input: dict[str, Any]) -> dict[str, str]:
    """Environment variables for the store that Kubeflow itself uses.

    The driver names the store in the metadata of every input artifact. A step without
    inputs, or one whose artifacts say nothing, takes the first of Kubeflow's own
    services that accepts a connection.

    Args:
      executor_input: An ExecutorInput as the driver sent it.

    Returns:
      The variables; none if the driver names Amazon's own store.

    Raises:
      RuntimeError: if there is neither.
    """
    for session in _sessions(executor_input):
        host = session.get("endpoint", "")
        if host.endswith("amazonaws.com"):
            return {}
        if host:
            scheme = "http" if session.get("disableSSL") == "true" else "https"
            return endpoint_environment(f"{scheme}://{host}")
    for host, port in SERVICES:
        try:
            socket.create_connection((host, port), _CONNECT_SECONDS).close()
        except OSError:  # no such name, or no such port
            continue
        return endpoint_environment(f"http://{host}:{port}")
    names = ", ".join(host for host, _ in SERVICES)
    raise RuntimeError(
        "This step writes to s3:// and has to know where the store is. Expected an input artifact "
        f"that names it, or one of the services {names} on port 9000; received neither. Set "
        "kubeflow.object_store.endpoint to the URL of the store (or to {AMAZON}) and compile again."
    )


def _sessions(executor_input: dict[str, Any]) -> Iterator[dict[str, str]]:
    for artifacts in executor_input["inputs"].get("artifacts", {}).values():
        for artifact in artifacts.get("artifacts", []):
            info = artifact.get("metadata", {}).get("store_session_info")
            if info:
                yield json.loads(info).get("Params", {})
