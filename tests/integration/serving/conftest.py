"""Models and servers of the serving integration tests."""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import serving_models
from tests.running_server import RunningServer


@pytest.fixture(scope="session")
def server(
    half_plus_two: Path, recommender: Path, shop: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningServer]:
    """Three models: ``half_plus_two`` (versions 1 and 2, labels), ``mind``, ``shop``."""
    base = tmp_path_factory.mktemp("server")
    serving_models.push(half_plus_two, base / "half_plus_two", 1)
    serving_models.push(half_plus_two, base / "half_plus_two", 2)
    serving_models.push(recommender, base / "mind", 1)
    serving_models.push(shop, base / "shop", 1)
    config = base / "models.config"
    config.write_text(
        f"""
        model_config_list {{
          config {{
            name: "half_plus_two"
            base_path: "{base}/half_plus_two"
            model_platform: "tensorflow"
            model_version_policy {{ all {{}} }}
            version_labels {{ key: "stable" value: 1 }}
          }}
          config {{ name: "mind" base_path: "{base}/mind" model_platform: "tensorflow" }}
          config {{ name: "shop" base_path: "{base}/shop" model_platform: "tensorflow" }}
        }}
        """
    )
    with RunningServer(model_config_file=str(config), max_request_bytes=2**20) as running:
        yield running


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of the loopback and its key, for TLS."""
    key, chain = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(chain), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return chain, key


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
