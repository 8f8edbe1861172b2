"""The whole pipeline as a user runs it, on a log with planted interests.

One run serves all tests: each begins from what that run left, in any order. The first run
and the one that is killed have processes of their own; all others share one process, so
that TensorFlow and TFX are loaded once for them.
"""

import gzip
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scann  # noqa: F401  (registers the ops of a ScaNN index)
import tensorflow as tf

import local_runner
from contract.manifest import MANIFEST_PATH
from pipeline import forget
from serving import release
from tests.e2e import planted

_ROOT = Path(__file__).resolve().parents[2]
_PEOPLE = 600
_STEPS = 16


class Project:
    """A user's folder: a log, and an output directory that runs share.

    Args:
      folder: Where both are made.
      later: Its process makes all runs but the first.
    """

    def __init__(self, folder: Path, later: ProcessPoolExecutor):
        self._later = later
        self.output = folder / "output"
        self._kept = folder / "kept"
        self.log = folder / "my.csv"
        planted.write_log(self.log, _PEOPLE)

    def arguments(self, *extra: str) -> list[str]:
        return [
            f"--interactions={self.log}",
            "--user_column=who",
            "--item_column=what",
            "--timestamp_column=when",
            f"--output_dir={self.output}",
            "--set=training.max_steps=600",
            "--set=training.eval_every_steps=100",
            "--set=training.checkpoint_every_steps=100",
            "--set=training.batch_size=256",
            "--set=training.num_negatives=128",
            "--set=model.embedding_dim=32",
            "--set=model.num_interests=4",
            # So that times go all the way, from the log to the served model.
            "--set=model.time_gap=true",
            "--set=evaluation.exclude_history=false",
            "--set=index.num_queries=100",
            *extra,
        ]

    def start(self, *extra: str) -> subprocess.Popen:
        """Starts a run in a process of its own."""
        return subprocess.Popen(
            [sys.executable, str(_ROOT / "local_runner.py"), *self.arguments(*extra)], cwd=_ROOT
        )

    def run(self, *extra: str) -> int:
        """Runs in the shared process; returns the exit code."""
        return self._later.submit(local_runner.main, self.arguments(*extra)).result()

    def keep(self) -> None:
        """Keeps a copy of the output directory for ``restore``."""
        shutil.copytree(self.output, self._kept)

    def restore(self) -> None:
        """Puts the output directory back to what it was at ``keep``, at the same path."""
        shutil.rmtree(self.output)
        shutil.copytree(self._kept, self.output)

    def summary(self) -> dict:
        newest = sorted(self.output.glob("runs/mind/*/summary.json"))[-1]
        return json.loads(newest.read_text())

    def versions(self) -> list[str]:
        folder = self.output / "serving_models" / "mind"
        return sorted(p.name for p in folder.glob("[0-9]*"))


@pytest.fixture(scope="module")
def first_run(tmp_path_factory):
    # A new process, not a fork of this one: nothing that the first run knows is in it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, initializer=os.chdir, initargs=(_ROOT,)) as later:
        project = Project(tmp_path_factory.mktemp("user"), later)
        assert project.start("--require_push").wait() == 0
        project.keep()
        yield project


@pytest.fixture
def project(first_run):
    first_run.restore()
    return first_run


def test_the_model_is_pushed_and_beats_the_baselines(project):
    summary = project.summary()
    assert [step["state"] for step in summary["steps"]] == ["ran"] * _STEPS
    assert summary["blessing"]["blessed"]
    assert summary["push"]["pushed"]
    assert summary["push"]["in_service"] == summary["push"]["version"]
    name = "recall_at_50_history_included"
    mind = summary["metrics"]["mind"]["overall"][name]
    popularity = summary["metrics"]["popularity"]["overall"][name]
    assert mind["low"] > popularity["high"]


def test_every_row_is_accounted_for(project):
    report = project.summary()["data"]
    events = _PEOPLE * planted.EVENTS_PER_PERSON
    assert report["tables"]["interactions"] == {"read": events, "bad": {}}
    assert report["events"]["kept"] == events
    splits = report["splits"]
    assert splits["test"]["sequences"] == splits["eval"]["sequences"] == _PEOPLE
    assert splits["train"]["events"] == events - 2 * _PEOPLE


def test_the_served_model_finds_both_planted_interests(project):
    served = tf.saved_model.load(
        str(project.output / "serving_models/mind" / project.versions()[0])
    )
    serve = served.signatures["recommend"]
    found, separate = [], []
    rng = np.random.default_rng(7)
    for _ in range(50):
        topics = rng.choice(planted.NUM_TOPICS, 2, replace=False)
        history = [
            planted.item_id(topics[event % 2], rng.integers(planted.ITEMS_PER_TOPIC))
            for event in range(16)
        ]
        answer = serve(history=tf.constant([history]))
        items = [item.decode() for item in answer["item_ids"][0].numpy()]
        interests = answer["interest_index"][0].numpy()
        wanted = {f"topic {topic}" for topic in topics}
        found.append(np.mean([planted.topic_of(item) in wanted for item in items]))
        separate.append(len(set(interests.tolist())) > 1)
    # By chance a quarter of the items would be of the two topics.
    assert np.mean(found) > 0.9
    assert np.mean(separate) > 0.5


