"""Changes of the catalogue through a real server: visible at once, durable, the same everywhere."""

import asyncio
import dataclasses
import itertools
import threading

import grpc
import httpx
import pytest
from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

from contract.change_log import ChangeLogError, SqliteChangeLog
from contract.manifest import MANIFEST_PATH
from serving.client import AsyncClient, CatalogueChanged, Client, ClientError, Upsert
from serving.service_descriptors import register
from tests import serving_models
from tests.live_server import ITEMS as _ITEMS
from tests.live_server import NEW as _NEW
from tests.live_server import found as _found
from tests.live_server import position as _position
from tests.live_server import remove as _remove
from tests.live_server import serving
from tests.live_server import upsert as _upsert
from tests.running_server import LONG_SECONDS, wait_until

_MAX_ITEMS = 20


@pytest.fixture
def base(live_shop, tmp_path):
    serving_models.push(live_shop, tmp_path / "mind", 1)
    return tmp_path / "mind"


@pytest.fixture(scope="module")
def shared(live_shop, tmp_path_factory):
    root = tmp_path_factory.mktemp("shared")
    serving_models.push(live_shop, root / "mind", 1)
    # One beside it of which nothing can be read.
    broken = root / "mind" / "0" / MANIFEST_PATH
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    with _serving(root / "mind", root, live_catalogue_max_items=_MAX_ITEMS) as running:
        yield running


@pytest.fixture
def live(shared):
    """A server whose catalogue is as it was pushed, and is so again afterwards."""
    yield shared
    _remove(shared, "new", "bare")
    assert _upsert(shared, *[{"id": item, "in_stock": True} for item in ("2", "3")]).is_success


def _serving(base, tmp_path, **config):
    return serving(base, str(tmp_path / "log"), **config)


def test_a_change_is_in_the_next_answer(live):
    before, position = _found(live), _position(live)
    answer = _upsert(live, _NEW, {"id": "2", "in_stock": False})
    assert answer.json() == {
        "position": position + 2,
        "items": 2,
        "repeated": False,
        "without_vector": [],
        "items_without_vector": 0,
    }
    assert _found(live) == before - {"2"} | {"new"}
    assert _found(live, allow_categories=[["fresh"]]) == {"new"}
    _upsert(live, {"id": "2", "in_stock": True})
    assert _remove(live, "new").status_code == 200
    assert _found(live) == before
    status = live.http.get(_ITEMS).json()
    assert (status["live_items"], status["replaced_items"]) == (0, 0)
    assert status["position"] == position + 4
    assert status["features"] == {"point": "numeric", "category": "categorical"}


def test_the_same_over_grpc(live):
    before, position = _found(live), _position(live)
    assert _call(live, "Upsert", {"model": "mind", "items": [_NEW]})["position"] == position + 1
    assert _found(live) == before | {"new"}
    answer = _call(live, "Remove", {"model": "mind", "items": ["new", "3"]})
    assert answer["position"] == position + 3
    assert _found(live) == before - {"3"}
    assert _call(live, "Status", {"model": "mind"})["replaced_items"] == 1
    with pytest.raises(grpc.RpcError) as error:
        _call(live, "Upsert", {"model": "mind", "items": [{"id": ""}]})
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


def _changes_of_a_client(key):
    """Calls of a client, and what they give once ``status`` was as given."""
    new = Upsert("A new one", {"point": 1.0, "category": ("fresh",)})
    items = {"new": new, "2": Upsert(in_stock=False)}
    yield "upsert_items", (items, key), lambda at: CatalogueChanged(at + 2, 2, False, [], 0)
    yield "upsert_items", (items, key), lambda at: CatalogueChanged(at + 2, 2, True, [], 0)
    yield "titles", (["new"],), lambda at: ["A new one"]
    bare = {"bare": Upsert(title="Bare")}
    yield "upsert_items", (bare,), lambda at: CatalogueChanged(at + 3, 1, False, ["bare"], 1)
    yield "remove_items", (["new", "bare"],), lambda at: CatalogueChanged(at + 5, 2, False, [], 0)


