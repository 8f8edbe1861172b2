"""Version directories below a model's base path: which of them exist, and which to serve."""

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
    """Selects the versions to serve.

    Attributes:
      kind: ``latest`` (the newest ``num_versions`` that load), ``all``, or
        ``specific`` (exactly ``versions``).
      num_versions: Number of versions, for ``latest``.
      versions: Version numbers, for ``specific``.
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
        """Returns versions of ``present`` that may be served, the preferred stable one first.

        Args:
          present: The existing versions.
          release: The release state; the ``specific`` policy ignores it.
          serving: The current stable version.
        """
        if self.kind == "specific":
            return sorted((v for v in present if v in self.versions), reverse=True)
        return stable_candidates(release, present, serving)

    @property
    def follows_release(self) -> bool:
        """Whether the release state applies, because the policy names no versions itself."""
        return self.kind != "specific"

    @property
    def limit(self) -> int | None:
        """The largest number of versions to serve; None if there is no limit."""
        return self.num_versions if self.kind == "latest" else None


def is_version(digits: str) -> bool:
    """Whether ``digits``, a decimal number of any length, is a version in TF Serving's range."""
    significant = digits.lstrip("0")
    # Python refuses to convert strings of thousands of digits.
    return len(significant) <= len(str(_MAX_VERSION)) and int(significant or 0) <= _MAX_VERSION


@dataclasses.dataclass(frozen=True)
class Listing:
    """The entries of a base path.

    Attributes:
      versions: Version directories by number. They include entries that cannot be inspected:
        loading them fails with the reason.
      ignored: Why entries whose names are numbers are not versions, by entry.
    """

    versions: dict[int, Path]
    ignored: dict[str, str]

    @classmethod
    def read(cls, base_path: Path) -> "Listing":
        """Lists the entries of ``base_path`` whose names are decimal numbers.

        Raises:
          OSError: ``base_path`` does not exist or cannot be read.
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
    except FileNotFoundError:  # removed meanwhile, or a dangling link
        return False
    except OSError:
        return True


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The files of a version directory at one point in time.

    Attributes:
      files: (relative path, size, change time in ns), sorted.
    """

    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def take(cls, path: Path) -> "Snapshot":
        """Lists the files in ``path``; files that vanish meanwhile are left out.

        Raises:
          OSError: a file or directory in it cannot be read.
        """
        files = []
        for file in _files_below(path):
            try:
                found = file.stat()
            except FileNotFoundError:
                continue
            # A copy cannot preserve the change time, unlike the modification time, so files copied
            # by `cp -p` or `rsync -a` do not look old.
            files.append((str(file.relative_to(path)), found.st_size, found.st_ctime_ns))
        return cls(tuple(sorted(files)))

    def is_older_than(self, seconds: float) -> bool:
        """Whether no file changed within the last ``seconds``, assuming that the clocks agree."""
        newest = max((changed for _, _, changed in self.files), default=0)
        return time.time_ns() - newest >= seconds * 1e9


def has_saved_model(path: Path) -> bool:
    """Whether ``path`` contains the file that makes a directory a SavedModel.

    Raises:
      OSError: that cannot be determined.
    """
    for name in _SAVED_MODEL_FILES:
        try:
            (path / name).stat()
        except FileNotFoundError:
            continue
        return True
    return False


def files_of_model(path: Path) -> Snapshot | None:
    """Returns the files of a version; None if it is not a SavedModel. Raises OSError."""
    return Snapshot.take(path) if has_saved_model(path) else None


def _files_below(path: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    # Unlike this, Path.rglob silently skips directories that it may not read.
    for folder, _, names in os.walk(path, onerror=refuse):
        yield from (Path(folder, name) for name in names)
