"""Version directories below a model's base path: which exist, which are wanted."""

import dataclasses
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import tensorflow as tf
from tensorflow_serving.config import file_system_storage_path_source_pb2 as source_pb2

from contract.versions import is_version_name


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

    def candidates(self, present: Iterable[int]) -> list[int]:
        """Versions of ``present`` that the policy may serve, newest first."""
        newest_first = sorted(present, reverse=True)
        if self.kind == "specific":
            return [version for version in newest_first if version in self.versions]
        return newest_first

    @property
    def limit(self) -> int | None:
        """How many versions to serve at most."""
        return self.num_versions if self.kind == "latest" else None


def list_versions(base_path: Path) -> dict[int, Path]:
    """Version directories of ``base_path``: those with a decimal name."""
    try:
        entries = list(base_path.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        int(entry.name): entry
        for entry in entries
        if is_version_name(entry.name) and entry.is_dir()
    }


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The files of a version directory at one moment.

    Attributes:
      files: (relative path, size, change time in ns), sorted.
    """

    files: tuple[tuple[str, int, int], ...]

    @classmethod
    def take(cls, path: Path) -> "Snapshot":
        """Lists ``path``; files that vanish meanwhile are left out."""
        files = []
        for file in sorted(path.rglob("*")):
            try:
                stat = file.stat()
            except FileNotFoundError:
                continue
            if file.is_file():
                # Change time, unlike modification time, cannot be preserved by
                # a copy: `cp -p` and `rsync -a` do not look old.
                files.append((str(file.relative_to(path)), stat.st_size, stat.st_ctime_ns))
        return cls(tuple(files))

    def is_settled(self, seconds: float) -> bool:
        """Whether no file changed within the last ``seconds``."""
        newest = max((changed for _, _, changed in self.files), default=0)
        return time.time_ns() - newest >= seconds * 1e9


def has_saved_model(path: Path) -> bool:
    """Whether ``path`` holds the file that makes a directory a SavedModel."""
    return tf.saved_model.contains_saved_model(str(path))
