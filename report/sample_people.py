"""A few people of the test split, asked for through the bundle's own signature."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from contract import features
from retrieval.category_ranking import no_wishes

NUM_PEOPLE = 3
NUM_RECOMMENDATIONS = 10
_SHOWN_HISTORY = 10
# Enough people to find some with several interests, few enough to be quick.
_SCANNED_PEOPLE = 200


def sample_people(
    model_path: str, pattern: str, profile_names: Sequence[str], exclude_history: bool
) -> list[dict[str, Any]]:
    """Recommends to sample people.

    The people are those of the first rows whose recommendations come from the
    most different interests: what a multi-interest model is for. They are
    shown, never measured.

    Args:
      model_path: The bundle.
      pattern: File pattern of raw test examples.
      profile_names: Raw names of the profile features.
      exclude_history: Whether recommendations leave the history out.

    Returns:
      Per person ``user_id``, ``history`` (the newest), ``interests`` (by
      interest: recommended items with id, title and score) and ``targets``.
    """
    # Registers ScaNN's ops, which the graph of a ScaNN index needs.
    import scann  # noqa: F401

    rows = [_parse(record) for record in _first_records(pattern, _SCANNED_PEOPLE)]
    rows = [row for row in rows if row["history"]]
    if not rows:
        return []
    bundle = tf.saved_model.load(model_path)
    serve = bundle.signatures["serving_default"]
    longest = max(len(row["history"]) for row in rows)
    history = [row["history"] + [b""] * (longest - len(row["history"])) for row in rows]
    _, wanted = serve.structured_input_signature
    times = [row["times"] + [0] * (longest - len(row["history"])) for row in rows]
    person = (
        {features.HISTORY_TIME: tf.constant(times, tf.int64)}
        if features.HISTORY_TIME in wanted
        else {}
    )
    person |= {
        name: tf.constant([row["features"].get(name, b"") for row in rows])
        for name in profile_names
        if name in wanted
    }
    answer = serve(
        history=tf.constant(history),
        k=tf.constant(NUM_RECOMMENDATIONS),
        exclude=tf.constant([[b""]]),
        exclude_history=tf.constant(exclude_history),
        **no_wishes(wanted),
        **person,
    )
    titles = _Titles(bundle)
    people = []
    for index, row in enumerate(rows):
        interests: dict[int, list[dict[str, Any]]] = {}
        for item, score, interest in zip(
            answer["item_ids"][index].numpy().tolist(),
            answer["scores"][index].numpy().tolist(),
            answer["interest_index"][index].numpy().tolist(),
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


class _Titles:
    """Turns item ids into something a person can read."""

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


def _parse(record: bytes) -> dict[str, Any]:
    feature = tf.train.Example.FromString(record).features.feature
    items = list(feature[features.ITEM_ID].bytes_list.value)
    num_targets = feature[features.NUM_TARGETS].int64_list.value[0]
    values = {}
    for name, value in feature.items():
        if name.startswith(features.USER_PREFIX):
            if value.bytes_list.value:
                values[name] = value.bytes_list.value[0]
            elif value.float_list.value:
                values[name] = repr(value.float_list.value[0]).encode()
    return {
        "user_id": feature[features.USER_ID].bytes_list.value[0].decode("utf-8"),
        "history": items[: len(items) - num_targets],
        "times": list(feature[features.TIMESTAMP].int64_list.value)[: len(items) - num_targets],
        "targets": items[len(items) - num_targets :],
        "features": values,
    }
