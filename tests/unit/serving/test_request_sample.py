"""What is kept of a row, and that it asks the same when it is asked again."""

import numpy as np
import pytest
import tensorflow as tf

from serving.request_sample import (
    RequestSample,
    SampleError,
    inputs_of_row,
    read_samples,
)
from serving.signature import Signature, TensorSlot

_STRINGS, _LISTS = (None,), (None, None)
_SIGNATURE = Signature(
    inputs={
        name: TensorSlot(f"{name}:0", dtype, shape)
        for name, dtype, shape in (
            ("history", tf.string, _LISTS),
            ("history_time", tf.int64, _LISTS),
            ("k", tf.int32, None),
            ("exclude", tf.string, _LISTS),
            ("exclude_history", tf.bool, None),
            ("diversity", tf.float32, None),
            ("user_age", tf.string, _STRINGS),
        )
    },
    outputs={},
    defaults={},
)
_REQUEST = {
    "history": np.array([[b"a", b"", b"b", b""], [b"", b"", b"", b""]], object),
    "history_time": np.array([[7, 0, 9, 0], [0, 0, 0, 0]], np.int64),
    "k": np.array(5, np.int32),
    "exclude": np.array([[b""]], object),
    "exclude_history": np.array([True, False]),
    "diversity": np.array([0.5], np.float32),
    "user_age": np.array([b"35", b""], object),
    "examples": np.array([b"not about a request"], object),
}


def _sample(**inputs):
    return RequestSample("2026-11-26T15:16:28Z", "mind", 7, "", {"history": [], "k": 1, **inputs})


def test_a_row_is_what_it_asks_without_padding():
    assert inputs_of_row(_REQUEST, 0) == {
        "history": ["a", "", "b"],
        "history_time": [7, 0, 9],
        "k": 5,
        "exclude_history": True,
        "diversity": 0.5,
        "user_age": "35",
    }
    assert inputs_of_row(_REQUEST, 1) == {
        "history": [],
        "k": 5,
        "exclude_history": False,
        "diversity": 0.5,
    }


@pytest.mark.parametrize("row", [0, 1])
def test_it_asks_the_same_again_after_a_file(row):
    written = _sample(**inputs_of_row(_REQUEST, row)).to_line()
    inputs = RequestSample.from_line(written).model_inputs(_SIGNATURE)
    for name, array in inputs.items():
        assert tf.as_dtype(array.dtype) == _SIGNATURE.inputs[name].dtype, name
        shape = _SIGNATURE.inputs[name].shape
        assert tf.TensorShape(shape).is_compatible_with(array.shape), name
    again = {**{name: _REQUEST[name][:1] for name in ("exclude",)}, **inputs}
    assert inputs_of_row(again, 0) == inputs_of_row(_REQUEST, row)


def test_times_keep_the_shape_of_the_history():
    for history, times in ((["a", "b", "c"], [5]), (["a"], [5, 6])):
        inputs = _sample(history=history, history_time=times).model_inputs(_SIGNATURE)
        assert inputs["history"].shape == inputs["history_time"].shape


def test_an_id_that_is_no_utf8_comes_back_as_it_was():
    row = inputs_of_row({"history": np.array([[b"\xff\x00\xe9"]], object)}, 0)
    again = RequestSample.from_line(_sample(**row).to_line()).model_inputs(_SIGNATURE)
    assert again["history"].tolist() == [[b"\xff\x00\xe9"]]


def test_what_a_version_does_not_read_is_left_out():
    assert set(_sample(user_age="35", user_city="x").model_inputs(_SIGNATURE)) == {
        "history",
        "k",
        "user_age",
    }


def _write(directory, number, *samples):
    file = directory / f"request-sample-{number:08d}.jsonl"
    file.write_bytes(b"".join(sample.to_line() for sample in samples))
    return file


def test_the_newest_are_read_the_oldest_first(tmp_path):
    for number in range(3):
        _write(tmp_path, number + 9, *(_sample(k=10 * number + n) for n in range(3)))
    samples, damaged = read_samples(tmp_path, 4)
    assert [sample.inputs["k"] for sample in samples] == [12, 20, 21, 22]
    assert damaged == 0


def test_damaged_lines_are_counted(tmp_path):
    file = _write(tmp_path, 1, _sample(k=1), _sample(k=2))
    whole = file.read_bytes()
    file.write_bytes(whole[:-30] + b"\n[1]\n{}\n" + whole)
    samples, damaged = read_samples(tmp_path, 10)
    assert [sample.inputs["k"] for sample in samples] == [1, 1, 2]
    assert damaged == 3


def test_samples_of_several_models_need_a_choice(tmp_path):
    other = RequestSample("2026-11-26T15:16:28Z", "shop", 7, "", {"history": ["x"]})
    _write(tmp_path, 1, _sample(), other)
    with pytest.raises(SampleError, match=r"several models: mind, shop. Choose one with --model"):
        read_samples(tmp_path, 10)
    assert read_samples(tmp_path, 10, "shop") == ([other], 0)
    with pytest.raises(SampleError, match=r"of the model x .*\['mind', 'shop'\]"):
        read_samples(tmp_path, 10, "x")


def test_no_samples_say_how_they_come_about(tmp_path):
    with pytest.raises(SampleError, match="--request_log_sample"):
        read_samples(tmp_path, 10)