@pytest.mark.parametrize("protocol", ["REST", "gRPC"])
def test_the_client_changes_the_catalogue(live, protocol):
    url = live.url if protocol == "REST" else f"grpc://{live.grpc_address}"
    with Client(url, timeout_seconds=LONG_SECONDS) as client:
        before = client.catalogue_status()
        for method, arguments, expected in _changes_of_a_client(protocol):
            assert getattr(client, method)(*arguments) == expected(before.position)
        assert client.catalogue_status() == dataclasses.replace(
            before, position=before.position + 5, live_items=0, replaced_items=1
        )
        with pytest.raises(ClientError, match="did you mean 'point'") as error:
            client.upsert_items({"new": Upsert(features={"points": 1.0})})
        assert error.value.code == "INVALID_ARGUMENT"


@pytest.mark.parametrize("protocol", ["REST", "gRPC"])
def test_the_asynchronous_client_changes_the_catalogue(live, protocol):
    url = live.url if protocol == "REST" else f"grpc://{live.grpc_address}"

    async def change():
        async with AsyncClient(url, timeout_seconds=LONG_SECONDS) as client:
            before = await client.catalogue_status()
            for method, arguments, expected in _changes_of_a_client(f"async {protocol}"):
                assert await getattr(client, method)(*arguments) == expected(before.position)
            return before, await client.catalogue_status()

    before, after = asyncio.run(change())
    assert (after.position, after.replaced_items) == (before.position + 5, 1)
    assert after.features == {"point": "numeric", "category": "categorical"}


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b'{"items": []}', "a list items that is not empty"),
        (b'{"items": ["x"]}', "must be a JSON object with 'id', got 'x'"),
        (b'{"items": [{"title": "x"}]}', "must be a string of 1 to 1000 characters, got None"),
        (b'{"items": [{"id": 7}]}', "must be a string of 1 to 1000 characters, got 7"),
        (b'{"items": [{"id": "x", "titel": "x"}]}', "did you mean 'title'?"),
        (b'{"items": [{"id": "x", "in_stock": 1}]}', "must be true or false, got 1"),
        (b'{"items": [{"id": "x", "features": {"points": 1}}]}', "did you mean 'point'?"),
        (b'{"items": [{"id": "x", "features": {"point": "1"}}]}', "must be a finite number"),
        (
            b'{"items": [{"id": "x", "features": {"category": [""]}}]}',
            "each of 1 to 1000 characters; got ['']",
        ),
        (
            b'{"items": [{"id": "x", "features": {"category": [%b]}}]}' % b",".join([b'"a"'] * 101),
            "a list of at most 100",
        ),
        (b'{"items": [{"id": "%b"}]}' % (b"x" * 1001), "of 1 to 1000 characters"),
        (b'{"items": [{"id": "x"}], "key": 7}', "key must be a string"),
    ],
)
def test_a_body_that_cannot_be_read_changes_nothing(live, body, problem):
    position = _position(live)
    answer = live.http.post(f"{_ITEMS}:upsert", content=body)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]
    assert _position(live) == position


def test_a_request_that_is_sent_again_is_not_done_again(live):
    assert _upsert(live, _NEW, key="a").json()["repeated"] is False
    _remove(live, "new", key="b")
    assert _upsert(live, _NEW, key="a").json()["repeated"] is True
    assert "new" not in _found(live)


def test_a_request_that_another_server_does_meanwhile_is_not_done_again(live, monkeypatch):
    _upsert(live, _NEW, key="race")
    _remove(live, "new")
    seen = SqliteChangeLog.seen
    answers = iter([set()])
    # At first as if the other server had not been as far.
    monkeypatch.setattr(SqliteChangeLog, "seen", lambda *a: next(answers, None) or seen(*a))
    assert _upsert(live, _NEW, key="race").json()["repeated"] is True
    assert "new" not in _found(live)


def test_that_the_log_is_followed_is_shown_without_a_change(live, monkeypatch):
    def followed():
        return live.metric("serving_live_followed_timestamp_seconds", model="mind")

    def fail(log):
        raise ChangeLogError("the disk is gone")

    wait_until(lambda: followed() > 0)
    with monkeypatch.context() as patch:
        patch.setattr(SqliteChangeLog, "last", fail)
        wait_until(lambda: followed() == 0)
    wait_until(lambda: followed() > 0)
    before = followed()
    wait_until(lambda: followed() > before)


def test_an_item_of_which_nothing_is_known_is_named(live):
    answer = _upsert(live, {"id": "bare", "title": "x"}).json()
    assert answer["without_vector"] == ["bare"]
    assert "bare" not in _found(live)


