"""Bundles load and answer in TensorFlow's C++ runtime, as in TF Serving."""

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
import tensorflow as tf

from components.example_files import split_files
from retrieval.build import build_bundle
from retrieval.config import IndexConfig
from tests.synthetic_inputs import write_inputs

pytestmark = pytest.mark.slow
_SOURCE = Path(__file__).with_name("saved_model_loader.cc")


@pytest.fixture(scope="module")
def loader(tmp_path_factory):
    """The compiled loader."""
    compiler = shutil.which("g++")
    assert compiler, "this test compiles C++: install g++"
    library = tf.sysconfig.get_lib()
    program = tmp_path_factory.mktemp("loader") / "saved_model_loader"
    libraries = [
        f"-L{library}",
        "-l:libtensorflow_cc.so.2",
        "-l:libtensorflow_framework.so.2",
        f"-Wl,-rpath,{library}",
    ]
    flags = [*tf.sysconfig.get_compile_flags(), "-std=c++17"]
    subprocess.run([compiler, *flags, str(_SOURCE), "-o", str(program), *libraries], check=True)
    return program


@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_the_answer_is_that_of_python(kind, loader, tmp_path):
    _, examples = write_inputs(tmp_path)
    bundle = tmp_path / kind
    build_bundle(
        str(tmp_path / "trainer" / "Format-Serving"),
        split_files([examples], "eval"),
        str(bundle),
        IndexConfig(kind=kind, num_queries=20),
        {},
    )
    recommend = tf.saved_model.load(str(bundle)).signatures["recommend"]
    expected = [item.decode() for item in recommend(tf.constant([["i7"]]))["item_ids"].numpy()[0]]
    libraries = []
    if kind == "scann":
        package = Path(importlib.util.find_spec("scann").origin).parent
        libraries = [str(next(package.rglob("_scann_ops.so")))]
    # What is left out of serving_default has the defaults of the signature.
    for signature in ("recommend", "serving_default"):
        answer = subprocess.run(
            [loader, bundle, signature, "i7", *libraries],
            check=True,
            capture_output=True,
            text=True,
        )
        assert answer.stdout.split() == expected
