"""The manifest of a pushed version: where it is, its keys, and how files are described.

The manifest is a JSON object with facts about the run, the catalogue and the index, and
the size and digest of every other file of the version.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

# TF Serving reads nothing in this directory but the warm-up requests.
MANIFEST_PATH = "assets.extra/manifest.json"

# What a later training goes on from; only if the run keeps it (training.warm_start).
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
DATA = "data"  # how much of what, and of when
LOCK_DIGEST = "lock_digest"  # of the file of pinned packages
GENERATION = "generation"  # warm starts since a training from nothing
# Steps of the training on all events; absent unless it took place.
STEPS_ON_ALL = "steps_on_all"
JUDGED_MODEL = "judged_model"  # of which METRICS are, if there was such a training
EXAMPLES = "examples"  # directory of the people with whom the index was tuned
# Keys of what the bundle holds.
CATALOGUE = "catalogue"
INDEX = "index"
NUM_INTERESTS = "num_interests"  # K, each of which is a search
BUILD_SECONDS = "build_seconds"
FILES = "files"
# Only in a version that item_refresh made.
REFRESH = "refresh"
# Inside it: up to which position of which log it contains the changes of the catalogue.
LOG_POSITION = "log_position"
ITEMS_DIGEST = "items_digest"  # of the items file that it contains
LOG_IDENTITY = "log_identity"
# Keys inside INDEX; the parameters of the algorithm stand beside them.
ALGORITHM = "algorithm"
RECALL = "recall"
RECALL_K = "recall_k"
CURVE = "curve"
FILTERS = "filters"  # what filtering costs, and the limits that follow
# Absent unless like interests are searched together (retrieval/interest_merging.py).
MERGE_COSINE = "merge_cosine"  # the least cosine of those that are
SEARCHES_SAVED = "searches_saved"  # share of the searches of the people of the tuning
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
    """What the manifest says of one file.

    Attributes:
      size: In bytes.
      sha256: Hexadecimal digest of its content.
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
    """Returns what ``manifest`` says of each file, by relative path, sorted.

    Raises:
      ValueError: if the files are missing, or described in another way.
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
