"""One loaded SavedModel version: what TF Serving calls a SavedModelBundle.

The model runs in a TensorFlow *session*, as it does in TF Serving, not through
``tf.saved_model.load``: a session has its own resource manager (two versions that
hold a ScaNN searcher or a table of one name would collide in the eager context),
honours a deadline, and gives all its memory back when it is closed.
"""

import contextlib
import gc
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.core.protobuf import meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.saved_model import loader_impl
from tensorflow_serving.apis import prediction_log_pb2

from contract.signatures import SERVE
from contract.versions import WARMUP_PATH
from serving.errors import ServingError, from_tensorflow, invalid_argument, quoted
from serving.read_write_lock import ReadWriteLock
from serving.signature import Signature, TensorSlot, array_from_proto, dtype_name

with contextlib.suppress(ImportError):
    # Registers ScaNN's ops; models without them load all the same.
    import scann.scann_ops.py.scann_ops  # noqa: F401

# SignatureDef key that only tells the loader which op initialises the model.
_INIT_OP = "__saved_model_init_op"


# The attribute of a call of a function that says how the function is rewritten when it first runs.
_FUNCTION_CONFIG = "config_proto"


def session_config(
    intra_op_threads: int = 0, inter_op_threads: int = 0, optimize: bool = True
) -> tf.compat.v1.ConfigProto:
    """Returns how TensorFlow runs a version.

    TensorFlow rewrites the graph of a signature when it first runs, which is most of the time that
    a version takes to load. Rewriters that do not make an answer on a CPU faster are left out, and
    the others run once instead of twice; docs/experiments.md has the figures.

    Args:
      intra_op_threads: Threads of one operation; 0 uses all cores.
      inter_op_threads: Threads across operations; 0 uses all cores.
      optimize: Whether to rewrite the graph as a whole. Its functions, one for each signature, are
        rewritten in any case.
    """
    config = tf.compat.v1.ConfigProto(
        intra_op_parallelism_threads=intra_op_threads, inter_op_parallelism_threads=inter_op_threads
    )
    rewriters = config.graph_options.rewrite_options
    values = rewriter_config_pb2.RewriterConfig
    rewriters.disable_meta_optimizer = not optimize
    rewriters.meta_optimizer_iterations = values.ONE
    rewriters.memory_optimization = values.NO_MEM_OPT
    rewriters.layout_optimizer = values.OFF
    rewriters.remapping = values.OFF
    rewriters.loop_optimization = values.OFF
    rewriters.shape_optimization = values.OFF
    return config


def configure_functions(graph: graph_pb2.GraphDef, config: tf.compat.v1.ConfigProto) -> None:
    """Makes every call of a function in a graph follow ``config``.

    A call carries the configuration of the process that exported it, and the session's own has no
    effect on how the function is rewritten.

    Args:
      graph: Changed in place: the calls in the graph itself and those in its functions.
      config: How TensorFlow runs and rewrites the functions.
    """
    serialized = config.SerializeToString()
    for nodes in (graph.node, *(function.node_def for function in graph.library.function)):
        for node in nodes:
            if _FUNCTION_CONFIG in node.attr:
                node.attr[_FUNCTION_CONFIG].s = serialized


def load_into(session: tf.compat.v1.Session, path: Path) -> meta_graph_pb2.MetaGraphDef:
    """Loads what is at ``path`` into the default graph and the session.

    Its functions are rewritten as ``session_config`` says, not as their exporter set.

    Args:
      session: Of the default graph.
      path: A SavedModel's directory.

    Returns:
      The MetaGraph for serving, with the signatures.
    """
    loader = loader_impl.SavedModelLoader(str(path))
    meta_graph = loader.get_meta_graph_def_from_tags([tf.saved_model.SERVING])
    configure_functions(meta_graph.graph_def, session_config())
    return loader.load(session, [tf.saved_model.SERVING])