def test_an_unchanged_run_does_no_work(project):
    before = project.versions()
    assert project.run() == 0
    states = {step["id"]: step["state"] for step in project.summary()["steps"]}
    assert states.pop("pusher") == "ran"  # it looks at what is there, at every run
    assert set(states.values()) == {"cached"}
    assert project.versions() == before


def test_a_deleted_version_is_pushed_again(project):
    for version in project.versions():
        shutil.rmtree(project.output / "serving_models" / "mind" / version)
    assert project.run("--require_push") == 0
    states = {step["id"]: step["state"] for step in project.summary()["steps"]}
    assert (states["trainer"], states["pusher"]) == ("cached", "ran")
    assert project.versions() == [project.summary()["push"]["version"]]


def test_a_rolled_back_version_is_not_pushed_again(project):
    base = project.output / "serving_models" / "mind"
    (version,) = project.versions()
    before = base / str(int(version) - 1)
    shutil.copytree(base / version, before)
    manifest = before / MANIFEST_PATH
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "copied": True}))
    assert release.main(["rollback", "--model_base_path", str(base), "--reason", "bad"]) == 0

    assert project.run("--require_push") == local_runner.EXIT_NOT_PUSHED == 3
    summary = project.summary()
    states = {step["id"]: step["state"] for step in summary["steps"]}
    assert (states.pop("pusher"), set(states.values())) == ("ran", {"cached"})
    assert summary["blessing"]["blessed"]
    assert not summary["push"]["pushed"]
    assert summary["push"]["withdrawn_version"] == version
    assert "(bad); nothing was pushed" in summary["push"]["not_pushed_because"]
    assert project.versions() == [before.name, version]


@pytest.mark.slow
def test_a_model_that_misses_the_floor_is_not_pushed(project):
    before = project.versions()
    code = project.run("--set=evaluation.min_lift_over_popularity=0.99", "--require_push")
    assert code == local_runner.EXIT_NOT_PUSHED
    summary = project.summary()
    assert not summary["blessing"]["blessed"]
    assert "lift_over_popularity" in summary["blessing"]["reasons"][0]
    assert not summary["push"]["pushed"]
    assert {s["id"]: s["state"] for s in summary["steps"]}["trainer"] == "cached"
    assert project.versions() == before


def _holding(folder, text):
    """Files below ``folder`` with these bytes, also inside gzip."""
    found = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            if text in (gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content):
                found.add(path.relative_to(folder))
    return found


def test_people_and_items_are_erased_down_to_the_byte(project, tmp_path, capsys):
    (tmp_path / "config.yaml").write_text(
        json.dumps({"data": {"interactions": {"files": [str(project.log)]}}})
    )
    config = (f"--config={tmp_path}/config.yaml", f"--output_dir={project.output}")
    item = project.summary()["sample_people"][0]["history"][-1]["item_id"]
    before = _holding(project.output, item.encode())
    assert {path.parts[0] for path in before} == {"pipeline", "runs", "serving_models"}
    assert {path.parts[2] for path in before if path.parts[0] == "pipeline"} > {
        "example-gen",
        "statistics-gen",
        "transform",
        "trainer",
        "index-builder",
    }
    served = project.output / "serving_models" / "mind"
    version = project.versions()[-1]
    assert forget.main([*config, f"--item={item}", "--user=00417", "--check"]) == 1
    found = capsys.readouterr().out
    # Of a checkpoint the index is named, and of a version its directory.
    missed = {
        path
        for path in before
        if path.parts[0] != "serving_models"
        and re.sub(r"\.data-.*", ".index", str(project.output / path)) not in found
    }
    assert not missed
    assert str(served / version) in found

    assert forget.main([*config, "--user=00417"]) == 0
    assert forget.main([*config, "--user=00417", "--check"]) == 0
    assert forget.main([*config, f"--item={item}"]) == forget.EXIT_FOUND
    # What is served cannot be changed; it is named.
    assert str(served / version) in capsys.readouterr().out
    left = _holding(project.output, item.encode())
    assert {path.parts[:3] for path in left} == {("serving_models", "mind", version)}


@pytest.mark.slow
def test_a_killed_training_leaves_the_served_model_and_is_resumed(project):
    before = project.versions()
    change = ("--set=training.learning_rate=0.002",)
    running = project.start(*change)
    deadline = time.monotonic() + 300
    # TensorFlow writes this file last: from then on the checkpoint counts.
    while not list(project.output.glob("checkpoints/mind/*/latest/checkpoint")):
        assert running.poll() is None, "the run ended before its first checkpoint"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    assert project.versions() == before

    assert project.run(*change) == 0

    states = {step["id"]: step["state"] for step in project.summary()["steps"]}
    assert states["transform"] == "cached"
    assert states["trainer"] == "ran"
    assert project.summary()["training"]["resumed_from_step"] >= 100
    assert len(project.versions()) == len(before) + 1
    assert not list(project.output.glob("checkpoints/mind/*/*"))
