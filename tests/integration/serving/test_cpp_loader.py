"""Pushed bundles load and run in TensorFlow's C++ runtime, as in TF Serving."""

import importlib.util
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from retrieval.build import build_bundle
from retrieval.config import IndexConfig
from serving.saved_model import SavedModel
from tests import synthetic_tower

pytestmark = pytest.mark.slow

_ITEMS = 2000
_HISTORY = ["item-3", "item-14", "item-15", "unknown"]


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    """The loader, compiled against the libraries that the wheel ships."""
    program = tmp_path_factory.mktemp("loader") / "saved_model_loader"
    library = tf.sysconfig.get_lib()
    subprocess.run(
        [
            *("g++", "-O0", "-w", *tf.sysconfig.get_compile_flags()),
            str(Path(__file__).with_name("saved_model_loader.cc")),
            *("-o", str(program), f"-L{library}", f"-Wl,-rpath,{library}"),
            *("-l:libtensorflow_cc.so.2", "-l:libtensorflow_framework.so.2"),
        ],
        check=True,
    )
    return program


@pytest.fixture(scope="module")
def work_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle")
    ids = [f"item-{i}" for i in range(_ITEMS)]
    vectors = synthetic_tower.unit_vectors(_ITEMS, 16)
    synthetic_tower.Tower(ids, vectors, range(_ITEMS, 0, -1)).save(path / "trained")
    generator = np.random.default_rng(0)
    with tf.io.TFRecordWriter(str(path / "examples.gz"), options="GZIP") as writer:
        for person in range(200):
            history = [ids[i].encode() for i in generator.integers(0, _ITEMS, 6)]
            features = {
                "user_id": tf.train.Feature(
                    bytes_list=tf.train.BytesList(value=[str(person).encode()])
                ),
                "item_id": tf.train.Feature(bytes_list=tf.train.BytesList(value=history)),
                "num_targets": tf.train.Feature(int64_list=tf.train.Int64List(value=[1])),
            }
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())
    return path


def _op_library():
    (folder,) = importlib.util.find_spec("scann").submodule_search_locations
    return next(Path(folder).rglob("_scann_ops.so"))


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_the_bundle_gives_the_same_without_python(loader, work_dir, kind):
    bundle = work_dir / kind
    config = IndexConfig(kind=kind, recall_k=20, num_queries=50)
    build_bundle(
        str(work_dir / "trained"), [str(work_dir / "examples.gz")], str(bundle), config, {}
    )
    # The exact kind needs nothing but TensorFlow: a stock TF Serving has no ScaNN.
    library = str(_op_library()) if kind == "scann" else "-"
    done = subprocess.run(
        [loader, bundle, library, *_HISTORY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    model = SavedModel(bundle)
    inputs = {"history": np.array([[item.encode() for item in _HISTORY]], object)}
    expected = model.run(
        "serving_default",
        model.complete_inputs("serving_default", inputs),
        ("item_ids", "scores", "interest_index"),
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0].encode() for row in rows] == expected["item_ids"][0].tolist()
    np.testing.assert_allclose([float(r[1]) for r in rows], expected["scores"][0], atol=1e-4)
    assert [int(row[2]) for row in rows] == expected["interest_index"][0].tolist()


def test_a_scann_bundle_without_the_ops_says_so(loader, work_dir):
    done = subprocess.run(
        [loader, work_dir / "scann", "-", *_HISTORY], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Scann" in done.stderr
