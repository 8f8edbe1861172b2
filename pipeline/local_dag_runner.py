"""Runs the pipeline on this machine."""

from tfx import v1 as tfx
from tfx.proto.orchestration import pipeline_pb2

from pipeline.create_pipeline import PUSHER


class LocalDagRunner(tfx.orchestration.LocalDagRunner):
    """TFX's local runner, except that the Pusher never uses the cache.

    The directory that the Pusher writes to changes outside the pipeline: versions are deleted, or
    pushed by others. A cached result could therefore refer to a version that no longer exists. TFX
    itself can only cache all steps of a pipeline or none.
    """

    def run_with_ir(
        self,
        pipeline: pipeline_pb2.Pipeline,
        run_options: pipeline_pb2.RunOptions | None = None,
    ) -> None:
        """Runs a compiled pipeline; ``run`` compiles and then calls this."""
        for node in pipeline.nodes:
            if node.pipeline_node.node_info.id == PUSHER:
                node.pipeline_node.execution_options.caching_options.enable_cache = False
        super().run_with_ir(pipeline, run_options)
