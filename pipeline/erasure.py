"""Erases ids from an output directory; implements the command ``pipeline.forget``."""

import contextlib
import dataclasses
import datetime
import json
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from ml_metadata import MetadataStore
from tfx import v1 as tfx

from components.example_gen.forgotten import KINDS, Kind, add_forgotten, entries, read_forgotten
from contract.config_types import strict_json
from contract.errors import UserError
from contract.release import ReleaseError
from pipeline.config import RunConfig
from pipeline.id_scan import IdScan
from pipeline.output_layout import SUMMARY_FILE, OutputLayout
from pipeline.retention import Removed, mark_deleted
from retrieval.version_removal import removable_versions

Ids = Mapping[Kind, Collection[str]]

# Key in the summary of a run: the only part that names people and items.
_SAMPLES = "sample_people"
_IN_USE = (
    "versions that may be in use. Run the pipeline, which pushes a version without the ids; run "
    "this command again when neither a server nor a roll-back uses the old ones and they are an "
    "hour old"
)
_OURS = "files that this command removes without --check"
_NOT_OURS = (
    "files that no run of this pipeline wrote. Delete them, or name the configuration that they "
    "belong to"
)
_UNREADABLE = "files that cannot be read, so they may contain an id"


@dataclasses.dataclass(frozen=True)
class Finding:
    """A file, or a pushed version, in which an id was found but not removed.

    Attributes:
      path: Path of the file or version.
      advice: What it is, and what can be done about it.
    """

    path: Path
    advice: str


@dataclasses.dataclass(frozen=True)
class Erased:
    """The result of an erasure.

    Attributes:
      num_new: Ids that were not on the list before.
      removed: What was deleted.
      num_runs: Number of runs whose sample people were deleted from the summary.
      left: Places where an id can still be found.
    """

    num_new: int
    removed: Removed
    num_runs: int
    left: list[Finding]


class ErasureError(UserError):
    """An erasure cannot be carried out."""


