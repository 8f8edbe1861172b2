"""The warm-up file is what TF Serving reads."""

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from retrieval.signatures import signature
from retrieval.warmup import write_warmup


def _save(path):
    inputs = {
        "history": (tf.TensorSpec([None, None], tf.string), None),
        "k": (tf.TensorSpec([], tf.int32), tf.constant(3)),
        "exclude": (tf.TensorSpec([None, None], tf.string), tf.constant([["x"]])),
    }
    function = signature(lambda history, k, exclude: {"k": k}, inputs)
    tf.saved_model.save(tf.Module(), str(path), signatures=function)


def test_one_request_with_every_input_in_the_place_that_tf_serving_looks_at(tmp_path):
    _save(tmp_path)
    write_warmup(str(tmp_path), [b"a, b", b"line\nbreak"], 10)
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    assert set(request.inputs) == {"history", "k", "exclude"}
    history = tf.make_ndarray(request.inputs["history"])
    assert history.tolist() == [[b"a, b", b"line\nbreak"]]
    assert tf.make_ndarray(request.inputs["k"]) == 10
    assert tf.make_ndarray(request.inputs["exclude"]).tolist() == [[b"x"]]
