"""Diversity and category lists over every way to ask: the same answer as the bundle itself."""

import asyncio
import threading

import numpy as np
import pytest
import tensorflow as tf

from serving.client import AsyncClient, Client, UnknownCategoryWarning
from serving.client.__main__ import main
from tests.category_bundle import OVER_FETCH, categories_of
from tests.running_server import LONG_SECONDS

HISTORIES = [["3", "9"], ["150"], []]
K = 6
# Wishes as the client takes them, one entry per history.
WISHES = {
    "none": {},
    "diverse": {"diversity": 0.6},
    "diverse by row": {"diversity": [0.0, 0.3, 1.0]},
    "allowed": {"allow_categories": [["war", "noir"], ["classic"], []]},
    "denied": {"deny_categories": [["drama"], ["drama", "classic"], ["drama"]]},
    "all": {
        "diversity": [1.0, 0.5, 0.0],
        "allow_categories": [["war", "noir", "comedy"], [], ["war"]],
        "deny_categories": [["classic"], ["drama"], []],
    },
}


@pytest.fixture(scope="module")
def loaded(shop):
    return tf.saved_model.load(str(shop))


def _inputs(wishes):
    """Columns of the signature, string lists padded."""

    def padded(rows):
        width = max([1, *map(len, rows)])
        return [[*row, *[""] * (width - len(row))] for row in rows]

    nothing = [[]] * len(HISTORIES)
    return {
        "history": padded(HISTORIES),
        "k": K,
        "exclude": padded(nothing),
        "exclude_history": True,
        "diversity": np.asarray(wishes.get("diversity", 0.0)).tolist(),
        "allow_categories": padded(wishes.get("allow_categories", nothing)),
        "deny_categories": padded(wishes.get("deny_categories", nothing)),
        "user_taste": [""] * len(HISTORIES),
    }


def _expected(loaded, wishes):
    inputs = {name: tf.constant(value) for name, value in _inputs(wishes).items()}
    answer = loaded.signatures["serving_default"](**inputs)
    return [[item.decode() for item in row if item] for row in answer["item_ids"].numpy()]


def _predict(server, body):
    return server.http.post("/v1/models/shop:predict", json=body).json()


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_the_client(server, loaded, scheme, name):
    url = server.url if scheme == "rest" else f"grpc://{server.grpc_address}"
    with Client(url, "shop", timeout_seconds=LONG_SECONDS) as client:
        found = client.recommend(HISTORIES, K, **WISHES[name])
    assert [[item.item_id for item in row] for row in found] == _expected(loaded, WISHES[name])


@pytest.mark.parametrize("name", WISHES)
def test_rest_columns_and_rows(server, loaded, name):
    inputs = _inputs(WISHES[name])
    outputs = _predict(server, {"inputs": inputs})["outputs"]
    ids = [[item for item in row if item] for row in outputs["item_ids"]]
    assert ids == _expected(loaded, WISHES[name])
    by_row = [
        {key: value[i] if isinstance(value, list) else value for key, value in inputs.items()}
        for i in range(len(HISTORIES))
    ]
    rows = _predict(server, {"instances": by_row})["predictions"]
    assert [[item for item in row["item_ids"] if item] for row in rows] == ids


def test_what_the_answers_mean(server):
    """Independent of the bundle's own code."""
    with Client(server.url, "shop", timeout_seconds=LONG_SECONDS) as client:

        def ask(k=K, **wishes):
            return [item.item_id for item in client.recommend([["3", "9"]], k, **wishes)[0]]

        def count(ids):
            return len({name for item in ids for name in categories_of(item)[:1]})

        everything = ask(k=1000)
        assert ask(diversity=0.0) == everything[:K]
        diverse = ask(diversity=1.0)
        assert count(diverse) > count(everything[:K])
        assert set(diverse) <= set(everything[: K * OVER_FETCH])
        war = [item for item in everything if "war" in categories_of(item)]
        assert ask(k=1000, allow_categories=[["war"]]) == war
        no_war = [item for item in everything if item not in war]
        assert ask(k=1000, deny_categories=[["war"]]) == no_war
        with pytest.warns(UnknownCategoryWarning, match="the category 'no such'"):
            assert ask(allow_categories=[["no such"]]) == []


