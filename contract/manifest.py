"""The manifest of a pushed version: its path, its keys and its descriptions of files.

The manifest is a JSON object with facts about the run, the catalogue and the index, and
the size and digest of every other file of the version.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

# TF Serving reads nothing in this directory but the warm-up requests.
MANIFEST_PATH = "assets.extra/manifest.json"

# The state from which a later training continues; only present if training.warm_start keeps it.
TRAINING_STATE_DIR = "assets.extra/training_state"

# Keys of facts about the run.
NAME = "name"
RUN_KEY = "run_key"
DATA_DIGEST = "data_digest"
SOURCE_DIGEST = "source_digest"
CONFIG = "config"
VERSIONS = "versions"
METRICS = "metrics"
PRIMARY_METRIC = "primary_metric"  # its name in METRICS
SLICES = "slices"  # the primary metric by slice
DATA = "data"  # size and time range of the data
LOCK_DIGEST = "lock_digest"  # of the file of pinned packages
GENERATION = "generation"  # number of warm starts since the last training from scratch
# Steps of the training on all events; absent unless it took place.
STEPS_ON_ALL = "steps_on_all"
JUDGED_MODEL = "judged_model"  # the model that METRICS describe, if there was such a training
EXAMPLES = "examples"  # directory of the examples with which the index was tuned
# Keys of what the bundle holds.
CATALOGUE = "catalogue"
INDEX = "index"
NUM_INTERESTS = "num_interests"  # K; each interest is one search
BUILD_SECONDS = "build_seconds"
FILES = "files"
# Only in a version that item_refresh made.
REFRESH = "refresh"
# Keys inside REFRESH: the log whose changes the version contains, and up to which position.
LOG_POSITION = "log_position"
ITEMS_DIGEST = "items_digest"  # of the items files that were added
LOG_IDENTITY = "log_identity"
# Keys inside INDEX; the parameters of the algorithm stand beside them.
ALGORITHM = "algorithm"
RECALL = "recall"
RECALL_K = "recall_k"
CURVE = "curve"
FILTERS = "filters"  # what filtering costs, and the limits that follow
# Absent unless similar interests are searched together (retrieval/interest_merging.py).
MERGE_COSINE = "merge_cosine"  # the smallest cosine at which they are
SEARCHES_SAVED = "searches_saved"  # share of searches saved on the tuning examples
# Values of ALGORITHM.
EXACT = "exact"
SCANN_HASHED = "scann_ah"
SCANN_TREE = "scann_tree_ah"
# Keys inside CATALOGUE.
NUM_ITEMS = "items"
NUM_RETRIEVABLE = "retrievable"
DIMENSIONS = "dimensions"

_CHUNK_BYTES = 1 << 20
_BYTES = "bytes"
_SHA256 = "sha256"


class FileFacts(NamedTuple):
    """The manifest's description of one file.

    Attributes:
      size: Size in bytes.
      sha256: Hexadecimal SHA-256 digest of the content.
    """

    size: int
    sha256: str


def describe_file(stream: BinaryIO) -> FileFacts:
    """Reads ``stream`` to its end and describes it."""
    digest = hashlib.sha256()
    size = 0
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
    return FileFacts(size, digest.hexdigest())


def to_json(facts: Mapping[str, Any], files: Mapping[str, FileFacts]) -> str:
    """Returns the manifest of ``facts`` and ``files`` (by relative path) as JSON."""
    entries = {path: {_BYTES: file.size, _SHA256: file.sha256} for path, file in files.items()}
    return json.dumps({**facts, FILES: entries}, indent=2, sort_keys=True)


def from_json(text: str) -> dict[str, Any]:
    """Reads a manifest.

    Raises:
      ValueError: if it is not a JSON object.
    """
    manifest = json.loads(text)
    if not isinstance(manifest, dict):
        raise ValueError(f"expected a JSON object, got a {type(manifest).__name__}")
    return manifest


def files_of(manifest: Mapping[str, Any]) -> dict[str, FileFacts]:
    """Returns the description of each file in ``manifest``, sorted by relative path.

    Raises:
      ValueError: if the descriptions are missing or malformed.
    """
    try:
        return {
            path: FileFacts(int(entry[_BYTES]), str(entry[_SHA256]))
            for path, entry in sorted(manifest[FILES].items())
        }
    except (KeyError, TypeError, AttributeError) as e:
        raise ValueError(
            f"expected {FILES!r} with {_BYTES!r} and {_SHA256!r} of each file"
            f" ({type(e).__name__}: {e})"
        ) from e
