"""Measures what merging similar interests for the search saves and loses, on a trained model.

The benchmark builds the index of a pipeline run with and without merging, as the index builder
does, and then tries other cosines with the chosen settings. Index recall is measured against the
exact search with all interests, for people with whom the index was not tuned. Recall of held-out
targets is measured for all people of the test split.

  python -m benchmarks.interest_merging output/pipeline/movielens-100k
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np

_CUTOFF = 50  # of the recall of the held-out targets
_COSINES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
_REPETITIONS = 5


def main() -> None:
    """Prints one line for each of the two tunings and for each cosine."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pipeline_root", type=Path, help="root of a run that has trained a model")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=JSON",
        help="change of IndexConfig, such as num_queries=1000",
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    arguments = parser.parse_args()
    settings = {
        key: json.loads(value) for key, _, value in (s.partition("=") for s in arguments.set)
    }
    import tensorflow as tf

    import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
    from contract.config_types import from_dict
    from retrieval.bundle import RetrievalBundle
    from retrieval.config import IndexConfig
    from retrieval.interest_merging import NEVER
    from retrieval.people import read_people
    from retrieval.scann_search import ScannSearch
    from retrieval.search import ExactSearch
    from retrieval.tower import retrievable_items, retrievable_vectors
    from retrieval.tuning import TuningPeople, build_search, queries_of, tune

    tower = tf.saved_model.load(
        str(_newest(arguments.pipeline_root, "trainer/model/*/Format-Serving"))
    )
    examples = _newest(arguments.pipeline_root, "example-gen/examples/*")
    files = sorted(map(str, examples.glob("Split-eval/*.gz")))
    rows = retrievable_items(tower)
    config = from_dict(IndexConfig, settings)
    search = build_search(retrievable_vectors(tower, rows), config)
    if not isinstance(search, ScannSearch):
        raise SystemExit(
            "The exact search does not merge interests: expected an index of the kind scann, "
            f"received the kind {config.kind} for {len(rows)} items."
        )
    bundle = RetrievalBundle(tower, rows, search, config)

    def queries(group: Any) -> list[Any]:
        people = read_people(files, group, config.num_queries, bundle.person_inputs)
        return queries_of(bundle, people)

    others = TuningPeople(search, queries("validation"), config.recall_k)
    held_out = _HeldOut(bundle, sorted(map(str, examples.glob("Split-test/*.gz"))))
    table = []

    def measure(settings: str) -> None:
        row = {"settings": settings, **_measure(search, others), "target_recall": 0.0}
        row["target_recall"] = round(held_out.recall(search), 4)
        table.append(row)
        print(json.dumps(row), flush=True)

    tune(search, queries("tuning"), from_dict(IndexConfig, {**settings, "max_merge_loss": 0.0}))
    measure("tuned without merging")
    tuned = tune(search, queries("tuning"), config)
    measure("tuned")
    print(f"merging saves {tuned.searches_saved:.1%} of the searches of the people of the tuning")
    for cosine in (NEVER, *_COSINES):
        search.merge_cosine.assign(cosine)
        measure("as tuned, other cosine")
    exact = held_out.recall(ExactSearch(search.vectors))
    print(f"exact search: recall@{_CUTOFF} of the held-out targets is {exact:.4f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(table, indent=2))


def _newest(root: Path, pattern: str) -> Path:
    found = sorted(root.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(
            f"There is no {pattern} in {root}: expected the root of a pipeline that has trained a "
            "model."
        )
    return found[-1]


def _measure(search: Any, people: Any) -> dict[str, Any]:
    from contract.manifest import MERGE_COSINE
    from retrieval.measure import recall

    scores = people.found()
    start = time.perf_counter()
    for _ in range(_REPETITIONS):
        people.found()
    seconds = (time.perf_counter() - start) / _REPETITIONS
    described = search.describe()
    return {
        **{key: described.get(key) for key in ("leaves_to_search", "reorder", MERGE_COSINE)},
        "searches_saved": round(people.searches_saved(float(search.merge_cosine.numpy())), 4),
        "recall": round(recall(scores, people.exact).mean, 4),
        "people": len(scores),
        "people_per_s": round(len(scores) / seconds),
        "p50_ms": round(float(np.median(people.latencies_ms())), 3),
    }


class _HeldOut:
    """The people of the test split, and their held-out items."""

    def __init__(self, bundle: Any, files: Sequence[str]) -> None:
        import tensorflow as tf

        from contract.features import USER_ID
        from retrieval.people import Group, group_of, history_and_targets, read_people
        from retrieval.tuning import queries_of

        examples = [
            tf.train.Example.FromString(record)
            for record in tf.data.TFRecordDataset(
                files, compression_type="GZIP"
            ).as_numpy_iterator()
        ]
        self._queries, targets = [], []
        for group in get_args(Group):
            people = read_people(files, group, len(examples), bundle.person_inputs)
            self._queries += queries_of(bundle, people)
            targets += [
                history_and_targets(example)[1]
                for example in examples
                if history_and_targets(example)[0]
                and group_of(example.features.feature[USER_ID].bytes_list.value[0]) == group
            ]
        # A target that the index does not have counts as missed. It becomes -2, because -1 pads
        # the answers and would be found there.
        self._targets = []
        for items in targets:
            found = bundle.items.to_positions(tf.constant(items)).numpy()
            self._targets.append(np.where(found < 0, -2, found))

    def recall(self, search: Any) -> float:
        """Returns the mean share of a person's targets among the first ``_CUTOFF`` answers."""
        import functools

        import tensorflow as tf

        from retrieval.ranking import rank

        ranked = tf.function(
            functools.partial(rank, search, k=tf.constant(_CUTOFF)), reduce_retracing=True
        )
        found = np.concatenate([ranked(*query).positions.numpy() for query in self._queries])
        return float(
            np.mean([np.isin(t, f).mean() for t, f in zip(self._targets, found, strict=True)])
        )


if __name__ == "__main__":
    main()
