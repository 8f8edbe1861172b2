"""Measures build time, memory, size, recall and speed of the index by catalogue size.

The benchmark builds bundles around a synthetic user tower whose items lie in
clusters. It loads each bundle in its own process, which is pinned to one core,
and requests recommendations through the served signature.

  python -m benchmarks.index --items 10000 100000 1000000 --json out.json
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from contract import manifest

_INTERESTS = 4
_HISTORY = 20
_PEOPLE = 1200
_BLOCK = 1 << 16  # items drawn at a time
RECALL_K = 100
# The item features that ``encode_items`` of the synthetic tower reads.
_FEATURES = {"like": {"kind": "categorical"}, "angle": {"kind": "numeric"}}
_NUM_QUERIES = 300
RECALL_PEOPLE = 192
_COLUMNS = (
    "items",
    "algorithm",
    "build_s",
    "build_peak_mb",
    "disk_mb",
    "load_s",
    "serve_rss_mb",
    "recall",
    "p50_ms",
    "p99_ms",
    "people_per_s",
)


def main() -> None:
    """Prints one line per catalogue size and kind of index, and per nprobe of FAISS IVF-PQ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--dimensions", type=int, default=64)
    parser.add_argument("--kinds", nargs="*", default=["exact", "scann"])
    parser.add_argument("--recall_target", type=float, default=0.98)
    parser.add_argument(
        "--ivf_pq", action="store_true", help="also measure FAISS IVF-PQ with refinement (needs uv)"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    print(" ".join(f"{name:>13}" for name in _COLUMNS))
    rows = []
    for items in arguments.items:
        with tempfile.TemporaryDirectory() as work_dir:
            run_step("trained", work_dir, items, arguments.dimensions)
            for kind in arguments.kinds:
                row = {"items": items}
                row |= run_step("build", work_dir, kind, arguments.recall_target)
                row |= run_step("serve", work_dir, kind, arguments.recall_target)
                rows.append(row)
                print(" ".join(f"{row[name]:>13}" for name in _COLUMNS), flush=True)
            if arguments.ivf_pq:
                for row in _ivf_pq(work_dir, items, arguments.recall_target):
                    rows.append(row)
                    print(" ".join(f"{row[name]:>13}" for name in _COLUMNS), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


def _ivf_pq(work_dir: str, items: int, recall_target: float) -> list[dict]:
    """Measures FAISS IVF-PQ with the same vectors, interests and exact top items.

    FAISS is given the interests, so its times do not include the user tower.
    """
    # Both import TensorFlow, which takes memory that this process otherwise does not need.
    from benchmarks import peers
    from retrieval.tuning import leaves_of

    run_step("queries", work_dir, RECALL_PEOPLE)
    outputs = []
    for step, argument in (("build", leaves_of(items)), ("serve", recall_target)):
        command = peers.command("faiss_ivf_pq", [step, work_dir, str(argument)])
        done = subprocess.run(
            command, check=True, stdout=subprocess.PIPE, text=True, env=peers.environment()
        )
        outputs.append(json.loads(done.stdout.splitlines()[-1]))
    built, served = outputs
    return [
        {"items": items, "algorithm": f"ivf_pq@{row['nprobe']}", **built, **row} for row in served
    ]


def run_step(step: str, *arguments: object, module: str = "index") -> dict:
    """Runs one step of a benchmark in its own process, so that its memory is measured alone.

    The step reads ``arguments`` from ``sys.argv``, and the JSON in its last line is returned.
    """
    command = [sys.executable, "-c", f"from benchmarks import {module}; {module}.{step}_step()"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    output = subprocess.run(
        [*command, *map(str, arguments)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    ).stdout
    return json.loads(output.splitlines()[-1])


def trained_step() -> None:
    """Writes a synthetic trained model and examples; arguments: directory, items, dimensions."""
    work_dir, items, dimensions = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    import numpy as np

    import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)

    generator = np.random.default_rng(0)
    catalogue = synthetic_items(items, dimensions, generator)
    save_trained(work_dir, synthetic_tower(catalogue.vectors), catalogue.cluster, generator)
    print("{}")


class SyntheticItems(NamedTuple):
    """Items in clusters: vectors float32 [N, d], cluster int32 [N], centres float32 [C, d]."""

    vectors: Any
    cluster: Any
    centres: Any


def synthetic_items(items: int, dimensions: int, generator: Any) -> SyntheticItems:
    """Draws unit vectors around random centres: one for every 500 items, but at least 20."""
    import numpy as np

    num_clusters = max(20, items // 500)
    centres = generator.standard_normal((num_clusters, dimensions), np.float32)
    cluster = generator.integers(0, num_clusters, items, np.int32)
    vectors = np.empty([items, dimensions], np.float32)
    for start in range(0, items, _BLOCK):
        part = vectors[start : start + _BLOCK]
        generator.standard_normal(dtype=np.float32, out=part)
        part += centres[cluster[start : start + _BLOCK]]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return SyntheticItems(vectors, cluster, centres)


def save_trained(work_dir: Path, tower: Any, cluster: Any, generator: Any) -> None:
    """Saves the tower, and examples of people whose histories come from a few clusters each."""
    import numpy as np
    import tensorflow as tf

    members = np.split(np.argsort(cluster, kind="stable"), np.cumsum(np.bincount(cluster))[:-1])
    members = [group for group in members if group.size]
    tf.saved_model.save(
        tower,
        str(work_dir / "trained"),
        signatures={"user_interests": tower.user_interests_signature},
    )
    with tf.io.TFRecordWriter(str(work_dir / "examples.gz"), options="GZIP") as writer:
        for person in range(_PEOPLE):
            # Each quarter of the history comes from one cluster and becomes one interest.
            groups = generator.integers(0, len(members), _INTERESTS)
            history = np.concatenate(
                [generator.choice(members[g], _HISTORY // _INTERESTS) for g in groups]
            )
            features = {
                "user_id": _bytes([str(person).encode()]),
                "item_id": _bytes([f"item-{item}".encode() for item in history]),
                "num_targets": tf.train.Feature(int64_list=tf.train.Int64List(value=[0])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def requests_step() -> None:
    """Writes histories, and the exact top items of some people; arguments: directory, people."""
    work_dir, people = Path(sys.argv[1]), int(sys.argv[2])
    import numpy as np
    import tensorflow as tf

    import model  # noqa: F401
    from retrieval.people import Group, read_people

    def histories(group: Group, limit: int) -> np.ndarray:
        people = read_people([str(work_dir / "examples.gz")], group, limit, ())
        return people.history.astype(str)

    tower = tf.saved_model.load(str(work_dir / "trained"))
    asked = histories("validation", people)
    user = tower.user_interests(tf.constant(asked), {})
    rows = _best_rows(tower, user)
    exact = tf.gather(tower.item_ids.read_value(), rows).numpy().astype(str).tolist()
    requests = {
        "histories": histories("tuning", _PEOPLE).tolist(),
        "asked": asked.tolist(),
        "exact": exact,
    }
    (work_dir / "requests.json").write_text(json.dumps(requests))
    print("{}")


def queries_step() -> None:
    """Writes vectors and interests for peers without a user tower; arguments: directory, people."""
    work_dir, people = Path(sys.argv[1]), int(sys.argv[2])
    import numpy as np
    import tensorflow as tf

    import model  # noqa: F401
    from retrieval.people import read_people
    from retrieval.tower import blocks

    tower = tf.saved_model.load(str(work_dir / "trained"))
    shape = tuple(tf.shape(tower.item_vectors).numpy())
    vectors = np.lib.format.open_memmap(work_dir / "vectors.npy", "w+", np.float32, shape)
    for start, block in blocks(tower.item_vectors):
        vectors[start : start + len(block)] = block
    vectors.flush()
    asked = read_people([str(work_dir / "examples.gz")], "validation", people, ()).history
    user = tower.user_interests(tf.constant(asked), {})
    np.savez(
        work_dir / "queries.npz",
        interests=user["interests"].numpy(),
        owned=user["history_index"].numpy() - 1,
        exact=_best_rows(tower, user),
    )
    print("{}")


def _best_rows(tower, user):
    """Returns the rows of each person's best items outside the history, int64 [P, k]."""
    import numpy as np

    from retrieval.tower import blocks

    # Shapes [P, K, d] and [P, T]; 0 is padding in the second.
    interests, owned = user["interests"].numpy(), user["history_index"].numpy()
    best = np.full([len(interests), RECALL_K], -np.inf, np.float32)
    rows = np.zeros([len(interests), RECALL_K], np.int64)
    for start, vectors in blocks(tower.item_vectors):
        for person, own_interests in enumerate(interests):
            scores = (own_interests @ vectors.T).max(axis=0)
            own = owned[person] - 1 - start
            scores[own[(own >= 0) & (own < len(scores))]] = -np.inf
            better = np.flatnonzero(scores > best[person].min())
            merged = np.concatenate([best[person], scores[better]])
            top = np.argsort(-merged, kind="stable")[:RECALL_K]
            best[person] = merged[top]
            rows[person] = np.concatenate([rows[person], start + better])[top]
    return rows


def build_step() -> None:
    """Builds a bundle; arguments: directory, kind, recall target, "live" for a live catalogue."""
    work_dir, kind, recall_target = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    import model  # noqa: F401
    from retrieval.build import build_bundle

    start = time.monotonic()
    build_bundle(
        str(work_dir / "trained"),
        [str(work_dir / "examples.gz")],
        str(work_dir / kind),
        index_config(kind, recall_target, live_catalogue="live" in sys.argv),
        {manifest.CONFIG: {"data": {"items": {"features": _FEATURES}}}},
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    index = manifest.from_json((work_dir / kind / manifest.MANIFEST_PATH).read_text())[
        manifest.INDEX
    ]
    print(
        json.dumps(
            {
                "build_s": round(time.monotonic() - start, 1),
                "build_peak_mb": round(peak),
                "algorithm": index[manifest.ALGORITHM],
                "index": index,
            }
        )
    )


def serve_step() -> None:
    """Validates a bundle on one core; arguments: directory, kind, recall target."""
    work_dir, kind, recall_target = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    import model  # noqa: F401
    from retrieval.validation import validate

    examples = [str(work_dir / "examples.gz")]
    measured = validate(str(work_dir / kind), examples, index_config(kind, recall_target))
    print(
        json.dumps(
            {
                "disk_mb": round(measured.bytes / 1e6),
                "load_s": measured.load_seconds,
                "serve_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
                "recall": round(measured.recall, 4),
                "p50_ms": measured.latency_ms["p50"],
                "p99_ms": measured.latency_ms["p99"],
                "people_per_s": round(32_000 / measured.latency_ms["batch_32"]),
            }
        )
    )


def index_config(kind: str, recall_target: float, live_catalogue: bool = False) -> Any:
    """Returns the ``IndexConfig`` with which the benchmarks build and validate bundles."""
    from contract.config_types import from_dict
    from retrieval.config import IndexConfig

    return from_dict(
        IndexConfig,
        {
            "kind": kind,
            "recall_k": RECALL_K,
            "recall_target": recall_target,
            "num_queries": _NUM_QUERIES,
            "live_catalogue": live_catalogue,
        },
    )


def _bytes(values: list[bytes]):
    import tensorflow as tf

    return tf.train.Feature(bytes_list=tf.train.BytesList(value=values))


def synthetic_tower(vectors):
    """Returns a user tower like a trained model, for items with ``vectors``, float32 [N, d].

    Each interest is the mean of one quarter of the history.
    """
    import numpy as np
    import tensorflow as tf

    from retrieval.vocabulary import VocabularyInitializer

    class Tower(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            num_items = len(vectors)
            numbers = tf.strings.as_string(tf.range(num_items))
            self.item_ids = tf.Variable(tf.strings.join(["item-", numbers]), trainable=False)
            self.item_titles = tf.Variable(tf.fill([num_items], ""), trainable=False)
            self.item_vectors = tf.Variable(vectors, trainable=False)
            self.train_counts = tf.Variable(np.arange(num_items, 0, -1), trainable=False)
            self.table = tf.lookup.StaticHashTable(VocabularyInitializer(self.item_ids), 0)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, "history"), {}])
        def user_interests(self, history, profile):
            # The warm-up request is shorter than the histories of the benchmark.
            padded = tf.pad(history, [[0, 0], [0, _HISTORY]], constant_values="")
            index = self.table.lookup(padded[:, :_HISTORY])  # [B, T]
            behaviours = tf.gather(self.item_vectors.read_value(), index)
            quarters = tf.reshape(
                behaviours, [-1, _INTERESTS, _HISTORY // _INTERESTS, vectors.shape[1]]
            )
            interests = tf.math.l2_normalize(tf.reduce_mean(quarters, axis=2), axis=-1)
            return {
                "interests": interests,
                "interest_mask": tf.ones(tf.shape(interests)[:2], tf.bool),
                "history_index": index + 1,
            }

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
        def encode_items(self, examples):
            # A new item is close to an existing one; its angle determines in which direction.
            parsed = tf.io.parse_example(
                examples,
                {
                    "item_like": tf.io.FixedLenFeature([], tf.string, ""),
                    "item_angle": tf.io.FixedLenFeature([], tf.float32, 0.0),
                },
            )
            like = tf.gather(self.item_vectors.read_value(), self.table.lookup(parsed["item_like"]))
            waves = tf.range(1.0, vectors.shape[1] + 1.0) ** 1.5
            away = tf.math.l2_normalize(tf.sin(parsed["item_angle"][:, tf.newaxis] * waves), -1)
            return tf.math.l2_normalize(like + 0.5 * away, axis=-1)

        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.string, "history")])
        def user_interests_signature(self, history):
            return self.user_interests(history, {})

    return Tower()


if __name__ == "__main__":
    main()
