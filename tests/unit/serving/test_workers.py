import os

import prometheus_client
import pytest

from serving.config import ServerConfig
from serving.request_sample import RequestSample, next_file, read_samples
from serving.worker_board import Board, Seat, State, Worker, worker_folder
from serving.worker_metrics import registry_of_all
from serving.workers import _config_of


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path / "board", 3)


def _worker(board, number, folder):
    return Worker(number=number, board=board, folder=folder, lifeline=-1, listens_first=True)


def test_every_process_sees_what_is_written(board, tmp_path):
    other = Board(tmp_path / "board", 3)
    board.set_pid(1, 4_000_000_000)
    board.set_state(1, State.READY)
    other.count_restart(2)
    other.count_restart(2)
    assert other.seats() == board.seats()
    assert board.seats() == [
        Seat(0, 0, State.STARTING),
        Seat(4_000_000_000, 0, State.READY),
        Seat(0, 2, State.STARTING),
    ]


def test_the_whole_is_ready_without_those_that_are_started_again(board, tmp_path):
    first, second = _worker(board, 0, tmp_path), _worker(board, 1, tmp_path)
    second.report(State.READY)
    assert not first.others_are_ready()  # the third has never been ready
    board.set_state(2, State.ABSENT)
    assert first.others_are_ready()
    assert not second.others_are_ready()
    first.report(State.READY)
    assert second.others_are_ready()


def test_processor_time_and_memory_are_shown_by_worker(board, tmp_path):
    board.set_pid(0, os.getpid())
    board.set_state(0, State.READY)
    registry = registry_of_all(_worker(board, 0, tmp_path), only_if_set=())
    text = prometheus_client.generate_latest(registry).decode()
    assert 'serving_worker_ready{worker="0"} 1.0' in text
    assert 'serving_worker_ready{worker="1"} 0.0' in text
    assert 'process_resident_memory_bytes{worker="0"}' in text
    assert 'process_resident_memory_bytes{worker="1"}' not in text


def test_workers_share_cores_and_have_folders_of_their_own(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)))
    config = ServerConfig(
        model_base_path="m", workers=4, request_log_dir="samples", request_log_max_bytes=2**24
    )
    third = _config_of(config, 2)
    assert third.intra_op_threads == 4
    assert third.request_log_dir == "samples/worker-2"
    assert third.request_log_max_bytes == 2**22
    asked = _config_of(ServerConfig(model_base_path="m", workers=4, intra_op_threads=7), 0)
    assert (asked.intra_op_threads, asked.request_log_dir) == (7, "")


def test_the_newest_samples_of_all_workers_are_read(tmp_path):
    for worker, minutes in ((0, (1, 4)), (1, (2, 3, 5))):
        folder = worker_folder(tmp_path, worker)
        folder.mkdir()
        lines = [
            RequestSample(f"2026-11-26T15:0{m}:00Z", "m", 1, "", {"history": [str(m)]}).to_line()
            for m in minutes
        ]
        next_file(folder).write_bytes(b"".join(lines))
    samples, damaged = read_samples(tmp_path, 4)
    assert [sample.history for sample in samples] == [["2"], ["3"], ["4"], ["5"]]
    assert damaged == 0
