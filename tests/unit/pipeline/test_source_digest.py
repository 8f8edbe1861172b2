"""The digest follows the code and only the code."""

import pytest

from pipeline import source_digest as lib


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.setattr(lib, "_ROOT", tmp_path)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "capsule.py").write_text("a = 1\n")
    (tmp_path / "model" / "notes.md").write_text("text\n")
    (tmp_path / "other.py").write_text("b = 1\n")
    return tmp_path


def test_edited_code_changes_it(project):
    before = lib.source_digest("model")
    (project / "model" / "capsule.py").write_text("a = 2\n")
    assert lib.source_digest("model") != before


def test_renamed_file_changes_it(project):
    before = lib.source_digest("model")
    (project / "model" / "capsule.py").rename(project / "model" / "routing.py")
    assert lib.source_digest("model") != before


def test_other_files_do_not(project):
    before = lib.source_digest("model")
    (project / "model" / "notes.md").write_text("other\n")
    (project / "other.py").write_text("b = 2\n")
    assert lib.source_digest("model") == before


def test_order_of_places_does_not_matter(project):
    assert lib.source_digest("model", "other.py") == lib.source_digest("other.py", "model")


def test_missing_place_is_an_error(project):
    with pytest.raises(FileNotFoundError, match="'modle'"):
        lib.source_digest("modle")
