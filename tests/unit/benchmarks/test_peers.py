"""Which uv makes the environments of the peers."""

import pytest

from benchmarks import peers


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch, tmp_path):
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))


def _executable(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    path.chmod(0o755)
    return str(path)


def test_the_uv_of_make_env_is_found(tmp_path):
    private = _executable(tmp_path / "checkout" / ".uv" / "bin" / "uv")
    assert peers.find_uv(tmp_path / "checkout") == private


def test_an_installed_uv_comes_first_and_the_variable_before_it(tmp_path, monkeypatch):
    _executable(tmp_path / "checkout" / ".uv" / "bin" / "uv")
    installed = _executable(tmp_path / "uv")
    assert peers.find_uv(tmp_path / "checkout") == installed
    monkeypatch.setenv("UV", "/opt/uv")
    assert peers.find_uv(tmp_path / "checkout") == "/opt/uv"


def test_without_any_uv_one_message_says_how_to_get_it(tmp_path):
    with pytest.raises(SystemExit, match=r"\.uv/bin/uv.*install uv"):
        peers.find_uv(tmp_path)
