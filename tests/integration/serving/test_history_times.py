"""A model that reads times: from a client's request to the weights, over both protocols."""

import json

import numpy as np
import pytest
import tensorflow as tf

from retrieval.versions import complete_versions
from serving.client import Client
from serving.client.__main__ import main
from serving.transports import ClientError
from tests import trained_export
from tests.running_server import LONG_SECONDS, RunningServer

HISTORIES = [["i03", "i17", "never seen", "i05"], ["i08", "i01"]]
TIMES = [[1_000, 40_000, 41_000, 41_010], [7, 9_000]]
K = 8


@pytest.fixture(scope="module")
def served(trained_with_times, pushed_with_times):
    """The model, its pushed bundle and a server of it."""
    mind = trained_export.Trained(trained_with_times, time_gap=True).mind
    (version,) = complete_versions(str(pushed_with_times))
    bundle = tf.saved_model.load(str(pushed_with_times / version))
    with RunningServer(model_base_path=str(pushed_with_times), model_name="mind") as server:
        yield mind, bundle, server


@pytest.fixture(params=["rest", "grpc"])
def client(request, served):
    server = served[2]
    url = server.url if request.param == "rest" else f"grpc://{server.grpc_address}"
    with Client(url, timeout_seconds=LONG_SECONDS) as client:
        yield client


def _expected(mind, history, times):
    """NumPy over the model's own interests: the best items and their scores."""
    ids = trained_export.catalogue()
    known = [(ids.index(i) + 1, t) for i, t in zip(history, times, strict=True) if i in ids]
    items, seconds = (np.array([column]) for column in zip(*known, strict=True))
    interests, mask = mind.user_interests(
        tf.constant(items, tf.int32), {}, tf.constant(seconds, tf.int64)
    )
    vectors = mind.item_embeddings().numpy()
    scores = (vectors @ interests[0].numpy()[mask[0].numpy()].T).max(axis=1)
    scores[[0, *items[0]]] = -np.inf
    best = np.argsort(-scores, kind="stable")[:K]
    return [ids[i - 1] for i in best], scores[best]


def test_answers_are_those_of_the_model(client, served):
    answers = client.recommend(HISTORIES, K, history_times=TIMES)
    for answer, history, times in zip(answers, HISTORIES, TIMES, strict=True):
        ids, scores = _expected(served[0], history, times)
        assert [item.item_id for item in answer] == ids
        np.testing.assert_allclose([item.score for item in answer], scores, atol=1e-5)


def test_without_times_all_are_unknown(client, served):
    answers = client.recommend(HISTORIES, K)
    timed = client.recommend(HISTORIES, K, history_times=TIMES)
    for row, history in enumerate(HISTORIES):
        ids, scores = _expected(served[0], history, [0] * len(history))
        assert [item.item_id for item in answers[row]] == ids
        assert np.abs(scores - [item.score for item in timed[row]]).max() > 1e-3
    zeros = [[0] * len(history) for history in HISTORIES]
    assert client.recommend(HISTORIES, K, history_times=zeros) == answers


def test_the_command_line(served, capsys):
    arguments = ["--history=i08,i01", "--history_times=7,9000", f"-k={K}", "--json"]
    assert main([*arguments, f"--url={served[2].url}"]) == 0
    ids, _ = _expected(served[0], HISTORIES[1], TIMES[1])
    assert [row["item_id"] for row in json.loads(capsys.readouterr().out)] == ids


def test_the_signature_of_a_history_alone(served):
    bundle = served[1]
    alone = bundle.signatures["recommend"](history=tf.constant([HISTORIES[1]]))
    ids, _ = _expected(served[0], HISTORIES[1], [0, 0])
    assert [item.decode() for item in alone["item_ids"][0, :K].numpy()] == ids


def test_times_of_another_shape_are_refused(client):
    with pytest.raises(ValueError, match=r"one time per item of the history \(2\), got 1"):
        client.recommend(HISTORIES[1:], history_times=[[5]])
    with pytest.raises(ClientError, match="history_time must have the shape of history"):
        client.predict(
            "serving_default",
            {"history": [["i03", "i17"]], "history_time": np.array([[5]]), "k": 3,
             "exclude": [[""]],
             "exclude_history": True, "diversity": 0.0, "allow_categories": [[""]],
             "deny_categories": [[""]]},
        )  # fmt: skip
