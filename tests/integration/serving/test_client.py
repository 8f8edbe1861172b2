"""The client against a real server, over both protocols, sync and async."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.client import AsyncClient, Client
from serving.client.__main__ import main
from serving.transports import ClientError
from tests.running_server import LONG_SECONDS

_ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", params=["rest", "grpc"])
def url(request, server):
    return server.url if request.param == "rest" else f"grpc://{server.grpc_address}"


@pytest.fixture
def client(url):
    with Client(url, timeout_seconds=LONG_SECONDS) as client:
        yield client


def test_recommends_for_histories_of_different_lengths(client):
    short, long, nobody = client.recommend([["3"], ["3", "9", "27"], []], k=5)
    assert [len(row) for row in (short, long, nobody)] == [5, 5, 5]
    (alone,) = client.recommend([["3"]], k=5)
    assert [(i.item_id, i.interest) for i in alone] == [(i.item_id, i.interest) for i in short]
    # Not bit for bit: one row and several go through different kernels of some processors.
    assert [i.score for i in alone] == pytest.approx([i.score for i in short], rel=1e-5)
    assert not {item.item_id for item in long} & {"3", "9", "27"}
    assert [item.score for item in long] == sorted((i.score for i in long), reverse=True)
    assert {item.interest for item in long} <= {0, 1}
    assert {item.interest for item in nobody} == {-1}


def test_exclusions_and_history(client):
    (plain,) = client.recommend([["3", "9"]], k=3)
    best = plain[0].item_id
    (without,) = client.recommend([["3", "9"]], k=3, exclude=[[best]])
    assert [i.item_id for i in without][:2] == [i.item_id for i in plain][1:]
    (with_history,) = client.recommend([["3", "9"]], k=1, exclude_history=False)
    assert with_history[0].item_id in {"3", "9"}


def test_padding_is_not_returned_as_items(client):
    (row,) = client.recommend([["1"]], k=500)
    assert len(row) == 199  # the catalogue without the history
    assert "" not in {item.item_id for item in row}


def test_profiles_are_sent_and_misspelt_ones_refused(client):
    (row,) = client.recommend([["1"]], k=1, profiles=[{"age": "25"}])
    assert row
    with pytest.raises(ValueError, match="the model has no inputs user_agee; it has exclude"):
        client.recommend([["1"]], profiles=[{"agee": "25"}])
    with pytest.raises(ValueError, match="exclude must have one entry per history"):
        client.recommend([["1"]], exclude=[["1"], ["2"]])


def test_titles(client):
    assert client.titles(["7", "none"]) == ["Title 7", ""]


def test_any_signature(client):
    outputs = client.predict("item_embeddings", {"items": ["7", "none"]})
    assert outputs["vectors"].shape == (2, 8)
    assert outputs["known"].tolist() == [True, False]


def test_a_server_without_a_live_catalogue_says_so(client):
    with pytest.raises(ClientError) as error:
        client.catalogue_status()
    assert error.value.code in ("INVALID_ARGUMENT", "UNIMPLEMENTED")


def test_an_only_output_keeps_its_name(url):
    with Client(url, "half_plus_two", label="stable", timeout_seconds=LONG_SECONDS) as client:
        outputs = client.predict("serving_default", {"x": np.array([1.0], np.float32)})
        assert {name: value.tolist() for name, value in outputs.items()} == {"y": [2.5]}


def test_errors_carry_code_and_message(url):
    with (
        Client(url, "nope", timeout_seconds=LONG_SECONDS) as client,
        pytest.raises(ClientError) as e,
    ):
        client.titles(["1"])
    assert e.value.code == "NOT_FOUND"
    assert "Servable not found for request: Latest(nope)" in e.value.message
    with Client(url, timeout_seconds=LONG_SECONDS) as client, pytest.raises(ClientError) as e:
        client.recommend([["1"]], k=0)
    assert e.value.code == "INVALID_ARGUMENT"
    assert "k must be from 1 to 1000" in e.value.message


def test_async_client_gives_the_same(url, client):
    async def run():
        async with AsyncClient(url, timeout_seconds=LONG_SECONDS) as async_client:
            rows, titles = await asyncio.gather(
                async_client.recommend([["3"], ["9"]], k=4), async_client.titles(["7"])
            )
            single = await async_client.predict("item_titles", {"items": ["7"]})
            with pytest.raises(ClientError, match="INVALID_ARGUMENT"):
                await async_client.recommend([["3"]], k=0)
        return rows, titles, single["known"].tolist()

    rows, titles, known = asyncio.run(run())
    assert rows == client.recommend([["3"], ["9"]], k=4)
    assert titles == ["Title 7"]
    assert known == [True]


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_server_that_is_not_there(scheme, unused_port):
    with (
        Client(f"{scheme}://127.0.0.1:{unused_port}", timeout_seconds=2.0) as client,
        pytest.raises(ClientError, match=r"UNAVAILABLE|DEADLINE_EXCEEDED"),
    ):
        client.titles(["1"])


def test_a_url_without_scheme_is_refused():
    with pytest.raises(ValueError, match=r"must start with http.*got '127\.0\.0\.1:8501'"):
        Client("127.0.0.1:8501")


def test_command_line(server, capsys):
    args = ["--url", server.url, "--history", "50, 181", "-k", "3", "--titles"]
    assert main(args) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["history  50  Title 50", "history  181  Title 181"]
    assert lines[2].split() == ["rank", "item", "score", "interest", "title"]
    with Client(server.url, timeout_seconds=LONG_SECONDS) as client:
        (expected,) = client.recommend([["50", "181"]], k=3)
    assert [line.split()[1] for line in lines[3:]] == [item.item_id for item in expected]
    assert all(line.endswith(f"Title {line.split()[1]}") for line in lines[3:])
    # People count interests from 1, as in the report; programs from 0.
    assert [line.split()[3] for line in lines[3:]] == [str(i.interest + 1) for i in expected]
    assert main([*args[:-1], "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["interest"] for row in rows] == [item.interest for item in expected]


def test_command_line_reports_errors(server, capsys):
    assert main(["--url", server.url, "--model", "nope"]) == 1
    assert "error: NOT_FOUND: Servable not found" in capsys.readouterr().err


def test_the_rest_client_does_not_wait_for_tensorflow():
    code = "import serving.client, sys; print('tensorflow' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=_ROOT
    )
    assert done.stdout.strip() == "False"
