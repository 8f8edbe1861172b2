"""The servers that the conformance tests ask."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests import serving_models
from tests.conformance import models
from tests.conformance.cases import HALF_PLUS_TWO, MODEL, OLD_VERSION, VERSION
from tests.running_server import RunningServer


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Below it are both models, ``half_plus_two`` in two versions."""
    base = tmp_path_factory.mktemp("conformance")
    models.save_zoo(base / "saved_zoo")
    models.save_half_plus_two(base / "saved")
    serving_models.push(base / "saved_zoo", base / MODEL, VERSION)
    for version in (OLD_VERSION, VERSION):
        serving_models.push(base / "saved", base / HALF_PLUS_TWO, version)
    return base


@pytest.fixture(scope="session")
def server(base: Path) -> Iterator[RunningServer]:
    config = base / "models.config"
    listed = models.model_config(base, MODEL) + models.model_config(
        base, HALF_PLUS_TWO, OLD_VERSION
    )
    config.write_text(f"model_config_list {{ {listed} }}")
    with RunningServer(
        model_config_file=str(config), max_request_bytes=2**20, allow_reload=True
    ) as running:
        yield running


@pytest.fixture(scope="session")
def cors_server(base: Path) -> Iterator[RunningServer]:
    with RunningServer(
        model_name=HALF_PLUS_TWO,
        model_base_path=str(base / HALF_PLUS_TWO),
        rest_api_enable_cors_support=True,
    ) as running:
        yield running


@pytest.fixture(scope="session")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc_address) as channel:
        yield channel