class Erasure:
    """Erases ids from the outputs of one pipeline's runs.

    Nothing else may write to the output directory meanwhile; the caller must hold its lock.

    Args:
      config: The pipeline's configuration.
    """

    def __init__(self, config: RunConfig):
        self.layout = OutputLayout(Path(config.output_dir).resolve(), config.name)
        if not self.layout.output.is_dir():
            raise ErasureError(f"output_dir: there is no directory {self.layout.output}")
        if "://" in config.data.forgotten:
            raise ErasureError(
                f"data.forgotten: {config.data.forgotten} is in an object store, but the list can "
                "only be written to local files. Copy the list and its key here, name the copy "
                "with --set, and copy both back"
            )
        self.list = Path(config.data.forgotten or self.layout.forgotten).resolve()
        self._pushed = Path(config.push.destination or self.layout.serving_models)
        # This command cannot search an object store.
        self.searches_versions = "://" not in config.push.destination
        self._metadata = tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(self.layout.metadata)
        )

    def erase(self, ids: Ids) -> Erased:
        """Adds ids to the list, and deletes the files that contain them.

        Artifacts may contain an id that is new on the list in a form that no search finds, such as
        the sequence of a person's items without the person's id. Everything derived from the data
        is therefore deleted in that case.

        An interrupted erasure must be repeated; ids are added to the list only after all of that
        has been deleted.

        Raises:
          DataError: the list cannot be read.
        """
        removed = Removed()
        num_new = sum(not self.added_on(kind, text) for kind in KINDS for text in ids.get(kind, ()))
        if num_new:
            self._remove_derived(removed)
        today = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        add_forgotten(self.list, ids, today)
        scan = _scan(ids)
        runs = [run for run in _directories(self.layout.runs) if _names_id(run, scan)]
        for place in self._search(scan):
            unit = self._unit_of(place.path)
            if unit is not None and unit.parent == self.layout.runs:
                runs.append(unit)
            elif unit is not None and unit.exists():
                self._remove(unit, removed)
        num_runs = sum(_remove_samples(run, scan, removed) for run in dict.fromkeys(runs))
        return Erased(num_new, removed, num_runs, self.check(ids))

    def check(self, ids: Ids) -> list[Finding]:
        """Searches every file below the output directory, and the pushed versions.

        Returns:
          The places where an id was found, and the files that cannot be read.
        """
        return self._search(_scan(ids))

    def describe_list(self) -> str:
        """Describes how many people and items are on the list, and since when."""
        if not self.list.exists():
            return f"Nobody is on the list; there is no {self.list}"
        lines = [f"On the list {self.list}:"]
        for kind, hashes in entries(self.list).items():
            days = sorted(hashes.values())
            since = f", added from {days[0]} to {days[-1]}" if days else ""
            lines.append(f"  {len(days):,} {kind}{since}")
        return "\n".join(lines)

    def added_on(self, kind: Kind, text: str) -> str:
        """Returns the day on which an id was added to the list; empty if it is not on the list."""
        if not self.list.exists():
            return ""
        return entries(self.list)[kind].get(read_forgotten(str(self.list)).hash(text), "")

    def _remove_derived(self, removed: Removed) -> None:
        layout = self.layout
        for place in (
            layout.pipeline_root,
            layout.metadata.parent,
            layout.checkpoints,
            layout.spans,
            layout.bad_rows,
            # The models of the trials; the recipes that the search found contain no ids.
            *layout.tunings.glob("*/trials"),
            *layout.log_files().values(),
        ):
            if place.exists():
                removed.remove(place)

    def _search(self, scan: IdScan) -> list[Finding]:
        folders = [self.layout.output]
        if self.searches_versions and not self._pushed.is_relative_to(self.layout.output):
            folders.append(self._pushed)
        found: dict[Path, Finding] = {}
        for folder in folders:
            for path in sorted(folder.rglob("*")):
                if path.is_symlink() or not path.is_file():
                    continue
                version = self._version_of(path)
                if version in found:
                    continue
                try:
                    if not scan.finds_in(path):
                        continue
                    advice = _IN_USE if version else self._advice(path)
                    found[version or path] = Finding(version or path, advice)
                except OSError as error:
                    found[path] = Finding(path, f"{_UNREADABLE} ({error})")
        return list(found.values())

    def _advice(self, path: Path) -> str:
        unit = self._unit_of(path)
        return _NOT_OURS if unit is None else _OURS

    def _version_of(self, path: Path) -> Path | None:
        if not path.is_relative_to(self._pushed):
            return None
        return self._pushed / path.relative_to(self._pushed).parts[0]

    def _unit_of(self, path: Path) -> Path | None:
        """Returns what to delete if an id is in ``path``; None if no run wrote that path."""
        layout = self.layout
        if version := self._version_of(path):
            return version
        if path in layout.log_files().values():
            return path
        for root, depth in (
            (layout.pipeline_root, 3),  # node, output, execution
            (layout.spans, 2),  # span, file
            (layout.checkpoints, 1),
            (layout.tunings, 3),  # tuning, "trials", trial
            (layout.runs, 1),
            (layout.bad_rows, 1),
            (layout.metadata.parent, 1),
        ):
            if path.is_relative_to(root):
                return root.joinpath(*path.relative_to(root).parts[:depth])
        return None

    def _remove(self, unit: Path, removed: Removed) -> None:
        if unit.parent == self._pushed:
            with contextlib.suppress(ReleaseError):  # then it is unknown what is in use
                if unit.name in removable_versions(str(self._pushed), 1):
                    removed.remove_version(str(self._pushed), unit.name)
            return
        if unit.parent == self.layout.metadata.parent:
            # Otherwise TFX would number executions from 1 again, and write into existing artifacts.
            self._remove_derived(removed)
            return
        if unit.is_relative_to(self.layout.pipeline_root) and self.layout.metadata.exists():
            mark_deleted(MetadataStore(self._metadata), unit)
        removed.remove(unit)


def _scan(ids: Ids) -> IdScan:
    return IdScan({text for kind in KINDS for text in ids.get(kind, ())})


def _directories(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if path.is_dir())


def _names_id(run: Path, scan: IdScan) -> bool:
    """Whether the summary of a run, and hence its report, contains one of the ids."""
    try:
        return scan.is_in_value(json.loads((run / SUMMARY_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False


def _remove_samples(run: Path, scan: IdScan, removed: Removed) -> bool:
    """Deletes the sample people from the summary of a run, and its report, which shows them.

    If another part of the summary contains the id, the whole run is deleted.

    Returns:
      Whether the summary still exists.
    """
    path = run / SUMMARY_FILE
    summary = None
    with contextlib.suppress(OSError, ValueError):
        summary = {**json.loads(path.read_text(encoding="utf-8")), _SAMPLES: None}
    if summary is None or scan.is_in_value(summary):
        removed.runs += removed.remove(run)
        return False
    _remove_all(file for file in run.iterdir() if file != path)
    path.write_text(strict_json(summary, indent=1), encoding="utf-8")
    return True


def _remove_all(files: Iterable[Path]) -> None:
    for file in list(files):
        file.unlink()
