"""The GPU variant of the image: the same packages and CUDA's libraries, nothing else."""

import importlib.metadata
import re
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def _pins(name):
    lines = (_ROOT / name).read_text().splitlines()
    return {line.partition(" ;")[0] for line in lines}


def test_the_gpu_lock_adds_the_libraries_that_the_pinned_tensorflow_names():
    wanted = {
        re.sub(r"\s", "", requirement.partition(";")[0])
        for requirement in importlib.metadata.requires("tensorflow")
        if "and-cuda" in requirement
    }
    assert wanted
    assert _pins("requirements-gpu.lock") == _pins("requirements.lock") | wanted


def test_locks_hold_no_addresses():
    for name in ("requirements.lock", "requirements-gpu.lock"):
        assert not re.search(r"https?://|--index|--find-links", (_ROOT / name).read_text()), name


def test_the_dockerfile_installs_the_gpu_variant_from_its_own_lock():
    text = (_ROOT / "deploy" / "Dockerfile").read_text()
    assert "--constraints requirements${GPU:+-gpu}.lock" in text
    assert "${GPU:+--extra gpu}" in text
    ignored = (_ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = re.search(r"^COPY (.*\.lock.*) \./$", text, re.MULTILINE)[1].split()
    assert {f"!{name}" for name in copied} <= set(ignored)
    assert {"requirements.lock", "requirements-gpu.lock"} <= set(copied)
