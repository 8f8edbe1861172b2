"""Histories that the server keeps: the same answers as with the history, and who may write them."""

import asyncio
import contextlib
import json
import logging
import random
import re
import threading
import time

import grpc
import httpx
import numpy as np
import psutil
import pytest
import tensorflow as tf
from google.protobuf import json_format, struct_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from serving.client import AsyncClient, Client, ClientError, Event, EventsAdded, Profile
from serving.client.__main__ import main as ask_by_command
from serving.server import main as serve
from tests import serving_models
from tests.category_bundle import NUM_ITEMS
from tests.redis_server import RedisServer
from tests.running_server import LONG_SECONDS, RunningServer, wait_until
from tests.server_process import ServerProcess

_DAY = 86_400
_DAYS, _MAX_EVENTS = 30, 12
_EVENTS, _ERASE = "/v1/models/shop/events", "/v1/models/shop/users:erase"


@pytest.fixture(scope="module")
def served(shop, tmp_path_factory):
    """``shop``, whose answers depend on the profile, and ``timed``, whose do on the times."""
    root = tmp_path_factory.mktemp("histories")
    serving_models.push(shop, root / "shop", 1)
    serving_models.save_timed(root / "saved")
    serving_models.push(root / "saved", root / "timed", 1)
    config = root / "models.config"
    models = "".join(
        f'config {{ name: "{name}" base_path: "{root}/{name}" model_platform: "tensorflow" }}'
        for name in ("shop", "timed")
    )
    config.write_text(f"model_config_list {{ {models} }}")
    with RunningServer(
        model_config_file=str(config),
        history_store=str(root / "store"),
        history_days=float(_DAYS),
        history_max_events=_MAX_EVENTS,
        history_sync="normal",
        file_system_poll_wait_seconds=0.05,
        log_requests="all",
        max_request_bytes=2**20,
    ) as running:
        running.root = root
        yield running


def _event(user, item="1", seconds=None):
    seconds = int(time.time()) - 60 if seconds is None else seconds
    return {"user_id": user, "item_id": item, "time": seconds}


def _post(served, path=_EVENTS, **body):
    return served.http.post(path, json=body)


