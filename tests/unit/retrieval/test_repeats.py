"""Served bundles of a tower that says what people may have again, against a NumPy oracle."""

import numpy as np
import pytest
import tensorflow as tf

from retrieval.config import IndexConfig
from tests.synthetic_bundle import save_bundle
from tests.synthetic_tower import RepeatingTower, unit_vectors

_IDS = [f"item{i}" for i in range(60)]
_VECTORS = unit_vectors(60, 8)
_CATEGORIES = [[f"c{i % 3}"] for i in range(60)]
_HISTORIES = [
    ["item20", "item21", "item20", "item3"],
    ["item30", "never seen", "", "item31", "item30", "item30", "item5"],
    ["item7"],
    [],
]


@pytest.fixture(scope="module", params=["exact", "scann"])
def serve(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    RepeatingTower(_IDS, _VECTORS, np.arange(60), categories=_CATEGORIES).save(root / "trained")
    config = IndexConfig(default_k=4, max_k=60)
    save_bundle(root / "trained", root / "bundle", request.param, config)
    loaded = tf.saved_model.load(str(root / "bundle"))

    def call(exclude_history, allow="", exclude="", histories=_HISTORIES):
        width = max(map(len, histories))
        answer = loaded.signatures["serving_default"](
            history=tf.constant([[*row, *[""] * (width - len(row))] for row in histories]),
            k=tf.constant(8),
            exclude=tf.constant([[exclude]]),
            exclude_history=tf.constant(exclude_history),
            user_taste=tf.constant([""]),
            diversity=tf.constant(0.0),
            allow_categories=tf.constant([[allow]]),
            deny_categories=tf.constant([[""]]),
        )
        ids = [[item.decode() for item in row] for row in answer["item_ids"].numpy()]
        return ids, answer["scores"].numpy(), answer["interest_index"].numpy()

    return call


def test_somebody_unknown_alone_gets_the_most_popular_items(serve):
    """Then nobody of the batch has an own item."""
    ids, _, interests = serve(False, histories=[["never seen"]])
    assert ids == [[f"item{i}" for i in range(59, 51, -1)]]
    assert (interests == -1).all()


def _expected(history, exclude_history, allow, exclude):
    rows = [_IDS.index(item) for item in history if item in _IDS]
    half = len(rows) // 2
    means = [_VECTORS[rows[half:]].mean(axis=0)]
    means += [_VECTORS[rows[:half]].mean(axis=0)] if half else []
    scores = np.max([_VECTORS @ (u / np.linalg.norm(u)) for u in means], axis=0)
    for row in set(rows):
        scores[row] += RepeatingTower.GAIN * rows.count(row)
    hidden = set(rows) if exclude_history else set()
    hidden |= {
        i for i in range(60) if _IDS[i] == exclude or (allow and allow not in _CATEGORIES[i])
    }
    order = [i for i in np.argsort(-scores, kind="stable") if i not in hidden][:8]
    return [_IDS[i] for i in order], scores[order]


@pytest.mark.parametrize("allow", ["", "c2"])
@pytest.mark.parametrize("exclude", ["", "item20"])
@pytest.mark.parametrize("exclude_history", [False, True])
def test_own_items_gain_and_stay_within_filters_and_exclusions(
    serve, exclude_history, allow, exclude
):
    ids, scores, interests = serve(exclude_history, allow, exclude)
    for row, history in enumerate(_HISTORIES[:3]):
        want_ids, want_scores = _expected(history, exclude_history, allow, exclude)
        assert ids[row] == want_ids
        np.testing.assert_allclose(scores[row], want_scores, atol=1e-5)
        assert (interests[row] >= 0).all()
    # Nobody known: the most popular items, and no item of one's own.
    assert (interests[3] == -1).all()
