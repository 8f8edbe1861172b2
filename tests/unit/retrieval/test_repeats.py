"""Served bundles of a tower that says what people may have again, against a NumPy oracle."""

import numpy as np
import pytest
import tensorflow as tf

from model.network.own_items import own_items
from retrieval.config import IndexConfig
from tests.synthetic_bundle import save_bundle
from tests.synthetic_tower import Tower, unit_vectors

_IDS = [f"item{i}" for i in range(60)]
_VECTORS = unit_vectors(60, 8)
_CATEGORIES = [[f"c{i % 3}"] for i in range(60)]
_GAIN = 0.4
_HISTORIES = [
    ["item20", "item21", "item20", "item3"],
    ["item30", "never seen", "", "item31", "item30", "item30", "item5"],
    ["item7"],
    [],
]


class _RepeatingTower(Tower):
    """What somebody has had n times gains n times ``_GAIN``."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.string, "history"),
            {"user_taste": tf.TensorSpec([None], tf.string, "user_taste")},
        ]
    )
    def user_interests(self, history, profile):
        user = super().user_interests(history, profile)
        own = own_items(user["history_index"], limit=100)
        gain = tf.where(own.items > 0, _GAIN * tf.cast(own.count, tf.float32), 0.0)
        return {**user, "own_index": own.items, "own_bonus": gain}


@pytest.fixture(scope="module", params=["exact", "scann"])
def serve(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param)
    _RepeatingTower(_IDS, _VECTORS, np.arange(60), categories=_CATEGORIES).save(root / "trained")
    config = IndexConfig(default_k=4, max_k=60)
    save_bundle(root / "trained", root / "bundle", request.param, config)
    loaded = tf.saved_model.load(str(root / "bundle"))

    def call(exclude_history, allow="", exclude=""):
        width = max(map(len, _HISTORIES))
        answer = loaded.signatures["serving_default"](
            history=tf.constant([[*row, *[""] * (width - len(row))] for row in _HISTORIES]),
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


def _expected(history, exclude_history, allow, exclude):
    rows = [_IDS.index(item) for item in history if item in _IDS]
    half = len(rows) // 2
    means = [_VECTORS[rows[half:]].mean(axis=0)]
    means += [_VECTORS[rows[:half]].mean(axis=0)] if half else []
    scores = np.max([_VECTORS @ (u / np.linalg.norm(u)) for u in means], axis=0)
    for row in set(rows):
        scores[row] += _GAIN * rows.count(row)
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
