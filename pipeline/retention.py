"""Removes outputs of earlier local runs that are no longer needed.

The newest runs determine what is kept: their summaries, reports and logs, and all artifacts that
they refer to. A run whose steps came from the cache refers to artifacts of older executions, which
are therefore kept, so that the next unchanged run can use the cache as well.
"""

import contextlib
import dataclasses
import json
import logging
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from ml_metadata import MetadataStore
from ml_metadata.proto import metadata_store_pb2

from components.example_gen.errors import DataError
from components.example_gen.forgotten import read_forgotten
from components.example_gen.inputs import find_inputs
from components.example_gen.span_names import parse
from components.example_gen.span_store import stored_files
from contract.manifest import EXAMPLES
from contract.release import ReleaseError
from pipeline import entries
from pipeline.config import RunConfig
from pipeline.create_pipeline import PUSHER
from pipeline.output_layout import SUMMARY_FILE, OutputLayout
from pipeline.source_digest import source_digest
from pipeline.target import RunTarget
from retrieval.manifest import read_manifest
from retrieval.version_removal import removable_versions, remove_version
from retrieval.versions import versions

_SYSTEM = ".system"  # TFX's own files beside a step's artifacts
_REMOVED_PREFIX = ".removed-"
_SUCCESSFUL = (
    metadata_store_pb2.Execution.COMPLETE,
    metadata_store_pb2.Execution.CACHED,
)


@dataclasses.dataclass
class Removed:
    """Record of what was removed.

    runs: Number of runs whose summary, report and log were removed.
      artifacts: Number of outputs of steps.
      versions: Number of pushed versions.
      spans: Number of files of spans of which nothing is kept any more.
      spans: Files of spans of which nothing is kept any more.
      bytes: Size of everything that was removed, including checkpoints and other files that are not
        counted above.
      failed: What could not be removed, and why.
    """

    runs: int = 0
    artifacts: int = 0
    versions: int = 0
    spans: int = 0
    bytes: int = 0
    failed: list[str] = dataclasses.field(default_factory=list)

    def remove(self, path: Path) -> bool:
        """Removes a file or directory; returns whether it is gone.

        A directory is renamed first, so that nobody mistakes a partly removed one for a whole one.
        """
        try:
            size = _bytes_of(path)
            if path.is_dir() and not path.is_symlink():
                hidden = path
                if not path.name.startswith(_REMOVED_PREFIX):
                    hidden = path.with_name(f"{_REMOVED_PREFIX}{uuid.uuid4().hex}")
                    path.rename(hidden)
                shutil.rmtree(hidden)
            else:
                path.unlink()
        except OSError as error:
            self._failed(path, error)
            return False
        self.bytes += size
        return True

    def remove_version(self, push_destination: str, version: str) -> bool:
        """Removes a pushed version; returns whether it is gone."""
        path = Path(push_destination) / version
        try:
            size = _bytes_of(path)
            remove_version(push_destination, version)
        except OSError as error:
            self._failed(path, error)
            return False
        self.bytes += size
        self.versions += 1
        return True

    def _failed(self, path: Path, error: OSError) -> None:
        logging.warning("Cannot remove %s: %s", path, error)
        self.failed.append(f"{path}: {error.strerror or error}")


def clean_up(config: RunConfig, target: RunTarget, layout: OutputLayout) -> Removed:
    """Removes everything that ``config.retention`` does not keep.

    Call this at the end of a successful run while its lock is held, so that nothing else writes to
    the output directory. What cannot be removed is reported and left.

    Args:
      config: Configuration of the run.
      target: Target of the run.
      layout: Locations of the run's outputs.
    """
    removed = Removed()
    for place in (layout.pipeline_root, layout.runs, layout.checkpoints, layout.spans):
        for leftover in list(place.rglob(f"{_REMOVED_PREFIX}*")):  # from a removal that was killed
            removed.remove(leftover)
    keep = config.retention
    if keep.versions and "://" not in target.push_destination:
        _remove_versions(target, keep.versions, removed)
    if keep.runs:
        _remove_runs(layout, keep.runs, removed)
        _remove_artifacts(layout, target, keep.runs, removed)
        _remove_bad_rows(layout, removed)
    _remove_checkpoints(layout, removed)
    if keep.spans == "window" and config.data.window is not None:
        try:
            _remove_spans(config, target, layout, removed)
        except DataError as error:  # a file of the log was removed meanwhile
            removed.failed.append(f"{layout.spans}: {error}")
    return removed


def _remove_versions(target: RunTarget, keep: int, removed: Removed) -> None:
    # If the run is repeated unchanged, it compares its model with that version again.
    also = {target.baseline_version}
    try:
        removable = removable_versions(target.push_destination, keep, also)
    except ReleaseError as error:
        removed.failed.append(f"old versions: {error}")
        return
    for version in removable:
        removed.remove_version(target.push_destination, version)


