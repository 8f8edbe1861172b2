"""Public implementations to compare with, each in its own environment."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from benchmarks import protocols
from model import ranking
from model.metrics import metrics_from_ranks
from model.training.input_pipeline import cut_windows

_ROOT = Path(__file__).resolve().parents[2]
_RECTOOLS = ("rectools[torch]==0.19.0", "pytorch-lightning==2.5.2", "torch==2.15.0")
# Packages of each peer. Many of them need other versions than the project does.
REQUIREMENTS = {
    "deepmatch": ("deepmatch==0.3.2", "tensorflow-cpu==2.15.1", "numpy<2"),
    "rechub": ("torch-rechub==0.9.0",),
    "sasrec": _RECTOOLS,
    "esasrec": _RECTOOLS,
    "als": ("implicit==0.7.3",),
    "faiss": (
        *("faiss-cpu==1.15.1", "fastapi==0.165.0", "uvicorn==0.54.0"),
        *("tensorflow-cpu==2.16.2", "numpy<2"),
    ),
    "faiss_ivf_pq": ("faiss-cpu==1.15.1", "numpy<2"),
    "faiss_hnsw": ("faiss-cpu==1.15.1", "numpy<2"),
    "faiss_ivf": ("faiss-cpu==1.15.1", "numpy<2"),
    "hnswlib": ("hnswlib==0.8.0", "numpy<2"),
    "milvus": ("milvus-lite==3.2.2", "pymilvus==3.0.2"),
    "lancedb": ("lancedb==0.40.0",),
    "faiss_live": ("faiss-cpu==1.15.1", "numpy<2"),
    "hnswlib_live": ("hnswlib==0.8.0", "numpy<2"),
    "lancedb_live": ("lancedb==0.40.0",),
}
# Some peers are trained; the others serve or search. Of the trained peers, some draw a few
# negatives for each example instead of many for the whole batch, and some read whole
# sequences instead of a window for each target.
TRAINERS = ("deepmatch", "rechub", "sasrec", "esasrec", "als")
OWN_NEGATIVES = ("rechub",)
OF_SEQUENCES = ("sasrec", "esasrec", "als")
# Variables of this project's environment that would affect the peer's.
_OWN_ENVIRONMENT = ("PYTHONPATH", "VIRTUAL_ENV", "TF_USE_LEGACY_KERAS")
# These variables make freed memory stay with the process. RecTools makes tensors of 100 MB and
# more in each step, and getting their pages from the system each time nearly halves its speed
# (docs/experiments.md, "The encoder beside SASRec").
_KEPT_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
_VARIABLES = {"sasrec": _KEPT_MEMORY, "esasrec": _KEPT_MEMORY}
_SCRIPTS = {
    "deepmatch": "deepmatch_mind.py",
    "rechub": "rechub_mind.py",
    "sasrec": "rectools_sasrec.py sasrec",
    "esasrec": "rectools_sasrec.py esasrec",
    "als": "implicit_als.py",
    "faiss": "faiss_server.py",
    "faiss_ivf_pq": "faiss_ivf_pq.py",
    "faiss_hnsw": "faiss_filter.py hnsw",
    "faiss_ivf": "faiss_filter.py ivf",
    "hnswlib": "hnswlib_filter.py",
    "milvus": "milvus_filter.py",
    "lancedb": "lancedb_filter.py",
    "faiss_live": "live_changes.py faiss",
    "hnswlib_live": "live_changes.py hnswlib",
    "lancedb_live": "live_changes.py lancedb",
}


def run(name: str, arguments: list[str]) -> None:
    """Runs the script of a peer to its end.

    Args:
      name: Name of the peer.
      arguments: Arguments of its script.

    Raises:
      SystemExit: if there is no uv.
      subprocess.CalledProcessError: if the script fails.
    """
    subprocess.run(command(name, arguments), check=True, env=environment(name))


def command(name: str, arguments: list[str]) -> list[str]:
    """Returns the command that runs the script of a peer in its environment.

    uv creates the environment and caches it.

    Args:
      name: Name of the peer.
      arguments: Arguments of its script.

    Raises:
      SystemExit: if there is no uv.
    """
    uv = find_uv()
    packages = [part for package in REQUIREMENTS[name] for part in ("--with", package)]
    script, *options = _SCRIPTS[name].split()
    path = str(Path(__file__).parent / script)
    # Without ``--isolated`` uv would add the peer's packages to an environment that exists.
    alone = ["--isolated", "--no-project", "--python", "3.11"]
    return [uv, "run", *alone, *packages, path, *options, *arguments]


def find_uv(root: Path = _ROOT) -> str:
    """Returns the path of uv: ``$UV``, an installed uv, or that of ``make env``.

    Args:
      root: Directory in which ``make env`` was called.

    Raises:
      SystemExit: if there is none; the message says how to get it.
    """
    private = root / ".uv" / "bin" / "uv"
    found = os.environ.get("UV") or shutil.which("uv")
    if found:
        return found
    if private.exists():
        return str(private)
    raise SystemExit(
        "uv creates the environments in which peers run, and it was not found: expected $UV, uv "
        f"on the PATH, or {private}. Call `make .uv/bin/uv` or install uv."
    )


def environment(name: str = "") -> dict[str, str]:
    """Returns the environment variables that a peer runs with.

    Args:
      name: Name of the peer; "" for a peer that needs no variables of its own.
    """
    kept = {k: v for k, v in os.environ.items() if k not in _OWN_ENVIRONMENT}
    return kept | _VARIABLES.get(name, {})


def write_split(split: protocols.Split, history_length: int, path: Path) -> None:
    """Writes a split for the scripts that read a window for each target.

    Args:
      split: The split.
      history_length: Number of items in a window, L; shorter histories are padded with 0.
      path: The .npz file to write. Its windows are ``train_history`` [E, L] with
        ``train_target`` [E], ``validation_history`` and ``test_history`` [U, L].
    """
    windows = cut_windows(
        tf.ragged.constant(split.train, dtype=tf.int64),
        tf.zeros([len(split.train)], tf.int64),
        history_length,
        tf.constant([1, 1], tf.int64),
    )
    np.savez(
        path,
        train_history=windows.histories,
        train_target=windows.targets,
        validation_history=protocols.pad(split.validation.histories, history_length),
        test_history=protocols.pad(split.test.histories, history_length),
        **_shared_arrays(split),
    )


def write_sequences(split: protocols.Split, history_length: int, path: Path) -> None:
    """Writes a split for the scripts that read whole sequences.

    The sequences ``train``, ``validation_history`` and ``test_history`` are each written as two
    arrays: all items, int32 [E], oldest first for each person, and int64 [people + 1] offsets,
    where the items of each person begin.

    Args:
      split: The split.
      history_length: Number of items that a peer should read.
      path: The .npz file to write.
    """
    flat: dict[str, Any] = {}
    for name, rows in (
        ("train", split.train),
        ("validation_history", split.validation.histories),
        ("test_history", split.test.histories),
    ):
        flat[f"{name}_items"] = np.concatenate([np.asarray(row, np.int32) for row in rows])
        flat[f"{name}_offsets"] = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    np.savez(path, history_length=history_length, **flat, **_shared_arrays(split))


def _shared_arrays(split: protocols.Split) -> dict[str, Any]:
    return {
        "num_items": split.num_items,
        "validation_excluded": protocols.pad(split.validation.histories),
        "validation_targets": protocols.pad(split.validation.targets, fill=-1),
    }


def evaluate(
    name: str,
    split: protocols.Split,
    history_length: int,
    cutoffs: tuple[int, ...],
    arguments: list[str],
) -> dict[str, Any]:
    """Trains a peer, and ranks with its vectors in the same way as with the model's own.

    Args:
      name: Name of the peer, one of ``TRAINERS``.
      split: The split to train and test on.
      history_length: Number of items that the peer reads.
      cutoffs: Numbers of recommended items for which metrics are computed.
      arguments: Further arguments of its script.

    Returns:
      The figures that the script wrote, and metrics with keys like ``excluded.recall@50``.

    Raises:
      SystemExit: if there is no uv.
      subprocess.CalledProcessError: if the script fails.
    """
    with tempfile.TemporaryDirectory() as directory:
        data, output = Path(directory) / "split.npz", Path(directory) / "peer"
        write = write_sequences if name in OF_SEQUENCES else write_split
        write(split, history_length, data)
        run(name, ["--input", str(data), "--output", str(output), *arguments])
        vectors = dict(np.load(output.with_suffix(".npz")))
        result = json.loads(output.with_suffix(".json").read_text())
    interests = tf.constant(vectors["interests"])
    mask = tf.ones(interests.shape[:2], tf.bool)
    shown = protocols.pad(split.test.histories)
    targets = protocols.pad(split.test.targets, fill=-1)
    for kind, exclude in (("excluded", True), ("included", False)):
        ranks = ranking.target_ranks(
            interests, mask, tf.constant(vectors["items"]), shown, targets, exclude
        )
        metrics = metrics_from_ranks(ranks.numpy(), cutoffs)
        result |= {f"{kind}.{key}": value for key, value in metrics.items()}
    return result
