"""What people have had, against a plain Python oracle, and what it adds to a score."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from model.config import RepeatConfig
from model.network.own_items import OwnItems, own_items
from model.network.repeat_score import RepeatScore, repeat_facts

HISTORIES = st.lists(st.lists(st.integers(1, 6), max_size=12), min_size=1, max_size=4)


def facts_of(history, limit):
    """By item: how often, how many behaviours ago first and last, and of how many behaviours."""
    newest = history[-limit:]
    found = {}
    for item in newest:
        ago = [len(newest) - place for place, other in enumerate(newest) if other == item]
        found[item] = (len(ago), max(ago), min(ago), len(newest))
    return found


def found_by(own, row):
    return {
        int(item): tuple(int(part[row, column]) for part in own[1:])
        for column, item in enumerate(own.items[row].numpy())
        if item
    }


@settings(max_examples=40, deadline=None)
@given(histories=HISTORIES, limit=st.integers(1, 14))
def test_own_items_equal_the_oracle(histories, limit):
    width = max(map(len, histories)) + 1
    padded = np.array([[*row, *[0] * (width - len(row))] for row in histories], np.int32)
    own = own_items(tf.constant(padded), limit)
    for row, history in enumerate(histories):
        assert found_by(own, row) == facts_of(history, limit)
        number = len(set(history[-limit:]))
        assert not own.items[row].numpy()[number:].any()
    assert own.items.shape[1] == max(len(set(history[-limit:])) for history in histories)


def test_facts_by_hand():
    """Had 4 times, first 31 and last 10 behaviours ago: every 7 behaviours, and overdue."""
    own = OwnItems(*(tf.constant([[value]]) for value in (5, 4, 31, 10, 40)))
    facts = [float(np.exp(fact[0, 0])) for fact in repeat_facts(own)]
    np.testing.assert_allclose(facts, [4, 10, 40, 7, 10 / 7], rtol=1e-5)
    # Had once: no interval is known.
    once = OwnItems(*(tf.constant([[value]]) for value in (5, 1, 10, 10, 40)))
    np.testing.assert_allclose(np.exp(repeat_facts(once)[3][0, 0]), 40, rtol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_served_is_the_larger_of_both_logits(offset):
    """That of the interests and that of the loss, to which the calibration adds."""
    temperature = 0.1
    config = RepeatConfig(hidden_units=4)
    score = RepeatScore(config, dim=3, temperature=temperature, num_items=7, seed=1)
    next(w for w in score.weights if "trust" in w.name).assign(0.3)
    score.offset.assign(offset)
    table = tf.constant(np.random.default_rng(0).normal(size=(8, 3)), tf.float32)

    def vectors(items):
        return tf.gather(table, items)

    history = tf.constant([[7, 4, 7, 2, 0]])
    user = tf.constant([[0.3, -0.2, 0.5]])
    # The second interest is not active.
    interests = tf.stack([user, 9.0 * user], axis=1)
    served = score.bonus(history, interests, tf.constant([[True, False]]), vectors)
    own = score.candidates(own_items(history, 500), user, vectors).logits.numpy()[0]
    by_interests = tf.linalg.matvec(table, user[0]).numpy()[[2, 4, 7]] / temperature
    total = by_interests + served.bonus.numpy()[0] / temperature
    assert served.items.numpy().tolist() == [[2, 4, 7]]
    assert (by_interests > own).any()  # and some the other way round
    assert (by_interests < own + 5).any()
    np.testing.assert_allclose(total, np.maximum(by_interests, own + offset), rtol=1e-4)
