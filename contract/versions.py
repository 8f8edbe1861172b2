"""Version directories as TF Serving reads them: named by a number, with a SavedModel inside."""

from pathlib import Path

from contract.manifest import MANIFEST_PATH, files_of, from_json

# A version without this file, which is written last, is incomplete.
SAVED_MODEL_FILE = "saved_model.pb"

# Requests that a server replays before a version receives traffic.
WARMUP_PATH = "assets.extra/tf_serving_warmup_requests"


def is_version_name(name: str) -> bool:
    """Whether a directory of this name is a version: decimal digits only."""
    # isdigit alone also accepts digits of other scripts.
    return name.isascii() and name.isdigit()


def local_complete_versions(base_path: Path) -> list[int]:
    """Returns the complete versions of a local directory, oldest first.

    A version is complete if it has ``saved_model.pb`` and every file that its manifest names, in
    full size. ``retrieval.versions.complete_versions`` applies the same rule on every file system
    that TensorFlow supports.

    Raises:
      OSError: if ``base_path`` does not exist or cannot be read.
    """
    return sorted(
        int(entry.name)
        for entry in base_path.iterdir()
        if is_version_name(entry.name) and _is_complete(entry)
    )


def _is_complete(version_dir: Path) -> bool:
    if not (version_dir / SAVED_MODEL_FILE).is_file():
        return False
    if not (version_dir / MANIFEST_PATH).exists():
        return True
    try:
        files = files_of(from_json((version_dir / MANIFEST_PATH).read_text(encoding="utf-8")))
        return all((version_dir / name).stat().st_size == f.size for name, f in files.items())
    except (OSError, ValueError):
        return False
