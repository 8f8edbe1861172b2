"""The requests that TF Serving replays before a version takes traffic.

Without them the first request of each signature would have to wait until its part of the graph is
prepared, and the very first request until the index is created
(https://www.tensorflow.org/tfx/serving/saved_model_warmup).
"""

import os
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.saved_model import loader_impl
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from contract.features import HISTORY
from contract.signatures import EVALUATE, ITEMS, LIMIT, OFFSET, K, neutral_inputs
from contract.versions import WARMUP_PATH


def write_warmup(model_dir: str, history: Sequence[bytes], k: int) -> None:
    """Writes one request for each served signature, with every input.

    TF Serving before 2.13 does not support defaults, and it does not load a version whose warm-up
    fails.

    Args:
      model_dir: The directory of the saved bundle.
      history: Ids of items that the bundle knows, oldest first.
      k: Number of items in the requests.
    """
    (meta_graph,) = loader_impl.parse_saved_model(model_dir).meta_graphs
    given = {
        HISTORY: tf.constant([list(history)]),
        ITEMS: tf.constant(list(history[:1])),
        K: tf.constant(k, tf.int32),
        OFFSET: tf.constant(0, tf.int32),
        LIMIT: tf.constant(1, tf.int32),
    }
    records = []
    for name, signature in sorted(meta_graph.signature_def.items()):
        # The entry without a method name is not a signature but the operation that initialises the
        # model. EVALUATE is not for clients: the next run of the pipeline loads the version itself.
        if not signature.method_name or name == EVALUATE:
            continue
        request = predict_pb2.PredictRequest()
        request.model_spec.signature_name = name
        neutral = neutral_inputs(signature.inputs)
        for key, info in signature.inputs.items():
            if key in given:
                value = tf.make_tensor_proto(given[key])
            elif key in signature.defaults:
                value = signature.defaults[key]
            else:
                value = tf.make_tensor_proto(neutral[key], info.dtype)
            request.inputs[key].CopyFrom(value)
        log = prediction_log_pb2.PredictionLog(
            predict_log=prediction_log_pb2.PredictLog(request=request)
        )
        records.append(log.SerializeToString())
    path = os.path.join(model_dir, WARMUP_PATH)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for record in records:
            writer.write(record)
