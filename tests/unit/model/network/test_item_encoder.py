"""Pooling of ids and side features, by hand."""

import numpy as np
import tensorflow as tf

from model.catalogue import Catalogue
from model.network import item_encoder
from model.network.item_encoder import ItemEncoder

# Items: 1 seen, one brand; 2 seen, no features; 3 unseen, brand and two tags;
# 4 unseen, no features.
CATALOGUE = Catalogue(
    train_counts=np.array([0, 5, 2, 0, 0]),
    side_features={
        "brand": np.array([[0], [1], [0], [2], [0]], np.int32),
        "tag": np.array([[0, 0], [0, 0], [0, 0], [3, 1], [0, 0]], np.int32),
    },
    side_vocab_sizes={"brand": 3, "tag": 4},
)


def _encoder(side_features=True):
    return ItemEncoder(CATALOGUE, embedding_dim=4, side_features=side_features)


def test_pooling_by_hand():
    encoder = _encoder()
    ids = encoder._id_table.numpy()
    brand, tag = (encoder._side_tables[name].numpy() for name in ("brand", "tag"))
    expected = [
        np.zeros(4),
        (ids[1] + brand[1]) / 2,
        ids[2],
        (brand[2] + (tag[3] + tag[1]) / 2) / 2,
        np.zeros(4),
    ]
    np.testing.assert_allclose(encoder(tf.range(5)), expected, atol=1e-7)
    # Any shape of indices.
    grid = encoder(tf.constant([[3, 0], [1, 2]]))
    np.testing.assert_allclose(grid, np.array(expected)[[[3, 0], [1, 2]]], atol=1e-7)


def test_ids_only():
    encoder = _encoder(side_features=False)
    ids = encoder._id_table.numpy()
    np.testing.assert_array_equal(encoder(tf.range(5)), ids * [[0], [1], [1], [0], [0]])


def test_padding_and_unseen_ids_get_no_gradient():
    encoder = _encoder()
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(encoder(tf.range(5)))
    gradient = tf.convert_to_tensor(tape.gradient(loss, encoder._id_table))
    np.testing.assert_array_equal(tf.reduce_any(gradient != 0, axis=1), [0, 1, 1, 0, 0])


def test_an_item_with_side_features_loses_its_id_at_the_set_rate():
    encoder = ItemEncoder(CATALOGUE, embedding_dim=4, id_dropout=0.3)
    brand = encoder._side_tables["brand"].numpy()[1]
    both = encoder(tf.constant([1]))[0].numpy()
    drawn = encoder(tf.fill([4000], 1), training=True).numpy()
    without_id = np.isclose(drawn, brand).all(axis=1)
    np.testing.assert_allclose(drawn[~without_id], np.tile(both, (sum(~without_id), 1)), atol=1e-7)
    # Five standard deviations of a binomial count.
    assert abs(without_id.sum() - 1200) < 5 * np.sqrt(4000 * 0.3 * 0.7)
    # Item 2 has nothing but its id.
    only_id = encoder(tf.fill([100], 2), training=True)
    np.testing.assert_array_equal(only_id, np.tile(encoder(tf.constant([2])), (100, 1)))


def test_all_items_in_blocks(monkeypatch):
    encoder = _encoder()
    monkeypatch.setattr(item_encoder, "_BLOCK", 2)
    np.testing.assert_array_equal(encoder.encode_all(), encoder(tf.range(5)))
