"""Requests of the table with a few bytes changed: no fault of the server, nothing that grows."""

import io
import json
import logging
import os
import random
import resource
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import predict_pb2

from serving import logs
from tests.conformance.cases import Grpc, Rest
from tests.conformance.table import CASES
from tests.running_server import LONG_SECONDS, RunningServer

pytestmark = pytest.mark.slow

_ROUNDS = 4000
_MAX_SEED_BYTES = 3000  # larger ones are changed where nobody looks
_JSON_BYTES = b'[]{},:"\\ \n0123456789.eE+-aNIntrufls\xff\0x'
# What a client can be told; the rest would be faults of the server.
_REST_CODES = {200, 400, 404, 413, 501}
_GRPC_CODES = {"INVALID_ARGUMENT", "NOT_FOUND", "FAILED_PRECONDITION", "UNIMPLEMENTED"}


def _mutated(draw: random.Random, seed: bytes, letters: bytes) -> bytes:
    """``seed`` with up to four bytes changed, removed, added or repeated."""
    mutated = bytearray(seed)
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(len(mutated) + 1)
        letter = draw.choice(letters)
        change: Callable[[], None] = draw.choice(
            [
                lambda at=place, byte=letter: mutated.__setitem__(slice(at, at + 1), [byte]),
                lambda at=place: mutated.__delitem__(slice(at, at + draw.randint(1, 4))),
                lambda at=place, byte=letter: mutated.insert(at, byte),
                lambda at=place: mutated.__setitem__(slice(at, at), mutated[at : at + 20]),
            ]
        )
        change()
    return bytes(mutated)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_mutated_requests_are_the_clients_fault(server: RunningServer) -> None:
    draw = random.Random(1)
    bodies = [
        (case.request.path, case.request.content(), dict(case.request.headers))
        for case in CASES.values()
        if isinstance(case.request, Rest)
        and case.request.method == "POST"
        and not case.request.to_cors
        and len(case.request.content()) <= _MAX_SEED_BYTES
    ]
    messages = [
        text_format.Parse(case.request.request, predict_pb2.PredictRequest()).SerializeToString()
        for case in CASES.values()
        if isinstance(case.request, Grpc) and case.request.method == "Predict"
    ]
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(logs.JsonFormatter())
    logging.getLogger().addHandler(handler)
    codes: Counter[int | str] = Counter()
    resident, descriptors = [], []
    try:
        with grpc.insecure_channel(server.grpc_address) as channel:
            predict = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
            for number in range(_ROUNDS):
                path, body, headers = draw.choice(bodies)
                body = _mutated(draw, body, _JSON_BYTES)
                response = server.http.post(path, content=body, headers=headers)
                codes[response.status_code] += 1
                assert response.status_code in _REST_CODES, (path, body, response.text)
                response.json()
                message = _mutated(draw, draw.choice(messages), bytes(range(256)))
                try:
                    predict(message, timeout=LONG_SECONDS)
                    codes["OK"] += 1
                except grpc.RpcError as e:
                    codes[e.code().name] += 1
                    assert e.code().name in _GRPC_CODES, (message, e.details())  # noqa: PT017
                if number in (_ROUNDS // 2, _ROUNDS - 1):
                    resident.append(_resident_bytes())
                    descriptors.append(_descriptors())
    finally:
        logging.getLogger().removeHandler(handler)
    # What is changed still is a request now and then.
    assert codes["OK"] > _ROUNDS / 100
    assert codes[200] > _ROUNDS / 100
    # Their reasons are in the log, as far as it is not held back, and nothing unexpected.
    assert "Traceback" not in written.getvalue()
    assert {json.loads(line)["event"] for line in written.getvalue().splitlines()} == {"request"}
    assert resident[1] <= 1.1 * resident[0]
    assert descriptors[1] <= descriptors[0] + 2
