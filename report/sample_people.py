"""Recommendations for a few people of the test split, from the bundle's own signature."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from contract import features
from contract import signatures as names
from contract.requests import RequestOptions, request_inputs
from retrieval.people import history_and_targets, profile_value

NUM_PEOPLE = 3
NUM_RECOMMENDATIONS = 10
_SHOWN_HISTORY = 10
# Enough people to find some with several interests, few enough to be fast.
_SCANNED_PEOPLE = 200


def sample_people(
    model_path: str, pattern: str, profile_names: Sequence[str], exclude_history: bool
) -> list[dict[str, Any]]:
    """Computes recommendations for sample people.

    The people are chosen from the first rows: those whose recommendations come from the most
    interests, which is what a multi-interest model is for. They are shown but never measured.

    Args:
      model_path: The bundle.
      pattern: File pattern of raw test examples.
      profile_names: Names of the profile features, as the configuration has them.
      exclude_history: Whether recommendations exclude items of the history.

    For each person: ``user_id``, ``history`` (its newest items), ``interests`` (recommended items
    with id, title and score, by interest) and ``targets``.
    """
    # Registers ScaNN's ops, which the graph of a ScaNN index needs.
    import scann  # noqa: F401

    rows = [_parse(record, profile_names) for record in _first_records(pattern, _SCANNED_PEOPLE)]
    rows = [row for row in rows if row["history"]]
    if not rows:
        return []
    bundle = tf.saved_model.load(model_path)
    answer = _recommend(bundle.signatures[names.SERVE], rows, exclude_history)
    titles = _Titles(bundle)
    people = []
    for index, row in enumerate(rows):
        interests: dict[int, list[dict[str, Any]]] = {}
        for item, score, interest in zip(
            answer[names.ITEM_IDS][index].numpy().tolist(),
            answer[names.SCORES][index].numpy().tolist(),
            answer[names.INTEREST_INDEX][index].numpy().tolist(),
            strict=True,
        ):
            if item:
                interests.setdefault(interest, []).append(
                    {**titles.describe(item), "score": round(score, 4)}
                )
        people.append(
            {
                "user_id": row["user_id"],
                "history_length": len(row["history"]),
                "history": [titles.describe(i) for i in row["history"][-_SHOWN_HISTORY:]],
                "targets": [titles.describe(i) for i in row["targets"]],
                "interests": [
                    {"interest": key, "items": items} for key, items in sorted(interests.items())
                ],
            }
        )
    people.sort(key=lambda person: -len(person["interests"]))  # stable: first rows first
    return people[:NUM_PEOPLE]


def _recommend(
    serve: Any, rows: Sequence[dict[str, Any]], exclude_history: bool
) -> dict[str, tf.Tensor]:
    """Asks the signature ``serve`` for recommendations for the people of ``rows``."""
    specs = serve.structured_input_signature[1]
    options = RequestOptions(
        exclude_history=exclude_history,
        profiles=[
            {
                name: value
                for name, value in row["profile"].items()
                if features.profile_feature(name) in specs
            }
            for row in rows
        ],
    )
    if features.HISTORY_TIME in specs:
        options["history_times"] = [row["times"] for row in rows]
    histories = [[item.decode("utf-8") for item in row["history"]] for row in rows]
    inputs = request_inputs(specs, histories, NUM_RECOMMENDATIONS, **options)
    return serve(**{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()})


class _Titles:
    """Converts item ids into titles that a person can read."""

    def __init__(self, bundle: Any):
        tower = bundle.tower
        self._by_id = dict(zip(tower.item_ids.numpy(), tower.item_titles.numpy(), strict=True))

    def describe(self, item: bytes) -> dict[str, str]:
        return {
            "item_id": item.decode("utf-8"),
            "title": self._by_id.get(item, b"").decode("utf-8"),
        }


def _first_records(pattern: str, count: int) -> list[bytes]:
    files = sorted(tf.io.gfile.glob(pattern))
    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP").take(count)
    return list(dataset.as_numpy_iterator())


def _parse(record: bytes, profile_names: Sequence[str]) -> dict[str, Any]:
    example = tf.train.Example.FromString(record)
    history, targets = history_and_targets(example)
    feature = example.features.feature
    return {
        "user_id": feature[features.USER_ID].bytes_list.value[0].decode("utf-8"),
        "history": history,
        "times": list(feature[features.TIMESTAMP].int64_list.value)[: len(history)],
        "targets": targets,
        "profile": {
            name: profile_value(example, features.profile_feature(name)).decode("utf-8")
            for name in profile_names
        },
    }