def test_more_items_than_allowed_are_refused(live):
    items = [{**_NEW, "id": f"new{number}"} for number in range(_MAX_ITEMS + 1)]
    refused = _upsert(live, *items)
    assert refused.status_code == 429
    assert "item refresh" in refused.json()["error"]
    assert "new1" not in _found(live)


@pytest.mark.slow
def test_changes_survive_a_restart_and_reach_a_second_server(base, tmp_path):
    with _serving(base, tmp_path) as first, _serving(base, tmp_path) as second:
        _upsert(first, _NEW)
        wait_until(lambda: "new" in _found(second))
        _remove(second, "4")
        wait_until(lambda: "4" not in _found(first))
        expected = _found(first)
    with _serving(base, tmp_path) as third:
        assert _found(third) == expected


@pytest.mark.slow
def test_no_answer_lacks_an_acknowledged_item_while_versions_are_swapped(base, live_shop, tmp_path):
    acknowledged, missing = ["1"], []
    with _serving(base, tmp_path) as server:
        stop = threading.Event()

        def write():
            with httpx.Client(base_url=server.url, timeout=600) as http:
                # The same items again and again: all of them together fit into an answer.
                for number in itertools.count():
                    if stop.is_set():
                        return
                    item = {**_NEW, "id": f"n{number % 300}"}
                    answer = http.post(f"{_ITEMS}:upsert", json={"items": [item]})
                    assert answer.status_code == 200
                    acknowledged.append(item["id"])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            wait_until(lambda: len(acknowledged) > 5)
            serving_models.push(live_shop, base, 2)
            while not server.metric("serving_model_version_available", model="mind", version="2"):
                expected = {*acknowledged} - {"1"}
                missing.append(expected - _found(server, k=1000))
        finally:
            stop.set()
            writer.join()
        missing.append({*acknowledged} - {"1"} - _found(server, k=1000))
    assert len(acknowledged) > 6
    assert not any(missing)


@pytest.mark.slow
def test_a_token_of_its_own(base, tmp_path):
    tokens, writers = tmp_path / "tokens", tmp_path / "writers"
    tokens.write_text("reader-token-0123456789\n")
    writers.write_text("writer-token-0123456789\n")
    with _serving(
        base,
        tmp_path,
        auth_token_file=str(tokens),
        live_catalogue_token_file=str(writers),
    ) as server:
        for token, path, body, status in (
            ("reader", f"{_ITEMS}:upsert", {"items": [_NEW]}, 401),
            ("writer", f"{_ITEMS}:upsert", {"items": [_NEW]}, 200),
            ("writer", "/v1/models/mind:predict", {}, 401),
        ):
            headers = {"Authorization": f"Bearer {token}-token-0123456789"}
            assert server.http.post(path, json=body, headers=headers).status_code == status
        assert server.http.get(_ITEMS).status_code == 401
        with pytest.raises(grpc.RpcError) as error:
            _call(server, "Remove", {"model": "mind", "items": ["1"]}, "reader-token-0123456789")
        assert error.value.code() == grpc.StatusCode.UNAUTHENTICATED
        _call(server, "Remove", {"model": "mind", "items": ["1"]}, "writer-token-0123456789")


def test_without_a_log_there_is_no_such_path(server):
    answer = _upsert(server, _NEW)
    assert (answer.status_code, answer.json()["error"][:17]) == (400, "Malformed request")


def test_the_service_can_be_called_from_its_reflection(live):
    """As tools do that know nothing of it."""
    with grpc.insecure_channel(live.grpc_address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "mind.serving.Catalogue" in database.get_services()
        pool = DescriptorPool(database)
        method = pool.FindServiceByName("mind.serving.Catalogue").FindMethodByName("Status")
        assert method.input_type.full_name == "google.protobuf.Struct"
    assert "mind.serving.Catalogue" not in register()


def _call(server, method, body, token=""):
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = channel.unary_unary(
            f"/mind.serving.Catalogue/{method}",
            request_serializer=struct_pb2.Struct.SerializeToString,
            response_deserializer=struct_pb2.Struct.FromString,
        )
        request = json_format.ParseDict(body, struct_pb2.Struct())
        metadata = [("authorization", f"Bearer {token}")] if token else []
        return json_format.MessageToDict(call(request, metadata=metadata))
