"""From requests over both protocols to samples, and from samples to two versions."""

import json
import re

import pytest

from contract.manifest import CONFIG, EXAMPLES, MANIFEST_PATH, to_json
from serving import shadow
from serving.client import Client
from serving.transports import ClientError
from tests import serving_models
from tests.running_server import LONG_SECONDS, RunningServer
from tests.synthetic_examples import sequence_example, write_examples

_CALLER = "person-4711@example.com"
_KNOWN = ["1", "2", "3"]
_HISTORIES = [_KNOWN, _KNOWN, ["nobody knows it"]]
_PROFILES = [{"taste": "inverted"}, {}, {}]
_K = 4


@pytest.fixture(scope="module")
def versions(shop, recommender, tmp_path_factory):
    """The same vectors twice; the first version reads no taste, the second names examples."""
    base = tmp_path_factory.mktemp("mind")
    without_taste = serving_models.push(recommender, base / "without_taste", 1)
    with_taste = serving_models.push(shop, base / "with_taste", 2)
    people = [
        sequence_example(f"u{n}", ["1", "2", "3", "4", "5"], profile={"user_taste": "inverted"})
        for n in range(4)
    ]
    write_examples(base / "Split-eval" / "data.gz", people)
    facts = {EXAMPLES: str(base / "Split-eval"), CONFIG: {"model": {"history_length": 3}}}
    (with_taste / MANIFEST_PATH).write_text(to_json(facts, {}))
    return without_taste, with_taste


@pytest.fixture(scope="module")
def samples(versions, tmp_path_factory):
    """What a server wrote of a request with three rows over each protocol, and the answers."""
    directory = tmp_path_factory.mktemp("samples") / "new"
    answers = []
    with RunningServer(
        model_base_path=str(versions[1].parent),
        request_log_sample=1.0,
        request_log_dir=str(directory),
    ) as server:
        for url in (server.url, f"grpc://{server.grpc_address}"):
            with Client(url, timeout_seconds=LONG_SECONDS, caller_key=_CALLER) as client:
                found = client.recommend(_HISTORIES, _K, profiles=_PROFILES)
                answers.append([{item.item_id for item in row} for row in found])
                with pytest.raises(ClientError, match="k must be"):
                    client.recommend(_HISTORIES, 0)
                client.titles(["1"])
    counted = server.metric("serving_request_samples_total", model="mind", outcome="written")
    assert counted == 2 * len(_HISTORIES)
    return directory, answers


def test_each_row_is_a_line_and_both_protocols_write_the_same(samples):
    directory, _ = samples
    (file,) = directory.glob("*.jsonl")
    entries = [json.loads(line) for line in file.read_text().splitlines()]
    common = {"k": _K, "exclude_history": True}
    assert [entry["inputs"] for entry in entries] == 2 * [
        {"history": _KNOWN, "user_taste": "inverted", **common},
        {"history": _KNOWN, **common},
        {"history": _HISTORIES[2], **common},
    ]
    assert {(entry["model"], entry["version"]) for entry in entries} == {("mind", 2)}
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", e["time"]) for e in entries)
    assert all(re.fullmatch(r"[0-9a-f]{64}", entry["caller"]) for entry in entries)


def test_no_byte_tells_the_caller(samples):
    directory, _ = samples
    files = list(directory.iterdir())
    assert len(files) == 3  # the key of the hashes, its lock, and the sample
    for file in files:
        for part in (_CALLER, "person-4711", "example.com"):
            assert part.encode() not in file.read_bytes()


def test_a_replay_against_two_versions(samples, versions, capsys, tmp_path):
    directory, (answers, _) = samples
    # Without the taste the two are one model, so that the one which does not read it answers
    # the first row as the server answered the second.
    inverted = len(answers[0] & answers[1]) / _K
    assert inverted < 1.0
    figures = tmp_path / "figures.json"
    code = shadow.main(
        [
            *("--requests", str(directory), "--served", str(versions[0])),
            *("--candidate", str(versions[1]), "--json", str(figures), "--min_overlap", "0.99"),
        ]
    )
    shown = capsys.readouterr().out
    assert code == 1
    assert "is below 0.99" in shown
    found = json.loads(figures.read_text())
    assert found["comparison"]["requests"] == 6
    assert found["comparison"]["overlap"] == pytest.approx((inverted + 2) / 3)
    assert f"mean {(inverted + 2) / 3:.3f}" in shown
    assert f"1. overlap {inverted:.3f}, after Title 1 | Title 2 | Title 3" in shown
    # One of seven items is unknown, and it is one of three histories. Of the four items
    # before the target in the examples, the model reads three.
    assert found["skew"]["unknown_items"] == pytest.approx(1 / 7)
    assert found["skew"]["cold"] == pytest.approx(1 / 3)
    assert found["skew"]["trained_lengths"] == [3.0, 3.0]
    assert found["skew"]["inputs"] == {"user_taste": [1.0, pytest.approx(1 / 3)]}
    assert (
        "The model reads user_taste. 33.3% of the requests give it, while 100.0% of the examples "
        "have it."
    ) in shown


def test_what_cannot_be_used_says_why(samples, versions, capsys, tmp_path):
    directory, _ = samples
    command = ["--requests", str(directory), "--served", str(versions[0]), "--candidate"]
    assert shadow.main([*command, str(tmp_path)]) == 2
    assert "does not load as a SavedModel" in capsys.readouterr().err
    command.append(str(versions[1]))
    assert shadow.main([*command, "--examples", str(tmp_path)]) == 2
    assert "expected TFRecord files" in capsys.readouterr().err
    assert shadow.main(["--requests", str(tmp_path), *command[2:]]) == 2
    assert "no sampled request" in capsys.readouterr().err
