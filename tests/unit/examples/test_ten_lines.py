"""The example runs, and its model learns."""

from examples import ten_lines
from model.network.attention import LabelAwareAttention
from model.network.capsule import CapsuleLayer


def test_the_example_learns_with_both_layers():
    kinds = {type(layer) for layer in ten_lines.make_model().layers}
    assert {CapsuleLayer, LabelAwareAttention} <= kinds
    accuracy = ten_lines.main().history["accuracy"]
    assert accuracy[0] < 0.6  # of two equally frequent answers
    assert accuracy[-1] > 0.8
