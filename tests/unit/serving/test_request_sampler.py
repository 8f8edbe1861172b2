"""Which rows are sampled, how callers are hashed, and that files and memory are bounded."""

import datetime
import hashlib
import hmac
import json
import stat

import numpy as np
import pytest

from pipeline.id_scan import IdScan
from serving.metrics import Metrics
from serving.request_sampler import KEY_FILE, RequestSampler
from tests.running_server import wait_until

_MEGABYTE = 2**20


class _Clock:
    """26 November 2026, 23:59:58 UTC, until it is set."""

    def __init__(self):
        self.now = datetime.datetime(
            2026, 11, 26, 23, 59, 58, 700_000, datetime.timezone.utc
        ).timestamp()

    def __call__(self):
        return self.now


class _World:
    def __init__(self, directory, *, share=1.0, max_bytes=_MEGABYTE, draw=None):
        self.directory = directory
        self.metrics = Metrics()
        self.clock = _Clock()
        self.sampler = RequestSampler(
            directory, share, max_bytes, self.metrics, clock=self.clock, draw=draw
        )

    def offer(self, *histories, key=""):
        inputs = {"history": np.array([[i.encode() for i in h] for h in histories], object)}
        self.sampler.offer("mind", 7, inputs, key)

    def files(self):
        return sorted(self.directory.glob("request-sample-0*.jsonl"))

    def entries(self):
        return [json.loads(line) for f in self.files() for line in f.read_text().splitlines()]

    def count(self, outcome):
        labels = {"model": "mind", "outcome": outcome}
        value = self.metrics.registry.get_sample_value("serving_request_samples_total", labels)
        return value or 0.0


@pytest.fixture
def world(tmp_path):
    return _World(tmp_path / "samples")


def test_a_line_is_one_row(world):
    world.sampler.start()
    world.offer(["a", "b"], ["c", ""])
    world.sampler.close()
    common = {"time": "2026-11-26T23:59:58Z", "model": "mind", "version": 7, "caller": ""}
    assert world.entries() == [
        {**common, "inputs": {"history": ["a", "b"]}},
        {**common, "inputs": {"history": ["c"]}},
    ]
    assert world.count("written") == 2
    for path in world.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_rows_are_drawn_one_by_one(tmp_path):
    draws = iter([np.array([0.3, 0.0, 0.299]), np.array([0.5])])
    world = _World(tmp_path, share=0.3, draw=lambda rows: next(draws))
    world.sampler.start()
    world.offer(["a"], ["b"], ["c"])
    world.offer(["d"])
    world.sampler.close()
    assert [entry["inputs"]["history"] for entry in world.entries()] == [["b"], ["c"]]


def test_a_caller_is_a_keyed_hash_with_another_key_on_another_day(world):
    world.sampler.start()
    world.offer(["a"], key="person-4711")
    world.offer(["b"], key="person-4711")
    world.sampler.close()
    day, key = (world.directory / KEY_FILE).read_text().split()
    assert stat.S_IMODE((world.directory / KEY_FILE).stat().st_mode) == 0o600
    expected = hmac.new(bytes.fromhex(key), b"person-4711", hashlib.sha256).hexdigest()
    assert day == "2026-11-26"
    assert [entry["caller"] for entry in world.entries()] == [expected] * 2

    # A restart on the same day goes on with the key; two seconds later is another day.
    again = _World(world.directory)
    again.sampler.start()
    again.offer(["c"], key="person-4711")
    again.clock.now += 2
    again.offer(["d"], key="person-4711")
    again.sampler.close()
    callers = [entry["caller"] for entry in again.entries()]
    assert callers[:3] == [expected] * 3
    assert len(callers[3]) == 64
    assert callers[3] != expected
    files = [*world.directory.iterdir()]
    # Nothing is left of the old key, and the caller's key was never there.
    assert not any(key.encode() in file.read_bytes() for file in files)
    assert not any(b"4711" in file.read_bytes() for file in files)


def test_the_oldest_files_go(world):
    world.sampler.start()
    item = "x" * 30_000
    for number in range(100):
        world.offer([f"{number}", item])
    world.sampler.close()
    numbers = [int(entry["inputs"]["history"][0]) for entry in world.entries()]
    assert world.count("written") == 100
    assert numbers == list(range(100 - len(numbers), 100))
    sizes = [file.stat().st_size for file in world.files()]
    # Three lines of 30 kB are in a file of at most a tenth of the limit.
    assert max(sizes) <= _MEGABYTE // 10
    assert _MEGABYTE * 0.8 < sum(sizes) <= _MEGABYTE


def test_after_a_restart_another_file_is_begun_and_the_limit_holds(world):
    world.directory.mkdir()
    (world.directory / "request-sample-of-mine.jsonl").write_text("not the server's")
    for number in range(3):
        again = _World(world.directory)
        again.sampler.start()
        again.offer([f"{number}"])
        again.sampler.close()
    assert [file.name[-7:] for file in world.files()] == ["1.jsonl", "2.jsonl", "3.jsonl"]
    assert [entry["inputs"]["history"] for entry in world.entries()] == [["0"], ["1"], ["2"]]


def test_files_that_are_deleted_meanwhile_are_replaced(world):
    world.sampler.start()
    world.offer(["a"])
    wait_until(lambda: world.count("written") == 1)
    for file in world.files():
        file.unlink()
    world.offer(["b"])
    world.sampler.close()
    assert [entry["inputs"]["history"] for entry in world.entries()] == [["b"]]


def test_a_full_queue_drops_and_counts(world):
    for _ in range(300):  # nobody writes yet
        world.offer(["a"])
    assert world.count("queue_full") == 300 - 256
    world.sampler.start()
    world.sampler.close()
    assert world.count("written") == 256


def test_what_is_too_large_is_dropped_and_counted(world):
    world.sampler.start()
    world.offer(["a"] * 10_001)
    world.offer(["x" * 2**16])
    world.offer(["b"])
    world.sampler.close()
    assert world.count("too_large") == 2
    assert [entry["inputs"]["history"] for entry in world.entries()] == [["b"]]


def test_what_cannot_be_written_is_dropped_and_counted(world, caplog):
    world.sampler.start()
    world.directory.rmdir()
    world.offer(["a"])
    world.offer(["b"])
    world.sampler.close()
    assert world.count("failed") == 2
    assert [record.message for record in caplog.records] == ["request sample not written"]


def test_a_request_that_cannot_be_sampled_is_no_error(world):
    world.sampler.start()
    world.sampler.offer("mind", 7, {"history": np.array([[object()]], object)}, "")
    world.sampler.close()
    assert world.count("failed") == 1


def test_two_servers_do_not_share_a_directory(world):
    world.sampler.start()
    with pytest.raises(OSError, match="another server writes to"):
        _World(world.directory).sampler.start()
    world.sampler.close()
    again = _World(world.directory)
    again.sampler.start()
    again.sampler.close()


@pytest.mark.parametrize("item", ["item-12", "7", "é1", 'a"b', "\U0001f600"])
def test_an_erasure_finds_items_in_the_files(world, item):
    world.sampler.start()
    world.offer(["first", item])
    world.sampler.close()
    (file,) = world.files()
    assert IdScan({item}).finds_in(file)
    assert not IdScan({"item-1", "8"}).finds_in(file)
