import pytest

from pipeline.kubeflow.launcher_paths import local_path, readable_uri


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("minio://bucket/a/b", "/minio/bucket/a/b"),
        ("s3://bucket/a", "/s3/bucket/a"),
        ("gs://bucket/a", "/gcs/bucket/a"),
        ("/already/local", "/already/local"),
    ],
)
def test_local_path_is_the_launchers(uri, path):
    assert local_path(uri, "") == path


def test_development_root_goes_before_object_stores_only(monkeypatch):
    monkeypatch.setenv("KFP_LAUNCHER_ROOT", "/tmp/pod")
    assert local_path("minio://bucket/a") == "/tmp/pod/minio/bucket/a"
    assert local_path("/already/local") == "/already/local"


def test_minio_is_read_as_s3():
    assert readable_uri("minio://bucket/a") == "s3://bucket/a"
    assert readable_uri("gs://bucket/a") == "gs://bucket/a"
