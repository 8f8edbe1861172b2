"""Two replicas, in one process or in two, train the model that one trains."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from model.training.distribution import is_chief, require_accelerators, worker_directory
from tests import worker_processes

_WORKER = Path(__file__).with_name("worker.py")


@pytest.mark.parametrize(
    ("jobs", "task", "expected"),
    [
        ({"worker": ["a:1", "b:1"]}, ("worker", 0), "run"),
        ({"worker": ["a:1", "b:1"]}, ("worker", 1), "run-worker-1"),
        ({"chief": ["a:1"], "worker": ["b:1"]}, ("chief", 0), "run"),
        # With a chief in the cluster, worker 0 is another process.
        ({"chief": ["a:1"], "worker": ["b:1"]}, ("worker", 0), "run-worker-0"),
    ],
)
def test_the_chief_alone_has_the_checkpoint_directory_itself(jobs, task, expected):
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(jobs), task_type=task[0], task_id=task[1]
    )
    strategy = SimpleNamespace(cluster_resolver=resolver)
    assert worker_directory(strategy, "run") == expected
    assert is_chief(strategy) == (expected == "run")


def test_a_training_in_one_process_is_its_own_chief():
    for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0"])):
        assert is_chief(strategy)


def test_no_accelerator_is_needed_where_none_was_asked_for():
    require_accelerators(0)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["self_attentive", "encoder"])
def test_two_replicas_equal_one(tmp_path, network):
    for distribution in ("none", "mirrored"):
        output = tmp_path / f"{distribution}.npz"
        worker_processes.finish(
            worker_processes.start(_WORKER, distribution, tmp_path / distribution, output, network)
        )
    workers = [
        worker_processes.start(
            _WORKER, "multi_worker_mirrored", tmp_path / "multi", tmp_path / f"worker_{i}.npz",
            network,
            tf_config=tf_config,
        )
        for i, tf_config in enumerate(worker_processes.cluster(2))
    ]  # fmt: skip
    for worker in workers:
        worker_processes.finish(worker)
    expected = dict(np.load(tmp_path / "none.npz"))
    assert expected.pop("replicas") == 1
    for name in ("mirrored", "worker_0", "worker_1"):
        weights = dict(np.load(tmp_path / f"{name}.npz"))
        assert weights.pop("replicas") == 2
        for key, value in expected.items():
            np.testing.assert_allclose(weights[key], value, atol=1e-4, err_msg=f"{name} {key}")
