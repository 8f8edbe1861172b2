"""Finds the object store of a Kubeflow installation from inside a step.

The store that Kubeflow Pipelines installs depends on its version: MinIO up to 2.14, SeaweedFS under
MinIO's name in 2.15, and SeaweedFS under its own name from 2.16 on, always with the same
credentials. A compiled file does not say where it will run, so the step finds the store itself.
"""

import json
import socket
from collections.abc import Iterator
from typing import Any

# Value of ``kubeflow.object_store.endpoint`` for Amazon's own store.
AMAZON = "aws"

# The services of Kubeflow's own manifests, the newer one first, because an upgraded cluster may
# still have both. 2.15 also has a service ``seaweedfs``, but without this port.
SERVICES = (("seaweedfs.kubeflow", 9000), ("minio-service.kubeflow", 9000))

_CONNECT_SECONDS = 5.0
_ENDPOINT_VARIABLES = ("S3_ENDPOINT", "AWS_ENDPOINT_URL")  # TensorFlow's name and boto3's


def endpoint_environment(endpoint: str) -> dict[str, str]:
    """Returns environment variables that make ``s3://`` of TensorFlow and Beam use ``endpoint``."""
    return dict.fromkeys(_ENDPOINT_VARIABLES, endpoint)


def environment(executor_input: dict[str, Any]) -> dict[str, str]:
    """Returns environment variables for the store that Kubeflow itself uses.

    The driver names the store in the metadata of every input artifact. A step without inputs, or
    one whose artifacts do not name a store, uses the first of Kubeflow's own services that accepts
    a connection.

    Args:
      executor_input: The ExecutorInput from the driver.

    Returns:
      The variables; none if the driver names Amazon's own store.

    Raises:
      RuntimeError: neither exists.
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
        except OSError:  # the host or the port does not exist
            continue
        return endpoint_environment(f"http://{host}:{port}")
    names = ", ".join(host for host, _ in SERVICES)
    raise RuntimeError(
        "This step writes to s3:// and needs the address of the store. Expected an input artifact "
        f"that names it, or one of the services {names} on port 9000; found neither. Set "
        f"kubeflow.object_store.endpoint to the URL of the store (or to {AMAZON}) and compile "
        "again."
    )


def _sessions(executor_input: dict[str, Any]) -> Iterator[dict[str, str]]:
    for artifacts in executor_input["inputs"].get("artifacts", {}).values():
        for artifact in artifacts.get("artifacts", []):
            info = artifact.get("metadata", {}).get("store_session_info")
            if info:
                yield json.loads(info).get("Params", {})
