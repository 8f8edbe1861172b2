"""Computes where Kubeflow's launcher keeps an artifact inside the pod.

The launcher downloads inputs to, and uploads outputs from, a local directory that mirrors the URI,
but passes the URI itself to the step. Source: ``LocalPathForURI`` in kubeflow/pipelines
``backend/src/v2/component/launcher_v2.go``.
"""

import os

_DIRECTORIES = {"minio://": "/minio/", "s3://": "/s3/", "gs://": "/gcs/"}

# Only the development runner sets this variable: a directory that represents the pod's /.
ROOT_VARIABLE = "KFP_LAUNCHER_ROOT"


def local_path(uri: str, root: str | None = None) -> str:
    """Returns the path of ``uri`` in the pod; URIs outside an object store are returned unchanged.

    Args:
      uri: An artifact's URI.
      root: Prefix; by default the environment variable ``KFP_LAUNCHER_ROOT``.
    """
    prefix = os.environ.get(ROOT_VARIABLE, "") if root is None else root
    for scheme, directory in _DIRECTORIES.items():
        if uri.startswith(scheme):
            return prefix + directory + uri.removeprefix(scheme)
    return uri


def readable_uri(uri: str) -> str:
    """Returns ``uri`` as TensorFlow and Beam can open it: ``minio://`` becomes ``s3://``."""
    return "s3://" + uri.removeprefix("minio://") if uri.startswith("minio://") else uri
