"""What steps do with ``s3://`` themselves, against an S3 server on loopback."""

import os
import subprocess
import sys
import tempfile

import pytest

from tests.integration.kubeflow import s3

_BUCKET = f"s3://{s3.BUCKET}"


@pytest.fixture(scope="module")
def environment():
    with s3.server() as environment:
        yield environment


@pytest.mark.slow
@pytest.mark.parametrize("check", ["push_and_load", "checkpoint_and_resume", "read_with_beam"])
def test_in_a_process_of_its_own(environment, check):
    finished = subprocess.run(
        [sys.executable, __file__, check], env=environment, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def push_and_load():
    import tensorflow as tf
    from tfx.dsl.io import fileio

    from retrieval.push import push
    from retrieval.versions import complete_versions

    module = tf.Module()
    module.weights = tf.Variable([1.0, 2.0])
    model_dir = tempfile.mkdtemp()
    tf.saved_model.save(module, model_dir)
    destination = f"{_BUCKET}/serving_models/mind"
    first = push(model_dir, destination)
    second = push(model_dir, destination)
    assert complete_versions(destination) == [first, second]
    loaded = tf.saved_model.load(f"{destination}/{second}")
    assert loaded.weights.numpy().tolist() == [1.0, 2.0]
    fileio.remove(f"{destination}/{second}/saved_model.pb")
    assert complete_versions(destination) == [first]


def checkpoint_and_resume():
    import tensorflow as tf
    from tfx.dsl.io import fileio

    directory = f"{_BUCKET}/checkpoints/key"
    value = tf.Variable(0.0)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(v=value), directory, max_to_keep=2)
    for step in (1.0, 2.0, 3.0):
        value.assign(step)
        manager.save()
    assert len(manager.checkpoints) == 2
    restored = tf.Variable(0.0)
    tf.train.Checkpoint(v=restored).restore(tf.train.latest_checkpoint(directory))
    assert restored.numpy() == 3.0
    fileio.rmtree(directory)
    assert not fileio.exists(directory)


def read_with_beam():
    from apache_beam.io.filesystems import FileSystems
    from tfx.dsl.io import fileio

    with fileio.open(f"{_BUCKET}/data/2026-01-01/log.csv", "w") as file:
        file.write("user_id,item_id,timestamp\n")
    ((found,),) = [m.metadata_list for m in FileSystems.match([f"{_BUCKET}/data/*/log.csv"])]
    assert found.path == f"{_BUCKET}/data/2026-01-01/log.csv"
    with FileSystems.open(found.path) as file:
        assert file.read() == b"user_id,item_id,timestamp\n"
    assert FileSystems.checksum(found.path)


if __name__ == "__main__":
    from pipeline.kubeflow.entrypoint import open_file_systems

    open_file_systems([])
    {f.__name__: f for f in (push_and_load, checkpoint_and_resume, read_with_beam)}[sys.argv[1]]()
    os._exit(0)
