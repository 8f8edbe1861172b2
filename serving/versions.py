"""Version directories below a model's base path: which exist, which are wanted."""

import dataclasses
import os
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

from contract.release import ReleaseState, stable_candidates
from contract.versions import SAVED_MODEL_FILE, is_version_name

_MAX_VERSION = 2**63 - 1  # an int64 in TF Serving's messages
_SAVED_MODEL_FILES = (SAVED_MODEL_FILE, SAVED_MODEL_FILE + "txt")


@dataclasses.dataclass(frozen=True)
class VersionPolicy:
    """Which versions are to be served.

    Attributes:
      kind: ``latest`` (the newest ``num_versions`` that load), ``all``, or
        ``specific`` (exactly ``versions``).
      num_versions: For ``latest``.
      versions: For ``specific``.
    """

    kind: Literal["latest", "all", "specific"] = "latest"
    num_versions: int = 1
    versions: tuple[int, ...] = ()

    @classmethod
    def from_proto(
        cls, proto: "source_pb2.FileSystemStoragePathSourceConfig.ServableVersionPolicy"
    ) -> "VersionPolicy":
        """Reads TF Serving's ``model_version_policy``; unset means latest(1)."""
        return cls(
            kind=proto.WhichOneof("policy_choice") or "latest",
            num_versions=proto.latest.num_versions or 1,
            versions=tuple(sorted(set(proto.specific.versions))),
        )

    def candidates(
        self, present: Iterable[int], release: ReleaseState, serving: int | None = None
    ) -> list[int]:
        """Versions of ``present`` that the policy may serve; the one to be stable first.

        Args:
          present: The versions that are there.
          release: What is released of them; nothing to the ``specific`` policy.
          serving: The version that is stable now.
        """
        if self.kind == "specific":
            return sorted((v for v in present if v in self.versions), reverse=True)
        return stable_candidates(release, present, serving)

    @property
    def follows_release(self) -> bool:
        """Whether the release state counts, because the policy names no versions itself."""
        return self.kind != "specific"

    @property
    def limit(self) -> int | None:
        """How many versions to serve at most."""
        return self.num_versions if self.kind == "latest" else None


def is_version(digits: str) -> bool:
    """Whether decimal ``digits``, of any number, are a version that TF Serving can name."""
    significant = digits.lstrip("0")
    # Python refuses to convert texts of thousands of digits.
    return len(significant) <= len(str(_MAX_VERSION)) and int(significant or 0) <= _MAX_VERSION


@dataclasses.dataclass(frozen=True)
class Listing:
    """What is below a base path.

    Attributes:
      versions: Version directories by number. An entry of which nothing can be
        learned is one of them: loading it fails, and tells why.
      ignored: Why an entry that is named by a number is no version.
    """

    versions: dict[int, Path]
    ignored: dict[str, str]

    @classmethod
    def read(cls, base_path: Path) -> "Listing":
        """Lists the entries of ``base_path`` that are named by a decimal number.

        Raises:
          OSError: ``base_path`` is not there or cannot be read.
        """
        versions: dict[int, Path] = {}
        ignored: dict[str, str] = {}
        for entry in sorted(base_path.iterdir()):
            name = entry.name
            if not is_version_name(name):
                continue
            if not is_version(name):
                ignored[name] = f"a version is at most {_MAX_VERSION}"
            elif not _may_be_directory(entry):
                ignored[name] = "it is not a directory"
            elif int(name) in versions:
                ignored[name] = f"{versions[int(name)].name} is the same version"
            else:
                versions[int(name)] = entry
        return cls(versions, ignored)


def _may_be_directory(entry: Path) -> bool:
    try:
        return stat.S_ISDIR(entry.stat().st_mode)
    except FileNotFoundError:  # removed meanwhile, or a link to nothing
        return False
    except OSError:
        return True


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The files of a version directory at one moment.

    Attributes:
      files: (relative path, size, change time in ns), sorted.
    """

    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def take(cls, path: Path) -> "Snapshot":
        """Lists ``path``; files that vanish meanwhile are left out.

        Raises:
          OSError: something in it cannot be read.
        """
        files = []
        for file in _files_below(path):
            try:
                found = file.stat()
            except FileNotFoundError:
                continue
            # Change time, unlike modification time, cannot be preserved by
            # a copy: `cp -p` and `rsync -a` do not look old.
            files.append((str(file.relative_to(path)), found.st_size, found.st_ctime_ns))
        return cls(tuple(sorted(files)))

    def is_older_than(self, seconds: float) -> bool:
        """Whether no file changed within the last ``seconds``, by the clocks as they are."""
        newest = max((changed for _, _, changed in self.files), default=0)
        return time.time_ns() - newest >= seconds * 1e9


def has_saved_model(path: Path) -> bool:
    """Whether ``path`` holds the file that makes a directory a SavedModel.

    Raises:
      OSError: that cannot be found out.
    """
    for name in _SAVED_MODEL_FILES:
        try:
            (path / name).stat()
        except FileNotFoundError:
            continue
        return True
    return False


def files_of_model(path: Path) -> Snapshot | None:
    """The files of a version; None if they are no SavedModel. Raises OSError."""
    return Snapshot.take(path) if has_saved_model(path) else None


def _files_below(path: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    # Not Path.rglob, which passes over directories that it may not read.
    for folder, _, names in os.walk(path, onerror=refuse):
        yield from (Path(folder, name) for name in names)