@pytest.mark.parametrize("scheme", ["rest", "grpc"])
def test_an_unknown_category_is_reported_and_the_request_answered(server, scheme):
    url = server.url if scheme == "rest" else f"grpc://{server.grpc_address}"
    with Client(url, "shop", timeout_seconds=60.0) as client:
        plain = client.recommend(HISTORIES, K)
        with pytest.warns(UnknownCategoryWarning, match=r"'Warr'; did you mean 'war'\?"):
            denied = client.recommend(HISTORIES, K, deny_categories=[["Warr"], [], []])
        assert denied == plain

    async def ask():
        async with AsyncClient(url, "shop", timeout_seconds=60.0) as client:
            return await client.recommend(HISTORIES, K, allow_categories=[["draama"], [], []])

    with pytest.warns(UnknownCategoryWarning, match=r"'draama'; did you mean 'drama'\?"):
        allowed = asyncio.run(ask())
    assert allowed[0] == []
    assert allowed[1:] == plain[1:]


def test_concurrent_requests_of_different_wishes_keep_their_own_answers(server, loaded):
    expected = {name: _expected(loaded, wishes) for name, wishes in WISHES.items()}
    problems = []

    def ask(name):
        with Client(server.url, "shop", timeout_seconds=LONG_SECONDS) as client:
            for _ in range(10):
                rows = client.recommend(HISTORIES, K, **WISHES[name])
                if [[item.item_id for item in row] for row in rows] != expected[name]:
                    problems.append(name)

    threads = [threading.Thread(target=ask, args=(name,)) for name in [*WISHES] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []


def test_wishes_that_the_model_does_not_know_are_refused(server):
    with Client(server.url, "mind", timeout_seconds=LONG_SECONDS) as client:
        assert client.recommend([["1"]], diversity=0.0, deny_categories=[[]])
        with pytest.raises(ValueError, match="the model has no inputs diversity; it has exclude"):
            client.recommend([["1"]], diversity=0.5)
        with pytest.raises(ValueError, match="no inputs allow_categories, deny_categories"):
            client.recommend([["1"]], allow_categories=[["a"]], deny_categories=[["b"]])
    with (
        Client(server.url, "shop", timeout_seconds=LONG_SECONDS) as client,
        pytest.raises(ValueError, match=r"allow_categories must have one entry per history \(2\)"),
    ):
        client.recommend([["1"], ["2"]], allow_categories=[["war"]])


def test_command_line(server, capsys):
    args = ["--url", server.url, "--model", "shop", "--history", "3,9", "-k", "4"]
    wishes = {
        "diversity": 0.8,
        "allow_categories": [["war", "noir", "drama"]],
        "deny_categories": [["classic"]],
    }
    flags = ["--diversity", "0.8", "--allow_categories", "war, noir,drama"]
    assert main([*args, *flags, "--deny_categories", "classic"]) == 0
    lines = capsys.readouterr().out.splitlines()
    with Client(server.url, "shop", timeout_seconds=LONG_SECONDS) as client:
        (expected,) = client.recommend([["3", "9"]], 4, **wishes)
    assert [line.split()[1] for line in lines[1:]] == [item.item_id for item in expected]
    assert main([*args, "--diversity", "2"]) == 1
    assert "diversity must be from 0 to 1" in capsys.readouterr().err


def test_the_command_line_refuses_an_unknown_category(server, capsys):
    args = ["--url", server.url, "--model", "shop", "--history", "3,9", "-k", "4"]
    assert main([*args, "--deny_categories", "war,clasic"]) == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == (
        "error: no item of the catalogue has the category 'clasic'; did you mean 'classic'?\n"
    )