def _rest(served, model, inputs, signature="serving_default"):
    """Outputs of a request in column format."""
    body = {"signature_name": signature, "inputs": inputs}
    answer = served.http.post(f"/v1/models/{model}:predict", json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"]


def _rest_rows(served, model, inputs):
    """Predictions of a request in row format: every input has one value for each row."""
    rows = [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]
    answer = served.http.post(f"/v1/models/{model}:predict", json={"instances": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def _grpc(served, model, inputs):
    """Outputs over gRPC as lists."""
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    for name, value in inputs.items():
        kind = {"history_time": tf.int64, "k": tf.int32}.get(name)
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value, dtype=kind))
    with grpc.insecure_channel(served.grpc_address) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        response = stub.Predict(request, timeout=LONG_SECONDS)
    return {name: tf.make_ndarray(value).tolist() for name, value in response.outputs.items()}


def _call(served, method, message):
    """Calls a method of the service as somebody who has no generated code."""
    with grpc.insecure_channel(served.grpc_address) as channel:
        call = channel.unary_unary(
            f"/mind.serving.Histories/{method}",
            request_serializer=struct_pb2.Struct.SerializeToString,
            response_deserializer=struct_pb2.Struct.FromString,
        )
        request = json_format.ParseDict(message, struct_pb2.Struct())
        return json_format.MessageToDict(call(request, timeout=LONG_SECONDS))


def _people(rng, name, number):
    """Events of people by id: known and unknown items, expired ones, more than are kept."""
    now = int(time.time())
    people = {}
    for index in range(number):
        times = rng.sample(range(now - 40 * _DAY, now), rng.choice([1, 2, 5, 11, 12, 13, 30]))
        items = [str(rng.randint(1, NUM_ITEMS + 20)) for _ in times]
        people[f"{name}-{index}"] = list(zip(times, items, strict=True))
    return people


def _report(served, model, rng, people):
    """Reports all events in any order, some of them twice, over both transports."""
    events = [
        _event(u, item, seconds) for u, history in people.items() for seconds, item in history
    ]
    events += rng.sample(events, len(events) // 5)
    rng.shuffle(events)
    for start in range(0, len(events), 40):
        some = events[start : start + 40]
        if rng.random() < 0.5:
            answer = served.http.post(f"/v1/models/{model}/events", json={"events": some})
            assert answer.status_code == 200, answer.text
        else:
            _call(served, "AddEvents", {"model": model, "events": some})


def _explicit(people, users):
    """Histories and times as a caller would send them that had the events."""
    rows = []
    for user in users:
        kept = sorted(e for e in people.get(user, []) if e[0] >= time.time() - _DAYS * _DAY)
        rows.append(kept[-_MAX_EVENTS:])
    width = max(map(len, rows)) or 1
    rows = [row + [(0, "")] * (width - len(row)) for row in rows]
    return [[i for _, i in row] for row in rows], [[t for t, _ in row] for row in rows]


def test_answers_are_those_of_the_explicit_history(served):
    rng = random.Random(1)
    people = _people(rng, "same", 25)
    tastes = {user: rng.choice(["inverted", ""]) for user in people}
    profiles = [{"user_id": u, "features": {"taste": t}} for u, t in tastes.items()]
    assert _post(served, profiles=profiles).json()["profiles"] == len(people)
    _report(served, "shop", rng, people)
    seen = set()
    for _ in range(25):
        users = rng.choices([*people, "nobody", ""], k=rng.choice([1, 2, 7]))
        histories, _ = _explicit(people, users)
        given = [tastes.get(user, "") for user in users]
        options = {"k": [rng.choice([3, 9])] * len(users)}
        if rng.random() < 0.5:
            options["exclude"] = [[str(rng.randint(1, NUM_ITEMS))]] * len(users)
        by_id = {"user_id": users, **options}
        if rng.random() < 0.3:  # what the request says comes before what is kept
            given = ["inverted"] * len(users)
            by_id["user_taste"] = given
        explicit = {"history": histories, "user_taste": given, **options}
        expected = _rest(served, "shop", explicit)
        assert _rest(served, "shop", by_id) == expected
        assert _rest_rows(served, "shop", by_id) == _rest_rows(served, "shop", explicit)
        assert _grpc(served, "shop", by_id) == _grpc(served, "shop", explicit)
        seen.update(map(tuple, expected["item_ids"]))
    assert len(seen) > 20  # people are not all answered alike


def test_times_are_looked_up_as_well(served):
    rng = random.Random(2)
    people = _people(rng, "timed", 12)
    _report(served, "timed", rng, people)
    for size in (1, 5, 12):
        users = rng.sample([*people, "nobody"], size)
        histories, times = _explicit(people, users)
        explicit = {"history": histories, "history_time": times, "k": [3] * size}
        by_id = {"user_id": users, "k": [3] * size}
        expected = _rest(served, "timed", explicit)
        assert expected["seconds"] == [sum(row) for row in times]
        assert _rest(served, "timed", by_id) == expected
        assert _rest_rows(served, "timed", by_id) == _rest_rows(served, "timed", explicit)
        assert _grpc(served, "timed", by_id) == _grpc(served, "timed", explicit)


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_clients_ask_by_id(served, protocol, capsys):
    users = [f"client-{protocol}-a", f"client-{protocol}-b"]
    events = [_event(users[0], "3"), _event(users[0], "8"), _event(users[1], "5")]
    profiles = [{"user_id": users[0], "features": {"taste": "inverted"}}]
    assert _post(served, events=events, profiles=profiles).status_code == 200
    url = served.url if protocol == "rest" else f"grpc://{served.grpc_address}"
    people = [{"taste": "inverted"}, {"taste": ""}]
    with Client(url, "shop", timeout_seconds=LONG_SECONDS) as client:
        expected = client.recommend([["3", "8"], ["5"]], 6, profiles=people)
        assert client.recommend_by_id(users, 6) == expected
        others = [{"taste": ""}, {"taste": "inverted"}]
        of_others = client.recommend([["3", "8"], ["5"]], 6, profiles=others)
        assert client.recommend_by_id(users, 6, profiles=others) == of_others != expected

    async def ask():
        async with AsyncClient(url, "shop", timeout_seconds=LONG_SECONDS) as client:
            return await client.recommend_by_id(users, 6)

    assert asyncio.run(ask()) == expected
    arguments = [*("--url", url), *("--model", "shop"), "-k=6", "--json"]
    assert ask_by_command([*arguments, "--user_id", users[0]]) == 0
    found = [item["item_id"] for item in json.loads(capsys.readouterr().out)]
    assert found == [item.item_id for item in expected[0]]
    with pytest.raises(SystemExit):
        ask_by_command([*arguments, "--user_id", users[0], "--history", "3"])


@pytest.mark.parametrize("protocol", ["rest", "grpc"])
def test_the_clients_store_and_erase(served, protocol):
    user, other = f"own-{protocol}", f"own-async-{protocol}"
    now = int(time.time())
    events = [Event(now - 60, "8"), Event(now - 120, "3")]
    inverted = {user: Profile(now, {"taste": "inverted"})}
    url = served.url if protocol == "rest" else f"grpc://{served.grpc_address}"

    async def in_a_coroutine(expected):
        async with AsyncClient(url, "shop", timeout_seconds=LONG_SECONDS) as client:
            assert await client.add_events({other: events}) == EventsAdded(2, repeated=False)
            assert await client.recommend_by_id([other], 6) == expected
            return await client.erase_users([other, "nobody"])

    with Client(url, "shop", timeout_seconds=LONG_SECONDS) as client:
        plain, of_profile = (
            client.recommend([["3", "8"]], 6, profiles=[{"taste": taste}])
            for taste in ("", "inverted")
        )
        unknown = client.recommend_by_id([user], 6)
        assert len({tuple(map(tuple, rows)) for rows in (plain, of_profile, unknown)}) == 3
        key = f"hour-{protocol}"
        assert client.add_events({user: events[:1]}, key=key) == EventsAdded(1, repeated=False)
        assert client.add_events({user: events}, key=key) == EventsAdded(0, repeated=True)
        assert client.add_events({user: events}) == EventsAdded(1, repeated=False)
        assert client.recommend_by_id([user], 6) == plain
        assert client.add_events({}, inverted) == EventsAdded(0, repeated=False)
        assert client.recommend_by_id([user], 6) == of_profile
        assert client.erase_users([user, "nobody"]) == 1
        assert client.recommend_by_id([user], 6) == unknown
        assert asyncio.run(in_a_coroutine(plain)) == 1
        with pytest.raises(ClientError, match="must be a string of 1 to 1000 characters"):
            client.erase_users([""])


def test_every_signature_with_a_history_takes_ids(served):
    assert _post(served, events=[_event("sig", "3"), _event("sig", "8")]).status_code == 200
    explicit = {"history": [["3", "8"]]}
    for signature, taste in (("recommend", {}), ("user_interests", {"user_taste": [""]})):
        by_id = _rest(served, "shop", {"user_id": ["sig"]}, signature)
        assert by_id == _rest(served, "shop", {**explicit, **taste}, signature)
    titles = served.http.post(
        "/v1/models/shop:predict",
        json={"signature_name": "item_titles", "inputs": {"user_id": ["sig"]}},
    )
    assert titles.status_code == 400
    assert "does not have named input: user_id" in titles.text


def test_somebody_unknown_gets_what_an_empty_history_gets(served):
    by_id = _rest(served, "shop", {"user_id": ["never seen"], "k": 7})
    assert by_id == _rest(served, "shop", {"history": [[""]], "k": 7})
    assert by_id["interest_index"] == [[-1] * 7]


def test_an_event_is_in_the_next_answer_and_an_erased_person_is_nobody(served):
    nobody = _rest(served, "shop", {"user_id": ["erased"]})
    answer = _post(served, events=[_event("erased", "5"), _event("erased", "6")])
    assert answer.json() == {"events": 2, "new_events": 2, "repeated": False}
    assert _rest(served, "shop", {"user_id": ["erased"]}) == _rest(
        served, "shop", {"history": [["5", "6"]]}
    )
    answer = _post(served, _ERASE, user_ids=["erased", "never seen"])
    assert answer.json() == {"user_ids": 2, "erased": 1}
    assert _rest(served, "shop", {"user_id": ["erased"]}) == nobody
    again = _call(served, "AddEvents", {"model": "shop", "events": [_event("erased", "5")]})
    assert again == {"events": 1.0, "new_events": 0.0, "repeated": False}
    assert _call(served, "EraseUsers", {"model": "shop", "user_ids": ["erased"]}) == {
        "user_ids": 1.0,
        "erased": 0.0,
    }
    assert _rest(served, "shop", {"user_id": ["erased"]}) == nobody


def test_a_request_that_is_sent_again_changes_nothing(served):
    event = _event("again")
    first = _post(served, events=[event, event], key="k-1").json()
    assert first == {"events": 2, "new_events": 1, "repeated": False}
    other = _post(served, events=[_event("again", "2")], key="k-1").json()
    assert other == {"events": 1, "new_events": 0, "repeated": True}
    # Without a key, too.
    assert _post(served, events=[event]).json()["new_events"] == 0


@pytest.mark.parametrize(
    ("inputs", "problem"),
    [
        (
            {"user_id": ["u"], "history": [["1"]]},
            "has user_id and history; send either user_id, so",
        ),
        (
            {"user_id": [["u"]]},
            "must be strings of shape [rows], got object of shape [1, 1",
        ),
        ({"user_id": ["u"] * 1025}, "has 1025 rows; the limit is 1024"),
        ({"history": [["1"]], "user": ["u"]}, "does not have named input: user"),
    ],
)
def test_requests_that_are_refused(served, inputs, problem):
    answer = served.http.post("/v1/models/shop:predict", json={"inputs": inputs})
    assert answer.status_code == 400
    assert problem in answer.json()["error"]
    if "user" in inputs:
        return
    with pytest.raises(grpc.RpcError) as error:
        _grpc(served, "shop", inputs)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert problem in error.value.details()


def test_times_beside_an_id_are_refused(served):
    inputs = {"user_id": ["u"], "history_time": [[5]]}
    answer = served.http.post("/v1/models/timed:predict", json={"inputs": inputs})
    assert answer.status_code == 400
    assert "has user_id and history_time; send" in answer.json()["error"]


def test_rows_of_which_only_some_have_an_id_are_refused(served):
    rows = [{"user_id": "u"}, {"history": ["1"]}]
    answer = served.http.post("/v1/models/shop:predict", json={"instances": rows})
    assert answer.status_code == 400
    assert "Row 1 of 'instances' has no user_id, but other rows have" in answer.json()["error"]


def test_without_a_store_the_refusal_names_the_flag(server):
    for body in ({"inputs": {"user_id": ["u"]}}, {"instances": [{"user_id": "u"}]}):
        answer = server.http.post("/v1/models/shop:predict", json=body)
        assert answer.status_code == 400
        assert "start the server with --history_store" in answer.json()["error"]
    with pytest.raises(grpc.RpcError) as error:
        _grpc(server, "shop", {"user_id": ["u"]})
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "start the server with --history_store" in error.value.details()
    # As any other path that there is not.
    assert _post(server, events=[_event("u")]).status_code == 400
    assert "serving_history_store" not in server.http.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        (_EVENTS, b"{", "not JSON"),
        (_EVENTS, b"{}", "a list events that is not empty"),
        (_EVENTS, b'{"event": []}', "no field 'event' (did you mean 'events'?)"),
        (_EVENTS, b'{"events": [{"user": "u"}]}', "no field 'user' (did you mean 'user_id'?)"),
        (_EVENTS, b'{"events": [' + b"{}," * 10_000 + b"{}]}", "more than 10000, which is the"),
        (_EVENTS, b'{"events": [1], "key": 7}', "must be a JSON object with user_id"),
        (
            _EVENTS,
            b'{"profiles": [{"user_id": "u", "features": {"tast": "x"}}]}',
            "no profile feature 'tast' (did you mean 'taste'?); it has taste",
        ),
        (_ERASE, b'{"user_ids": [7]}', "A user_id must be a string of 1 to 1000 characters, got 7"),
        (_ERASE, b'{"users": ["u"]}', "no field 'users' (did you mean 'user_ids'?)"),
    ],
)
def test_bodies_that_are_refused(served, path, body, problem):
    answer = served.http.post(path, content=body)
    assert answer.status_code == 400
    assert problem in answer.json()["error"]