class SavedModel:
    """A version in memory, ready to run from any thread.

    Args:
      path: Version directory.
      config: How TensorFlow runs it; ``session_config()`` if None.

    Attributes:
      is_closed: Whether it was closed; nothing runs any more then.

    Raises:
      ServingError: the directory does not hold a SavedModel that loads.
    """

    def __init__(self, path: Path, config: tf.compat.v1.ConfigProto | None = None):
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=config or session_config())
        try:
            with graph.as_default():
                meta_graph = load_into(self._session, path)
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
        self._tensors: dict[str, tf.Tensor] = {}
        self._lock = ReadWriteLock()
        self.is_closed = False

    def complete_inputs(
        self, signature_name: str, inputs: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Returns ``inputs`` with the signature's defaults added.

        Names and types are checked, as TF Serving does (``VerifyRequestInputsSize`` in its
        servables/tensorflow/predict_util.cc, ``GetInputValues`` in TensorFlow's
        cc/saved_model/util.cc), and no shapes: that is left to the graph.

        Raises:
          ServingError: FAILED_PRECONDITION for an unknown signature,
            INVALID_ARGUMENT for a missing, unknown or wrongly typed input.
        """
        signature = self._signature(signature_name)
        expected = signature.inputs
        # Names too are what the request brings: somebody may send items as names.
        sent = quoted(_join(inputs))
        absent = set(expected) - set(inputs)
        unknown = set(inputs) - set(expected)
        if len(inputs) > len(expected) or (len(inputs) < len(expected) and not signature.defaults):
            raise invalid_argument(
                f"input size does not match signature: {len(inputs)}!={len(expected)}"
                f" len({{{sent}}}) != len({{{_join(expected)}}})."
                f" Sent extra: {{{quoted(_join(unknown))}}}."
                f" Missing but required: {{{_join(absent)}}}."
            )
        for name in sorted(absent - set(signature.defaults)):
            raise invalid_argument(
                f"Signature input alias: {name}(feed name: {expected[name].tensor_name})"
                " not found in request and no default value provided. Inputs expected to be in"
                f" the request {{{sent}}}, or default input alias set:"
                f" {_join(signature.defaults)}"
            )
        if unknown:
            raise invalid_argument(
                "Inputs contains invalid name. Used request inputs:"
                f" {_join(set(inputs) - unknown)}, request input: {sent}"
            )
        for position, (name, slot) in enumerate(expected.items()):
            if name in inputs and tf.as_dtype(inputs[name].dtype) != slot.dtype:
                raise invalid_argument(
                    f"Expects arg[{position}] to be {dtype_name(slot.dtype)} but"
                    f" {dtype_name(tf.as_dtype(inputs[name].dtype))} is provided (input {name})"
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
        with self._lock.read():
            return self._call(self._signature(signature_name), inputs, output_names, timeout_ms)

    def run_function(
        self, function: Signature, inputs: Mapping[str, np.ndarray], *, alone: bool
    ) -> dict[str, np.ndarray]:
        """Runs a function of the graph that is no signature; blocks.

        Args:
          function: Its inputs and outputs.
          inputs: Every input.
          alone: Whether nothing else may run in the meantime.

        Raises:
          ServingError: what the graph refused.
        """
        with self._lock.write() if alone else self._lock.read():
            return self._call(function, inputs, tuple(function.outputs))

    def _call(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        output_names: Sequence[str],
        timeout_ms: int = 0,
    ) -> dict[str, np.ndarray]:
        if self.is_closed:
            raise ServingError(grpc.StatusCode.UNAVAILABLE, "the version was unloaded")
        feeds = {self._tensor(slot).ref(): inputs[name] for name, slot in signature.inputs.items()}
        # Not in the caller's thread (an ``inter_op_thread_pool`` of -1), which takes a quarter less
        # processor time: TensorFlow keeps no deadline there.
        fetches = [self._tensor(signature.outputs[name]) for name in output_names]
        try:
            values = _run(self._session, feeds, fetches, timeout_ms)
        except tf.errors.OpError as e:
            raise from_tensorflow(e, signature.shape_problem(inputs)) from e
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
        """Frees the model; no signature may be running, and none may follow."""
        with self._lock.write():
            self.is_closed = True
            self._session.close()
            del self._session
        self._tensors.clear()
        # A graph of TensorFlow refers to itself. Without this it waits for the collector, which
        # counts Python's objects and not what they hold: megabytes for every version.
        gc.collect()

    def _signature(self, name: str) -> Signature:
        if name not in self.signatures:
            raise ServingError(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'Serving signature key "{quoted(name)}" not found.',
            )
        return self.signatures[name]

    def _tensor(self, slot: TensorSlot) -> tf.Tensor:
        tensor = self._tensors.get(slot.tensor_name)
        if tensor is None:
            tensor = self._session.graph.as_graph_element(slot.tensor_name)
            self._tensors[slot.tensor_name] = tensor
        return tensor


def _run(
    session: tf.compat.v1.Session,
    feeds: Mapping[Any, np.ndarray],
    fetches: Sequence[tf.Tensor],
    timeout_ms: int,
) -> list[Any]:
    """``session.run`` without its check of shapes.

    TensorFlow's C++ runtime, and so TF Serving, takes inputs of shapes that the signature
    does not state, while ``Session.run`` compares them with the placeholder's.
    """
    if not timeout_ms:
        return session._do_run(None, [], fetches, feeds, None, None)
    options = pywrap_tf_session.TF_NewBufferFromString(
        tf.compat.v1.RunOptions(timeout_in_ms=timeout_ms).SerializeToString()
    )
    try:
        return session._do_run(None, [], fetches, feeds, options, None)
    finally:
        pywrap_tf_session.TF_DeleteBuffer(options)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _join(names: Iterable[str]) -> str:
    return ",".join(sorted(names))
