import gc

import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from contract.versions import WARMUP_PATH
from serving.errors import ServingError
from serving.saved_model import SavedModel, load_into, session_config
from tests import serving_models


@pytest.fixture(scope="module")
def model(half_plus_two):
    return SavedModel(half_plus_two)


def _copy(path, tmp_path):
    return serving_models.push(path, tmp_path / "base", 1)


def test_two_versions_with_tables_of_one_name_do_not_meet(recommender, tmp_path):
    serving_models.save_recommender(tmp_path / "small", num_items=50)
    models = [SavedModel(tmp_path / "small"), SavedModel(recommender)]
    inputs = {"items": np.array([b"55"], object)}
    known = [model.run("item_titles", inputs, ("known",))["known"].tolist() for model in models]
    assert known == [[False], [True]]


def test_scalars_keep_their_type(model):
    outputs = model.run("scalar", {"x": np.array(2.5, np.float32)}, ("y",))
    assert outputs["y"].shape == ()
    assert outputs["y"].dtype == np.float32


def test_functions_follow_the_configuration_of_the_server(half_plus_two):
    with tf.Graph().as_default() as graph, tf.compat.v1.Session() as session:
        load_into(session, half_plus_two)
    definition = graph.as_graph_def()
    functions = definition.library.function
    calls = [
        node
        for nodes in (definition.node, *(function.node_def for function in functions))
        for node in nodes
        if node.op in ("PartitionedCall", "StatefulPartitionedCall")
    ]
    assert len(calls) >= 8  # the signatures
    assert {call.attr["config_proto"].s for call in calls} == {session_config().SerializeToString()}


@pytest.mark.parametrize("signature", ["serving_default", "two", "defaults", "number", "version"])
def test_answers_do_not_depend_on_the_optimization(half_plus_two, model, signature):
    plain = SavedModel(half_plus_two, session_config(optimize=False))
    given = {"text": np.array([b"1.5", b"-2"], object)}
    given |= {name: np.array([3.0, 0.1], np.float32) for name in ("x", "x1", "x2")}
    sent = {k: v for k, v in given.items() if k in model.signatures[signature].inputs}
    outputs = model.output_names(signature, ())
    one, other = (
        each.run(signature, each.complete_inputs(signature, sent), outputs)
        for each in (model, plain)
    )
    for name in outputs:
        np.testing.assert_array_equal(one[name], other[name])
    plain.close()


def test_a_deadline_is_kept(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([], tf.int32)])
    def count(n):
        return {"n": tf.while_loop(lambda i: i < n, lambda i: i + 1, [tf.constant(0)])[0]}

    tf.saved_model.save(tf.Module(), str(tmp_path), signatures=count)
    model = SavedModel(tmp_path)
    with pytest.raises(ServingError, match=r"(?i)deadline|timed out") as e:
        model.run("serving_default", {"n": np.array(2**30, np.int32)}, ("n",), timeout_ms=50)
    assert e.value.http_status == 504


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: (p / "saved_model.pb").write_bytes(b"not a proto"),
        lambda p: (p / "saved_model.pb").write_bytes((p / "saved_model.pb").read_bytes()[:5000]),
        lambda p: (p / "saved_model.pb").write_bytes(b""),
        lambda p: (p / "variables" / "variables.index").unlink(),
        lambda p: next((p / "variables").glob("*.data*")).write_bytes(b"12"),
        lambda p: next((p / "variables").glob("*.data*")).unlink(),
    ],
)
def test_a_damaged_directory_does_not_load(half_plus_two, tmp_path, damage):
    broken = _copy(half_plus_two, tmp_path)
    damage(broken)
    with pytest.raises(ServingError, match="does not load as a SavedModel"):
        SavedModel(broken)


def _write_warm_up(path, *requests):
    (path / WARMUP_PATH).parent.mkdir()
    with tf.io.TFRecordWriter(str(path / WARMUP_PATH)) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def test_warm_up_replays_every_request(half_plus_two, model, tmp_path):
    copy = _copy(half_plus_two, tmp_path)
    assert model.warm_up(copy) == 0
    _write_warm_up(copy, ("", {"x": [1.0]}), ("two", {"x1": [1.0], "x2": [1.0]}))
    assert model.warm_up(copy) == 2


def test_a_failing_warm_up_names_the_request(half_plus_two, model, tmp_path):
    copy = _copy(half_plus_two, tmp_path)
    _write_warm_up(copy, ("", {"x": [1.0]}), ("defaults", {"x": [1.0], "plus": -1.0}))
    with pytest.raises(ServingError, match=r"warm-up request 1 of .*plus must be >= 0"):
        model.warm_up(copy)
    (copy / WARMUP_PATH).write_bytes(b"no records" * 10)
    with pytest.raises(ServingError, match="cannot be read"):
        model.warm_up(copy)


def test_a_closed_model_leaves_nothing_in_memory(half_plus_two):
    def graphs():
        return sum(isinstance(thing, tf.Graph) for thing in gc.get_objects())

    gc.collect()
    before = graphs()
    gc.disable()
    try:
        model = SavedModel(half_plus_two)
        model.run("serving_default", {"x": np.array([1.0], np.float32)}, ("y",))
        assert graphs() > before
        model.close()
        assert graphs() == before
    finally:
        gc.enable()
