"""The requests that TF Serving replays before a version takes traffic.

Without them the first request pays for creating the index and for TensorFlow's
lazy initialisation (https://www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

import os
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.saved_model import loader_impl
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from contract.features import HISTORY
from contract.signatures import SERVE, K
from contract.versions import WARMUP_PATH


def write_warmup(model_dir: str, history: Sequence[bytes], k: int) -> None:
    """Writes one request for ``serving_default``, with every input.

    TF Serving before 2.13 knows no defaults, and a version whose warm-up fails
    is not loaded.

    Args:
      model_dir: The saved bundle.
      history: Ids of items that the bundle knows, oldest first.
      k: Items asked for.
    """
    request = predict_pb2.PredictRequest()
    request.model_spec.signature_name = SERVE
    (meta_graph,) = loader_impl.parse_saved_model(model_dir).meta_graphs
    for name, value in meta_graph.signature_def[SERVE].defaults.items():
        request.inputs[name].CopyFrom(value)
    request.inputs[HISTORY].CopyFrom(tf.make_tensor_proto([list(history)], tf.string))
    request.inputs[K].CopyFrom(tf.make_tensor_proto(k, tf.int32))
    log = prediction_log_pb2.PredictionLog(
        predict_log=prediction_log_pb2.PredictLog(request=request)
    )
    path = os.path.join(model_dir, WARMUP_PATH)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(log.SerializeToString())
