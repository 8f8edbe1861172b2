"""The digest follows the code that a module can run, and only that."""

import pytest

from pipeline import source_digest as lib

_FILES = {
    "main/__init__.py": "",
    "main/step.py": """
import numpy
from main.part import value

def late():
    from other import leaf
    import third.deep.below
    return leaf, third
""",
    "main/part.py": "value = 1",
    "main/unrelated.py": "from main import step",
    "other/__init__.py": "from .start import begin",
    "other/start.py": "begin = 1",
    "other/leaf.py": "",
    "other/unrelated.py": "",
    "third/__init__.py": "",
    "third/deep/__init__.py": "from .. import above",
    "third/deep/below.py": "from . import beside",
    "third/deep/beside.py": "",
    "third/above.py": "",
    "third/unrelated.py": "",
    "main/notes.md": "text",
}
_OF_STEP = {
    "main/__init__.py",
    "main/step.py",
    "main/part.py",
    "other/__init__.py",
    "other/start.py",
    "other/leaf.py",
    "third/__init__.py",
    "third/deep/__init__.py",
    "third/deep/below.py",
    "third/deep/beside.py",
    "third/above.py",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(lib, "PROJECT_ROOT", tmp_path)
    for name, text in _FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_closure_has_submodules_late_and_relative_imports_and_packages(project):
    assert lib.import_closure("main.step") == {project / name for name in _OF_STEP}


def test_a_function_stands_for_its_module(project):
    assert lib.source_digest("main.step.late") == lib.source_digest("main.step")


def test_modules_that_import_each_other_are_counted_once(project):
    (project / "main" / "part.py").write_text("from main import step\nvalue = 1")
    assert lib.import_closure("main.step") == {project / name for name in _OF_STEP}


@pytest.mark.parametrize("name", sorted(_FILES))
def test_an_edit_changes_the_digest_of_what_runs_it(name, project):
    before = lib.source_digest("main.step")
    (project / name).write_text(_FILES[name] + "\n# edited\n")
    assert (lib.source_digest("main.step") != before) == (name in _OF_STEP)


def test_a_new_import_is_followed(project):
    before = lib.source_digest("main.step")
    (project / "main" / "part.py").write_text("from other import unrelated\nvalue = 1")
    assert project / "other" / "unrelated.py" in lib.import_closure("main.step")
    assert lib.source_digest("main.step") != before


def test_a_moved_file_changes_it(project):
    before = lib.source_digest("main.unrelated")
    (project / "main" / "unrelated.py").rename(project / "main" / "moved.py")
    assert lib.source_digest("main.moved") != before


def test_the_order_of_entries_does_not_matter(project):
    assert lib.source_digest("main.part", "other.leaf") == lib.source_digest(
        "other.leaf", "main.part"
    )


def test_a_module_can_count_without_its_imports(project):
    before = lib.source_digest("other.leaf", alone=["main.step"])
    (project / "main" / "part.py").write_text("value = 2")
    assert lib.source_digest("other.leaf", alone=["main.step"]) == before
    (project / "main" / "step.py").write_text("")
    assert lib.source_digest("other.leaf", alone=["main.step"]) != before


@pytest.mark.parametrize("name", ["mian.step", "main.stepp.late", "numpy"])
def test_an_entry_that_is_not_there_is_an_error(name, project):
    with pytest.raises(ModuleNotFoundError, match="does not have"):
        lib.source_digest(name)