def test_one_bad_event_keeps_the_others_out(served):
    events = [_event("whole"), {**_event("whole", "2"), "time": "now"}]
    assert _post(served, events=events).status_code == 400
    assert _post(served, events=[_event("whole")], key=7).status_code == 400
    by_id = _rest(served, "shop", {"user_id": ["whole"]})
    assert by_id == _rest(served, "shop", {"user_id": ["never seen"]})


def test_unknown_models_and_bodies_that_are_too_large(served):
    assert _post(served, "/v1/models/nope/events", events=[_event("u")]).status_code == 404
    assert _post(served, "/v1/models/nope/users:erase", user_ids=["u"]).status_code == 404
    answer = _post(served, events=[_event("u", "x" * 900)] * 1200)
    assert answer.status_code == 429
    with pytest.raises(grpc.RpcError) as error:
        _call(served, "AddEvents", {"events": [_event("u")]})
    assert "field 'model' must name a model" in error.value.details()


def test_the_service_is_in_the_reflection(served, server):
    with grpc.insecure_channel(served.grpc_address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "mind.serving.Histories" in database.get_services()
        assert "mind.serving.Catalogue" not in database.get_services()
        service = DescriptorPool(database).FindServiceByName("mind.serving.Histories")
    assert [method.name for method in service.methods] == ["AddEvents", "EraseUsers"]
    with grpc.insecure_channel(server.grpc_address) as channel:
        names = ProtoReflectionDescriptorDatabase(channel).get_services()
    assert "mind.serving.Histories" not in names


def test_metrics_count_and_nothing_names_a_person(served, caplog):
    metric = "serving_history_store_{}".format

    def value(name):
        return served.metric(metric(name), model="shop")

    names = (
        "events_total",
        "lookups_total",
        "misses_total",
        "lookup_seconds_count",
        "erased_total",
    )
    before = [value(name) for name in names]
    with caplog.at_level(logging.DEBUG):
        _post(served, events=[_event("secret-person", "secret-item"), _event("secret-person", "1")])
        _rest(served, "shop", {"user_id": ["secret-person", "secret-nobody"]})
        _post(served, events=[{**_event("secret-person"), "time": "secret-time"}])
        _post(served, events=[{"secret-field": 1}])
        _post(served, **{"secret-field": 1})
        _post(served, _ERASE, user_ids=["secret-person", ["secret-other"]])
        _post(served, _ERASE, user_ids=["secret-person"])
        inputs = {"user_id": ["secret-person"], "history": [["secret-item"]]}
        served.http.post("/v1/models/shop:predict", json={"inputs": inputs})
    assert [value(name) - old for name, old in zip(names, before, strict=True)] == [2, 2, 1, 1, 1]
    page = served.http.get("/metrics").text
    assert metric("lookup_seconds_bucket") in page
    lines = [
        json.dumps({**vars(record), "text": record.getMessage()}, default=str)
        for record in caplog.records
    ]
    assert len(lines) >= 8
    assert [line for line in [*lines, page] if "secret" in line] == []


def test_a_new_version_answers_by_id_at_once(served):
    assert _post(served, "/v1/models/timed/events", events=[_event("swap")]).status_code == 200
    before = _rest(served, "timed", {"user_id": ["swap"]})
    assert before["seconds"][0] > 0
    serving_models.push(served.root / "saved", served.root / "timed", 2)
    answers = []

    def is_swapped():
        answers.append(_rest(served, "timed", {"user_id": ["swap"]}))
        status = served.http.get("/v1/models/timed").json()["model_version_status"]
        return [s["state"] for s in status if s["version"] == "2"] == ["AVAILABLE"]

    wait_until(is_swapped)
    answers.append(_rest(served, "timed", {"user_id": ["swap"]}))
    assert all(answer == before for answer in answers)


def test_a_store_that_cannot_be_used_is_unavailable(recommender, tmp_path):
    serving_models.push(recommender, tmp_path / "shop", 1)
    (tmp_path / "file").write_text("")
    with RunningServer(
        model_base_path=str(tmp_path / "shop"),
        model_name="shop",
        history_store=str(tmp_path / "file"),
    ) as server:
        by_id = {"inputs": {"user_id": ["u"]}}
        wait_until(lambda: _failures(server) == 1)  # to remove expired events, at the start
        for answer in (
            _post(server, events=[_event("u")]),
            _post(server, _ERASE, user_ids=["u"]),
            server.http.post("/v1/models/shop:predict", json=by_id),
        ):
            assert answer.status_code == 503
            assert answer.headers["Retry-After"] == "1"
            assert "cannot be used (File exists)" in answer.json()["error"]
        assert _failures(server) == 4
        assert len(_rest(server, "shop", {"history": [["1"]], "k": 2})["item_ids"][0]) == 2


def _failures(server):
    metrics = server.http.get("/metrics").text
    return float(re.search(r"^serving_history_store_failures_total (\S+)", metrics, re.M)[1])


def test_writers_have_tokens_of_their_own(recommender, tmp_path):
    serving_models.push(recommender, tmp_path / "shop", 1)
    tokens = {name: f"{name}-0123456789" for name in ("reader", "writer")}
    for name, token in tokens.items():
        (tmp_path / name).write_text(token)
    with RunningServer(
        model_base_path=str(tmp_path / "shop"),
        model_name="shop",
        history_store=str(tmp_path / "store"),
        auth_token_file=str(tmp_path / "reader"),
        history_token_file=str(tmp_path / "writer"),
    ) as server:
        bodies = {
            _EVENTS: ("writer", {"events": [_event("u")]}),
            _ERASE: ("writer", {"user_ids": ["u"]}),
            "/v1/models/shop:predict": ("reader", {"inputs": {"user_id": ["u"]}}),
        }
        for path, (allowed, body) in bodies.items():
            for name, token in {**tokens, "": "another-0123456789"}.items():
                headers = {"Authorization": f"Bearer {token}"}
                answer = server.http.post(path, json=body, headers=headers)
                assert answer.status_code == (200 if name == allowed else 401), (path, name)
        with grpc.insecure_channel(server.grpc_address) as channel:
            call = channel.unary_unary("/mind.serving.Histories/AddEvents")
            message = json_format.ParseDict(
                {"model": "shop", "events": [_event("u", "2")]}, struct_pb2.Struct()
            ).SerializeToString()

            def status(name):
                metadata = [("authorization", f"Bearer {tokens[name]}")]
                try:
                    call(message, metadata=metadata, timeout=LONG_SECONDS)
                except grpc.RpcError as error:
                    return error.code().name
                return "OK"

            assert (status("reader"), status("writer")) == ("UNAUTHENTICATED", "OK")


def test_beyond_the_loopback_tokens_are_wanted(capsys):
    flags = ["--model_base_path", "x", "--history_store", "y", "--host", "0.0.0.0"]
    with pytest.raises(SystemExit) as exit:
        serve([*flags, "--history_token_file", "z"])
    assert exit.value.code == 2
    assert "needs --auth_token_file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_same_with_a_trained_model_that_reads_times(pushed_with_times, tmp_path):
    rng = random.Random(4)
    with RunningServer(
        model_base_path=str(pushed_with_times),
        model_name="mind",
        history_store=str(tmp_path / "store"),
        history_days=float(_DAYS),
        history_max_events=_MAX_EVENTS,
    ) as server:
        people = {
            user: [(seconds, f"i{int(item) % 60:02}") for seconds, item in history]
            for user, history in _people(rng, "real", 20).items()
        }
        _report(server, "mind", rng, people)
        for _ in range(20):
            users = rng.choices([*people, "nobody"], k=rng.choice([1, 3, 8]))
            histories, times = _explicit(people, users)
            explicit = {"history": histories, "history_time": times, "k": [9] * len(users)}
            by_id = {"user_id": users, "k": [9] * len(users)}
            assert _rest(server, "mind", by_id) == _rest(server, "mind", explicit)
            assert _grpc(server, "mind", by_id) == _grpc(server, "mind", explicit)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_no_acknowledged_event_is_lost_when_the_server_is_killed(recommender, tmp_path, workers):
    serving_models.push(recommender, tmp_path / "shop", 1)
    flags = ["--model_base_path", str(tmp_path / "shop"), "--model_name", "shop"]
    flags += ["--history_store", str(tmp_path / "store"), "--workers", str(workers)]
    acknowledged = []

    def write(http, number):
        for step in range(1_000_000):
            events = [_event(f"{number}-{step}", "7")]
            try:
                answer = http.post(_EVENTS, json={"events": events})
            except httpx.TransportError:
                return
            if answer.status_code == 200:
                acknowledged.append(f"{number}-{step}")

    for round_ in range(2):
        with ServerProcess(tmp_path / "log", *flags) as server:
            wait_until(lambda http=server.http: http.get("/ready").status_code == 200)
            target = len(acknowledged) + 300
            with httpx.Client(base_url=server.http.base_url, timeout=LONG_SECONDS) as other:
                threads = [
                    threading.Thread(target=write, args=[http, f"{round_}-{n}"])
                    for n, http in enumerate((server.http, other))
                ]
                for thread in threads:
                    thread.start()
                wait_until(lambda target=target: len(acknowledged) > target)
                for process in psutil.Process(server.process.pid).children(recursive=True):
                    process.kill()
                server.kill()
                for thread in threads:
                    thread.join()
    with ServerProcess(tmp_path / "log", *flags) as server:
        wait_until(lambda: server.http.get("/ready").status_code == 200)
        expected = _rest(server, "shop", {"history": [["7"]], "k": 3})["item_ids"][0]
        for start in range(0, len(acknowledged), 500):
            users = acknowledged[start : start + 500]
            found = _rest(server, "shop", {"user_id": users, "k": 3})
            assert found["item_ids"] == [expected] * len(users)
            assert set(np.ravel(found["num_known"])) == {1}


@pytest.mark.slow
def test_servers_of_several_machines_share_a_redis_server(recommender, tmp_path):
    serving_models.push(recommender, tmp_path / "shop", 1)
    with RedisServer(tmp_path / "redis") as redis, contextlib.ExitStack() as stack:
        flags = {"model_base_path": str(tmp_path / "shop"), "model_name": "shop"}
        flags |= {"history_store": redis.location, "history_max_events": _MAX_EVENTS}
        one, other = (
            stack.enter_context(RunningServer(**flags, history_days=float(_DAYS))) for _ in range(2)
        )
        rng = random.Random(6)
        people = _people(rng, "shared", 10)
        _report(one, "shop", rng, people)
        users = [*people, "nobody"]
        histories, _ = _explicit(people, users)
        explicit = _rest(one, "shop", {"history": histories, "k": 5})
        for server in (one, other):
            assert _rest(server, "shop", {"user_id": users, "k": 5}) == explicit
            assert _grpc(server, "shop", {"user_id": users, "k": 5}) == _grpc(
                server, "shop", {"history": histories, "k": 5}
            )
        answer = _post(other, _ERASE, user_ids=users)
        assert answer.json() == {"user_ids": 11, "erased": 10}
        nobody = _rest(one, "shop", {"history": [[""]] * len(users), "k": 5})
        assert _rest(one, "shop", {"user_id": users, "k": 5}) == nobody
        redis.kill()
        by_id = {"inputs": {"user_id": ["u"]}}
        assert one.http.post("/v1/models/shop:predict", json=by_id).status_code == 503
        assert _post(one, events=[_event("u")]).status_code == 503
        redis.start()
        assert _post(one, events=[_event("u")]).status_code == 200
