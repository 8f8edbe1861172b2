"""A pipeline of two steps, which runs in a second: a model is imported, then pushed."""

from pathlib import Path

from tfx import v1 as tfx
from tfx.types import standard_artifacts

from components.pusher.component import AtomicPusher
from pipeline.create_pipeline import PUSHER
from pipeline.local_dag_runner import LocalDagRunner
from pipeline.output_layout import OutputLayout
from pipeline.target import RunTarget
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


class TwoSteps:
    """An output directory, and runs that write to it.

    Args:
      folder: Where it and the models to be imported are made.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self.layout = OutputLayout(folder / "output", "two-steps")
        self.layout.metadata.parent.mkdir(parents=True)
        runs_of_importer.clear()

    def target(self) -> RunTarget:
        return RunTarget(
            pipeline_root=str(self.layout.pipeline_root),
            push_destination=str(self.layout.serving_models),
            checkpoint_dir="",
            bad_rows_dir="",
            span_store="",
            accepted_data_dir="",
            input_fingerprint="",
            run_key="",
            metadata_connection_config=(
                tfx.orchestration.metadata.sqlite_metadata_connection_config(
                    str(self.layout.metadata)
                )
            ),
        )

    def run(self, model: str = "a") -> list[str]:
        """Imports and pushes ``model``; returns the pushed versions."""
        source = self._folder / model
        if not source.exists():
            source.mkdir()
            (source / "saved_model.pb").write_text("graph")
            write_manifest(str(source), {"run_key": model})
        importer = ImportedModel(source=str(source)).with_id("importer")
        target = self.target()
        pusher = AtomicPusher(
            model=importer.outputs["model"],
            push_destination=tfx.proto.PushDestination(
                filesystem=tfx.proto.PushDestination.Filesystem(
                    base_directory=target.push_destination
                )
            ),
        ).with_id(PUSHER)
        LocalDagRunner().run(
            tfx.dsl.Pipeline(
                pipeline_name=self.layout.name,
                pipeline_root=target.pipeline_root,
                components=[importer, pusher],
                enable_cache=True,
                metadata_connection_config=target.metadata_connection_config,
            )
        )
        return complete_versions(target.push_destination)
