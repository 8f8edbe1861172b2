"""One loaded SavedModel version: what TF Serving calls a SavedModelBundle.

The model runs in a TensorFlow *session*, as it does in TF Serving, not through
``tf.saved_model.load``: a session has its own resource manager (two versions that
hold a ScaNN searcher or a table of one name would collide in the eager context),
honours a deadline, and gives all its memory back when it is closed.
"""

import contextlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import prediction_log_pb2

from contract.signatures import SERVE
from contract.versions import WARMUP_PATH
from serving.errors import ServingError, from_tensorflow, invalid_argument, quoted
from serving.signature import Signature, array_from_proto

with contextlib.suppress(ImportError):
    # Registers ScaNN's ops; models without them load all the same.
    import scann.scann_ops.py.scann_ops  # noqa: F401

# SignatureDef key that only tells the loader which op initialises the model.
_INIT_OP = "__saved_model_init_op"


class SavedModel:
    """A version in memory, ready to run from any thread.

    Args:
      path: Version directory.
      session_config: Thread counts and the like; TensorFlow's defaults if None.

    Raises:
      ServingError: the directory does not hold a SavedModel that loads.
    """

    def __init__(self, path: Path, session_config: tf.compat.v1.ConfigProto | None = None):
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=session_config)
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(
                    self._session, [tf.saved_model.SERVING], str(path)
                )
        except Exception as e:
            # A broken file raises parse errors, data loss, key errors and others. All of
            # them mean that the version cannot be served.
            self._session.close()
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT,
                f"{path} does not load as a SavedModel ({type(e).__name__}: {_first_line(e)}). "
                "If the message names an unregistered op, install the package that provides it; "
                "otherwise push the version again.",
            ) from e
        self.signature_defs: dict[str, meta_graph_pb2.SignatureDef] = dict(meta_graph.signature_def)
        self.signatures = {
            name: Signature.from_proto(definition)
            for name, definition in self.signature_defs.items()
            if name != _INIT_OP
        }
        self._callables: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._callables_lock = threading.Lock()

    def complete_inputs(
        self, signature_name: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Returns ``inputs`` with the signature's defaults added.

        Raises:
          ServingError: FAILED_PRECONDITION for an unknown signature,
            INVALID_ARGUMENT for a missing, unknown or wrongly typed input, or one
            whose shape cannot fit.
        """
        signature = self._signature(signature_name)
        required = set(signature.inputs) - set(signature.defaults)
        missing = required - set(inputs)
        unknown = set(inputs) - set(signature.inputs)
        if missing or unknown:
            # Names too are what the request brings: somebody may send items as names.
            sent, expected = quoted(",".join(sorted(inputs))), ",".join(sorted(signature.inputs))
            raise invalid_argument(
                f"input size does not match signature: {len(inputs)}!={len(signature.inputs)}"
                f" len({{{sent}}}) != len({{{expected}}})."
                f" Sent extra: {{{quoted(','.join(sorted(unknown)))}}}."
                f" Missing but required: {{{','.join(sorted(missing))}}}."
            )
        for name, value in inputs.items():
            slot = signature.inputs[name]
            if tf.as_dtype(value.dtype) != slot.dtype:
                raise invalid_argument(
                    f"Expects arg[{name}] to be {slot.dtype.name} but"
                    f" {tf.as_dtype(value.dtype).name} is provided"
                )
            if slot.shape is not None and not tf.TensorShape(slot.shape).is_compatible_with(
                value.shape
            ):
                raise invalid_argument(
                    f"Input {name} must have shape {_show_shape(slot.shape)}, got"
                    f" {_show_shape(value.shape)}"
                )
        return {**signature.defaults, **inputs}

    def output_names(self, signature_name: str, output_filter: Sequence[str]) -> tuple[str, ...]:
        """The outputs to fetch: those of ``output_filter``, or all.

        Raises:
          ServingError: an output that does not exist, or is named twice.
        """
        outputs = self._signature(signature_name).outputs
        for position, name in enumerate(output_filter):
            if name not in outputs:
                raise invalid_argument(
                    f"output tensor alias not found in signature: {quoted(name)} Outputs"
                    f" expected to be in the set {{{','.join(outputs)}}}."
                )
            if name in output_filter[:position]:
                raise invalid_argument(f"duplicate output tensor alias: {name}")
        return tuple(output_filter) or tuple(outputs)

    def run(
        self,
        signature_name: str,
        inputs: Mapping[str, np.ndarray],
        output_names: tuple[str, ...],
        timeout_ms: int = 0,
    ) -> dict[str, np.ndarray]:
        """Runs a signature; blocks, and may be called from several threads.

        Args:
          signature_name: Which one.
          inputs: Every input, as ``complete_inputs`` returns them.
          output_names: Outputs to fetch, as ``output_names`` returns them.
          timeout_ms: Deadline of this run; 0 for none.

        Raises:
          ServingError: what the graph refused, or DEADLINE_EXCEEDED.
        """
        feed_names, call = self._callable(signature_name, output_names)
        # Not in the caller's thread (an ``inter_op_thread_pool`` of -1), which takes a quarter less
        # processor time: TensorFlow keeps no deadline there.
        options = tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms) if timeout_ms else None
        try:
            values = call(*[inputs[name] for name in feed_names], options=options)
        except tf.errors.OpError as e:
            raise from_tensorflow(e) from e
        return {
            name: np.asarray(value, object) if isinstance(value, bytes) else np.asarray(value)
            for name, value in zip(output_names, values, strict=True)
        }

    def warm_up(self, path: Path) -> int:
        """Replays the requests in ``assets.extra/tf_serving_warmup_requests``.

        Args:
          path: Version directory.

        Returns:
          The number of requests replayed.

        Raises:
          ServingError: a request failed; TF Serving fails the load then, too.
        """
        file = path / WARMUP_PATH
        if not file.exists():
            return 0
        count = 0
        try:
            for record in tf.compat.v1.io.tf_record_iterator(str(file)):
                log = prediction_log_pb2.PredictionLog.FromString(record)
                request = log.predict_log.request
                name = request.model_spec.signature_name or SERVE
                inputs = {k: array_from_proto(v) for k, v in request.inputs.items()}
                self.run(name, self.complete_inputs(name, inputs), self.output_names(name, ()))
                count += 1
        except ServingError as e:
            raise ServingError(e.code, f"warm-up request {count} of {file}: {e.message}") from e
        except Exception as e:
            raise invalid_argument(f"{file} cannot be read: {_first_line(e)}") from e
        return count

    def close(self) -> None:
        """Frees the model; no run may be under way."""
        self._callables.clear()
        self._session.close()

    def _signature(self, name: str) -> Signature:
        if name not in self.signatures:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{quoted(name)}" not found.',
            )
        return self.signatures[name]

    def _callable(self, signature_name: str, output_names: tuple[str, ...]) -> Any:
        key = (signature_name, output_names)
        with self._callables_lock:
            if key not in self._callables:
                signature = self._signature(signature_name)
                element = self._session.graph.as_graph_element
                feed_names = tuple(signature.inputs)
                self._callables[key] = (
                    feed_names,
                    self._session.make_callable(
                        [element(signature.outputs[name].tensor_name) for name in output_names],
                        [element(signature.inputs[name].tensor_name) for name in feed_names],
                        accept_options=True,
                    ),
                )
            return self._callables[key]


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _show_shape(shape: Sequence[int | None]) -> str:
    return f"[{','.join('?' if size is None else str(size) for size in shape)}]"
