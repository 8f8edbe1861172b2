"""What all tests share: set-up, models that are built once, and the order of files."""

import os
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import model  # noqa: F401  (selects Keras 2 before TensorFlow is imported)
from tests.shared import built_once

# No test may depend on the speed of the machine.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")

_ROOT = Path(__file__).resolve().parents[1]
# The files that take longest, the longest first (see CONTRIBUTING.md): workers that take
# one file after another then end at about the same time.
_LONGEST_FILES = (
    "tests/e2e/test_local_run.py",
    "tests/unit/item_refresh/test_refresh.py",
    "tests/unit/model/tfx_functions/test_trainer.py",
    "tests/integration/serving/test_history_times.py",
    "tests/e2e/faults/test_data_faults.py",
    "tests/e2e/faults/test_model_faults.py",
    "tests/unit/model/training/test_loop.py",
    "tests/unit/components/example_gen/test_bad_input.py",
    "tests/integration/serving/test_hot_swap.py",
    "tests/unit/model/tfx_functions/test_final_training.py",
    "tests/unit/model/training/test_warm_start.py",
    "tests/unit/model/network/test_mind.py",
    "tests/unit/serving/test_live_model.py",
)


def pytest_collection_finish() -> None:
    """Keeps AutoGraph from rewriting Keras 2, which it does not know by the name ``tf_keras``.

    It leaves ``keras`` as it is. Rewriting it takes longer than most trainings of the tests.
    """
    from tensorflow.python.autograph.core import config

    config.CONVERSION_RULES = (config.DoNotConvert("tf_keras"), *config.CONVERSION_RULES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first; the order within a file stays."""
    missing = [name for name in _LONGEST_FILES if not (_ROOT / name).is_file()]
    if missing:
        raise pytest.UsageError(f"tests/conftest.py lists test files that are not there: {missing}")
    place = {_ROOT / name: number for number, name in enumerate(_LONGEST_FILES)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved ``serving_models.save_half_plus_two``; copy it before changing it."""
    from tests import serving_models

    return built_once(tmp_path_factory, "half_plus_two", serving_models.save_half_plus_two)


@pytest.fixture(scope="session")
def recommender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved ``serving_models.save_recommender``; copy it before changing it."""
    from tests import serving_models

    return built_once(tmp_path_factory, "recommender", serving_models.save_recommender)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved bundle whose items have categories; copy it before changing it."""
    from tests.category_bundle import save_category_bundle

    return built_once(tmp_path_factory, "shop", save_category_bundle)


@pytest.fixture(scope="session")
def live_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``shop``, with a catalogue that can be changed."""
    from tests.category_bundle import save_category_bundle

    return built_once(
        tmp_path_factory, "live_shop", lambda path: save_category_bundle(path, live_catalogue=True)
    )


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``trained_export.export`` wrote; copy it before changing it."""
    from tests import trained_export

    return built_once(tmp_path_factory, "trained", trained_export.export)


@pytest.fixture(scope="session")
def pushed_exact(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """Where the bundle of ``trained`` is pushed; copy it before changing it."""
    from tests import trained_export

    return built_once(
        tmp_path_factory, "pushed_exact", lambda base: trained_export.push_bundle(trained, base)
    )


@pytest.fixture(scope="session")
def trained_with_times(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As ``trained``, of a model that reads times."""
    from tests import trained_export

    return built_once(
        tmp_path_factory,
        "trained_with_times",
        lambda folder: trained_export.export(folder, time_gap=True),
    )


@pytest.fixture(scope="session")
def pushed_with_times(tmp_path_factory: pytest.TempPathFactory, trained_with_times: Path) -> Path:
    """Where the bundle of ``trained_with_times`` is pushed; copy it before changing it."""
    from tests import trained_export

    return built_once(
        tmp_path_factory,
        "pushed_with_times",
        lambda base: trained_export.push_bundle(trained_with_times, base),
    )


@pytest.fixture
def object_store() -> str:
    """URI of an empty place in TensorFlow's file system in memory.

    Like ``s3://`` and ``gs://``, it cannot be opened by Python's own functions. Unlike
    them, it keeps empty directories.
    """
    return f"ram://bucket/{uuid.uuid4().hex}"
