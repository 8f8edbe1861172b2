import numpy as np
import tensorflow as tf

from tests.golden import mind_model


def test_a_stored_checkpoint_gives_the_same_vectors():
    mind = mind_model.make_model()
    before = mind_model.outputs(mind)
    checkpoint = tf.train.Checkpoint(model=mind)
    checkpoint.read(str(mind_model.DIRECTORY / "checkpoint")).assert_consumed()
    expected = dict(np.load(mind_model.DIRECTORY / "expected.npz"))
    outputs = mind_model.outputs(mind)
    assert set(outputs) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(outputs[name], value, atol=1e-5, err_msg=name)
    assert np.abs(before["interests"] - expected["interests"]).max() > 0.1  # it was trained
