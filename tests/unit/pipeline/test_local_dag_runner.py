"""What an unchanged second run on this machine does."""

import shutil

import pytest
from tfx import v1 as tfx
from tfx.types import standard_artifacts

from components.pusher.component import AtomicPusher
from pipeline.create_pipeline import PUSHER
from pipeline.local_dag_runner import LocalDagRunner
from retrieval.manifest import write_manifest
from retrieval.versions import complete_versions

# Read by ImportedModel, so that a test sees whether it ran.
runs_of_importer: list[str] = []


@tfx.dsl.components.component
def ImportedModel(
    source: tfx.dsl.components.Parameter[str],
    model: tfx.dsl.components.OutputArtifact[standard_artifacts.Model],
) -> None:
    from tfx.utils import io_utils, path_utils

    runs_of_importer.append(source)
    io_utils.copy_dir(source, path_utils.serving_model_dir(model.uri))


@pytest.fixture
def run(tmp_path):
    """Runs a pipeline of two steps that pushes one model; returns the pushed versions."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "saved_model.pb").write_text("graph")
    write_manifest(str(source), {"run_key": "a"})
    destination = str(tmp_path / "pushed")
    runs_of_importer.clear()

    def call() -> list[str]:
        importer = ImportedModel(source=str(source)).with_id("importer")
        pusher = AtomicPusher(
            model=importer.outputs["model"],
            push_destination=tfx.proto.PushDestination(
                filesystem=tfx.proto.PushDestination.Filesystem(base_directory=destination)
            ),
        ).with_id(PUSHER)
        LocalDagRunner().run(
            tfx.dsl.Pipeline(
                pipeline_name="two-steps",
                pipeline_root=str(tmp_path / "root"),
                components=[importer, pusher],
                enable_cache=True,
                metadata_connection_config=(
                    tfx.orchestration.metadata.sqlite_metadata_connection_config(
                        str(tmp_path / "metadata.db")
                    )
                ),
            )
        )
        return complete_versions(destination)

    call.destination = tmp_path / "pushed"
    return call


def test_an_unchanged_run_pushes_nothing_anew(run):
    first = run()
    assert len(first) == 1
    assert run() == first
    assert len(runs_of_importer) == 1  # the second time from cache


def test_a_deleted_version_is_pushed_again_without_other_work(run):
    (first,) = run()
    shutil.rmtree(run.destination / first)
    assert len(run()) == 1
    assert len(runs_of_importer) == 1
