"""Which uv makes the environments of the peers, and what their scripts read and do alike."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import peers, protocols
from benchmarks.peers import peer_run


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def _executable(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    path.chmod(0o755)
    return str(path)


@pytest.mark.usefixtures("nothing_installed")
def test_the_uv_of_make_env_is_found(tmp_path):
    private = _executable(tmp_path / "checkout" / ".uv" / "bin" / "uv")
    assert peers.find_uv(tmp_path / "checkout") == private


@pytest.mark.usefixtures("nothing_installed")
def test_an_installed_uv_comes_first_and_the_variable_before_it(tmp_path, monkeypatch):
    _executable(tmp_path / "checkout" / ".uv" / "bin" / "uv")
    installed = _executable(tmp_path / "uv")
    assert peers.find_uv(tmp_path / "checkout") == installed
    monkeypatch.setenv("UV", "/opt/uv")
    assert peers.find_uv(tmp_path / "checkout") == "/opt/uv"


@pytest.mark.usefixtures("nothing_installed")
def test_without_any_uv_one_message_says_how_to_get_it(tmp_path):
    with pytest.raises(SystemExit, match=r"\.uv/bin/uv.*install uv"):
        peers.find_uv(tmp_path)


def _split():
    shown = protocols.People(["v", "w"], [[2, 2, 5], [4]], [[1, 3], [6]], [[0] * 3, [0]])
    train = [[1, 2, 3, 4, 5], [6, 1]]
    return protocols.Split(list("abcdef"), ["t", "u"], train, shown, shown, [[0] * 5, [0] * 2])


def test_a_peer_of_sequences_reads_whole_ones(tmp_path):
    peers.write_sequences(_split(), 3, tmp_path / "split.npz")
    data = peer_run.whole_sequences(dict(np.load(tmp_path / "split.npz")))
    assert [row.tolist() for row in data["train"]] == [[1, 2, 3, 4, 5], [6, 1]]
    for name in ("validation_history", "test_history"):
        assert [row.tolist() for row in data[name]] == [[2, 2, 5], [4]]
    assert data["validation_targets"].tolist() == [[1, 3], [6, -1]]
    assert data["validation_excluded"].tolist() == [[2, 2, 5], [4, 0, 0]]
    assert (int(data["num_items"]), int(data["history_length"])) == (6, 3)
    assert "train_items" not in data
    assert "train_offsets" not in data


def test_every_peer_that_is_trained_has_packages_and_a_script(monkeypatch):
    monkeypatch.setenv("UV", "/opt/uv")
    for name in peers.TRAINERS:
        command = peers.command(name, [])
        script = next(part for part in command if part.endswith(".py"))
        assert Path(script).exists()
        assert "--with" in command


_NUM_ITEMS = 60
_ARGUMENTS = ["--input", "", "--max-epochs", "9", "--patience", "2"]


def _train(tmp_path, recalls, *arguments):
    """Trains a peer whose epoch i finds ``recalls[i - 1]`` of the two people's targets."""
    output = str(tmp_path / "peer")
    parser = peer_run.parser("", batch_size=1, negatives=1)
    args = parser.parse_args([*_ARGUMENTS, "--output", output, *arguments])
    epochs = []

    def vectors(histories):
        items = np.zeros((_NUM_ITEMS + 1, 1), np.float32)
        items[1:] = -1.0
        items[1 : 1 + 50] = 1.0  # fill the 50 places, but for those of the targets
        items[55 : 55 + recalls[len(epochs) - 1]] = 2.0
        return np.full((len(histories), 1, 1), len(epochs), np.float32), items

    data = {
        "validation_history": [[1], [2]],
        "validation_excluded": np.array([[0], [0]]),
        "validation_targets": np.array([[55, 56], [55, 57]]),
        "test_history": [[1]],
    }
    peer_run.train(args, data, lambda: epochs.append(1), vectors, examples=7)
    report = json.loads((tmp_path / "peer.json").read_text())
    return report, np.load(tmp_path / "peer.npz")["interests"]


def test_the_vectors_of_the_best_epoch_are_kept(tmp_path):
    report, interests = _train(tmp_path, [0, 2, 1, 1, 3])
    # Items 55 and 56 are 2 of the first person's 2 targets and 1 of the second's 2.
    assert report["validation.recall"] == 0.75
    assert report["best_epoch"] == 2
    assert interests.item() == 2
    assert [point["recall"] for point in report["curve"]] == [0, 0.75, 0.5, 0.5]


def test_a_bound_of_cpu_seconds_ends_the_training(tmp_path):
    report, _ = _train(tmp_path, [0, 1, 2], "--max-cpu-seconds", "1e-9")
    assert len(report["curve"]) == 1


def test_some_of_the_validation_people_do(tmp_path):
    report, _ = _train(tmp_path, [2, 2, 2], "--validation-people", "1")
    assert report["validation.recall"] == 1.0  # the first person's
