import os
import subprocess
import sys

import pytest
import tensorflow as tf

import model  # noqa: F401


def test_tensors_come_from_the_pool():
    """TensorFlow counts the bytes in use only if it has a pool, else it raises ValueError."""
    before = tf.config.experimental.get_memory_info("CPU:0")["current"]
    tensor = tf.ones([1000, 1000])
    after = tf.config.experimental.get_memory_info("CPU:0")["current"]
    assert after - before >= tensor.numpy().nbytes


@pytest.mark.parametrize(("imports", "pool"), [("model", "true"), ("serving, model", "false")])
def test_a_server_has_no_pool(imports, pool):
    code = f"import {imports}, os; print(os.environ['TF_CPU_ALLOCATOR_USE_BFC'])"
    clean = {name: value for name, value in os.environ.items() if name[:3] != "TF_"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True)
    assert done.stdout.strip() == pool, done.stderr
