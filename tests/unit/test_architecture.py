"""The arrows between packages point one way; the order is that of ``_LAYERS``."""

import ast
import re
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_LAYERS: dict[str, set[str]] = {
    "contract": set(),
    "model": {"contract"},
    "retrieval": {"contract", "model"},
    "components": {"contract", "model", "retrieval"},
    "pipeline": {"contract", "model", "retrieval", "components"},
    "report": {"contract", "model", "retrieval", "components", "pipeline"},
    "item_refresh": {"contract", "model", "retrieval", "components"},
    "devtools": {"contract", "model", "pipeline"},
    "serving": {"contract", "model"},
}
_OURS = {*_LAYERS, "local_runner", "kubeflow_runner", "tests", "benchmarks"}


def _imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module


def _files(package):
    return sorted((_ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", sorted(_LAYERS))
def test_a_package_imports_only_what_is_below_it(package):
    allowed = _LAYERS[package] | {package}
    wrong = [
        f"{path.relative_to(_ROOT)}: {name}"
        for path in _files(package)
        for name in _imports(path)
        if name.split(".")[0] in _OURS - allowed
    ]
    assert not wrong


def test_the_model_knows_nothing_of_orchestration():
    wrong = [
        f"{path.relative_to(_ROOT)}: {name}"
        for path in _files("model")
        for name in _imports(path)
        if name.split(".")[0] in {"tfx", "kfp", "apache_beam", "ml_metadata"}
    ]
    assert not wrong


def test_user_functions_are_named_by_import_string():
    text = "".join(
        (_ROOT / "pipeline" / name).read_text() for name in ("entries.py", "create_pipeline.py")
    )
    assert re.findall(r'"(model\.[\w.]+_fn)"', text) == [
        "model.tfx_functions.preprocessing.preprocessing_fn",
        "model.tfx_functions.trainer.run_fn",
    ]
    assert "module_file" not in text


def test_the_contract_needs_no_tensorflow():
    wrong = [
        f"{path.relative_to(_ROOT)}: {name}"
        for path in _files("contract")
        for name in _imports(path)
        if name.split(".")[0] in {"tensorflow", "tfx", "kfp", "keras", "tf_keras"}
    ]
    assert not wrong
