"""The warm-up file is what TF Serving reads."""

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from components.index_builder.warmup import write_warmup


def test_one_request_in_the_place_that_tf_serving_looks_at(tmp_path):
    write_warmup(str(tmp_path), [b"a, b", b"line\nbreak"], 10)
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    (record,) = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
    assert request.model_spec.signature_name == "serving_default"
    assert set(request.inputs) == {"history", "k"}
    history = tf.make_ndarray(request.inputs["history"])
    assert history.tolist() == [[b"a, b", b"line\nbreak"]]
    assert tf.make_ndarray(request.inputs["k"]) == 10