def _remove_runs(layout: OutputLayout, keep: int, removed: Removed) -> None:
    runs = _entries(layout.runs)
    kept = [run for run in runs if (run / SUMMARY_FILE).exists()][-keep:]
    gone = [run for run in runs if run not in kept]
    for run in gone:
        removed.runs += removed.remove(run)
    # A run is named after the time of its end, a log after the time of the run's beginning.
    newest = max((run.name for run in gone if run < kept[0]), default="")
    for time, path in layout.log_files().items():
        if time <= newest:
            removed.remove(path)


def _remove_artifacts(layout: OutputLayout, target: RunTarget, keep: int, removed: Removed) -> None:
    store = MetadataStore(target.metadata_connection_config)
    kept = {Path(uri) for uri in _uris_of_runs(store, layout.name, keep)}
    kept |= set(_examples_of_versions(target.push_destination))
    for node in _entries(layout.pipeline_root):
        for output in _entries(node):
            for artifact in _entries(output):
                if output.name == _SYSTEM:
                    for leftover in _entries(artifact):
                        removed.remove(leftover)
                elif not any(uri.is_relative_to(artifact) for uri in kept):
                    # Keep TFX from taking this output from its cache, whatever is left of it.
                    mark_deleted(store, artifact)
                    removed.artifacts += removed.remove(artifact)


def _uris_of_runs(store: MetadataStore, name: str, keep: int) -> Iterator[str]:
    """Yields the URIs that the newest ``keep`` finished runs, and all runs since then, refer to."""
    node = store.get_context_by_type_and_name("node", f"{name}.{PUSHER}")
    pushers = {e.id for e in store.get_executions_by_context(node.id)} if node else set()
    runs = store.get_contexts_by_type("pipeline_run")
    ended = 0
    for run in sorted(runs, key=lambda context: context.id, reverse=True):
        if ended == keep:
            return
        executions = store.get_executions_by_context(run.id)
        reached_the_end = not pushers.isdisjoint(e.id for e in executions)
        ended += reached_the_end and all(e.last_known_state in _SUCCESSFUL for e in executions)
        events = store.get_events_by_execution_ids([e.id for e in executions])
        for artifact in store.get_artifacts_by_id({event.artifact_id for event in events}):
            yield artifact.uri


def _examples_of_versions(push_destination: str) -> Iterator[Path]:
    """Yields the examples with which a refresh of the items tunes an index again."""
    for version in versions(push_destination):
        facts = read_manifest(os.path.join(push_destination, version)) or {}
        if examples := facts.get(EXAMPLES):
            yield Path(examples)


def mark_deleted(store: MetadataStore, artifact: Path) -> None:
    """Makes TFX's cache ignore the artifact in a directory."""
    found = store.get_artifacts_by_uri(str(artifact))
    for row in found:
        row.state = metadata_store_pb2.Artifact.DELETED
    if found:
        store.put_artifacts(found)


def _remove_bad_rows(layout: OutputLayout, removed: Removed) -> None:
    named = set()
    for path in layout.runs.glob(f"*/{SUMMARY_FILE}"):
        with contextlib.suppress(OSError, ValueError):
            data = json.loads(path.read_text(encoding="utf-8"))["data"]
            named.add((data or {}).get("bad_rows"))
    for path in _entries(layout.bad_rows):
        if str(path) not in named:
            removed.remove(path)


def _remove_checkpoints(layout: OutputLayout, removed: Removed) -> None:
    """Removes checkpoints, except those of the last interrupted training, which may be resumed."""
    written = {
        training: max((file.stat().st_mtime for file in _files(training)), default=0.0)
        for training in _entries(layout.checkpoints)
    }
    newest = max(written, key=lambda training: written[training], default=None)
    for training, time in written.items():
        if training != newest or not time:
            removed.remove(training)


def _remove_spans(
    config: RunConfig, target: RunTarget, layout: OutputLayout, removed: Removed
) -> None:
    """Removes stored spans, except those in the window and newer ones."""
    inputs = find_inputs(config.data, target.span)
    assert inputs.window is not None
    used = {
        Path(file.entry)
        for file in stored_files(
            inputs,
            config.data.interactions,
            target.span_store,
            source_digest(*entries.SPAN_READER),
            read_forgotten(target.forgotten).digest,
        )
    }
    newest = parse(inputs.window.newest)
    for span in _entries(layout.spans):
        try:
            name = parse(span.name)
        except DataError:  # not written by this project
            continue
        if name.notation == newest.notation and name.number > newest.number:
            continue
        for entry in _entries(span):
            if entry not in used:
                removed.spans += removed.remove(entry)
        if not any(span.iterdir()):
            removed.remove(span)


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _files(path: Path) -> Iterable[Path]:
    return (file for file in path.rglob("*") if file.is_file())


def _bytes_of(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if not file.is_dir())
