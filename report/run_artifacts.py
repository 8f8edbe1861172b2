"""Reads the steps of a run and their outputs from ML Metadata."""

import dataclasses
from typing import Any

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from pipeline.target import RunTarget

_STATE = metadata_store_pb2.Execution.State
_OUTPUT = metadata_store_pb2.Event.Type.OUTPUT


@dataclasses.dataclass(frozen=True)
class OutputArtifact:
    """One output of a step.

    Attributes:
      uri: Location of the artifact.
      properties: Its custom properties.
    """

    uri: str
    properties: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Step:
    """One step of a run.

    Attributes:
      state: ``ran``, ``cached`` or ``failed``.
      seconds: Duration.
      outputs: First output artifact by output name.
    """

    state: str
    seconds: float
    outputs: dict[str, OutputArtifact]


def latest_run(target: RunTarget, pipeline_name: str) -> dict[str, Step]:
    """Returns the steps of the newest run by node id, in the order in which they ran."""
    store = MetadataStore(target.metadata_connection_config)
    runs = store.get_contexts_by_type("pipeline_run")
    if not runs:
        return {}
    run = max(runs, key=lambda context: context.id)
    steps = {}
    for execution in sorted(store.get_executions_by_context(run.id), key=lambda e: e.id):
        contexts = store.get_contexts_by_execution(execution.id)
        node = next(c.name for c in contexts if c.type == "node").removeprefix(f"{pipeline_name}.")
        steps[node] = Step(
            state={_STATE.COMPLETE: "ran", _STATE.CACHED: "cached"}.get(
                execution.last_known_state, "failed"
            ),
            seconds=(execution.last_update_time_since_epoch - execution.create_time_since_epoch)
            / 1000.0,
            outputs=_outputs(store, execution.id),
        )
    return steps


def _outputs(store: MetadataStore, execution_id: int) -> dict[str, OutputArtifact]:
    events = [
        event
        for event in store.get_events_by_execution_ids([execution_id])
        if event.type == _OUTPUT
    ]
    artifacts = {a.id: a for a in store.get_artifacts_by_id([e.artifact_id for e in events])}
    outputs = {}
    for event in events:
        key = next((s.key for s in event.path.steps if s.HasField("key")), "")
        artifact = artifacts[event.artifact_id]
        outputs[key] = OutputArtifact(
            artifact.uri,
            {
                name: getattr(value, value.WhichOneof("value"))
                for name, value in artifact.custom_properties.items()
            },
        )
    return outputs
