"""The warm-up file is what TF Serving reads."""

import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from retrieval.signatures import signature
from retrieval.warmup import write_warmup


def _save(path):
    served = {
        "history": (tf.TensorSpec([None, None], tf.string), None),
        "k": (tf.TensorSpec([], tf.int32), tf.constant(3)),
        "exclude": (tf.TensorSpec([None, None], tf.string), tf.constant([["x"]])),
    }
    interests = {
        "history": (tf.TensorSpec([None, None], tf.string), None),
        "history_time": (tf.TensorSpec([None, None], tf.int64), None),
        "user_age": (tf.TensorSpec([None], tf.string), None),
    }
    listed = {name: (tf.TensorSpec([], tf.int32), None) for name in ("offset", "limit")}
    titles = {"items": (tf.TensorSpec([None], tf.string), None)}
    signatures = {
        "serving_default": signature(lambda history, k, exclude: {"k": k}, served),
        "user_interests": signature(
            lambda history, history_time, user_age: {"age": user_age}, interests
        ),
        "list_items": signature(lambda offset, limit: {"sum": offset + limit}, listed),
        "item_titles": signature(lambda items: {"titles": items}, titles),
    }
    tf.saved_model.save(tf.Module(), str(path), signatures=signatures)


def test_a_request_for_each_signature_with_every_input_where_tf_serving_looks(tmp_path):
    _save(tmp_path)
    write_warmup(str(tmp_path), [b"a, b", b"line\nbreak"], 10)
    path = tmp_path / "assets.extra" / "tf_serving_warmup_requests"
    asked = {}
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        asked[request.model_spec.signature_name] = {
            name: tf.make_ndarray(value).tolist() for name, value in request.inputs.items()
        }
    assert asked == {
        "serving_default": {
            "history": [[b"a, b", b"line\nbreak"]],
            "k": 10,
            "exclude": [[b"x"]],
        },
        "user_interests": {
            "history": [[b"a, b", b"line\nbreak"]],
            "history_time": [[0]],
            "user_age": [b""],
        },
        "list_items": {"offset": 0, "limit": 1},
        "item_titles": {"items": [b"a, b"]},
    }
