"""What hot-swap tests over the network cannot bring about at will."""

import asyncio

import pytest
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ServingError
from serving.metrics import Metrics
from serving.model_manager import ModelManager, State
from serving.saved_model import SavedModel
from tests import serving_models


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "1"
    serving_models.save_half_plus_two(path)
    return path


def _config(**base_paths):
    config = model_server_config_pb2.ModelServerConfig()
    for name, path in base_paths.items():
        config.model_config_list.config.add(name=name, base_path=str(path))
    return config


def _spec(name="m"):
    return model_pb2.ModelSpec(name=name)


def test_a_directory_that_changes_while_it_is_loaded_is_loaded_again(saved, tmp_path):
    version = serving_models.push(saved, tmp_path, 1)
    loads = []

    def load(path):
        loads.append(SavedModel(path))
        if len(loads) == 1:
            (version / "late").write_text("a writer that was not done")
        return loads[-1]

    async def run():
        manager = ModelManager(load, Metrics(), settle_seconds=0.0)
        await manager.configure(_config(m=tmp_path))
        (status,) = manager.status(_spec()).model_version_status
        assert status.state == State.END
        assert "changed while it was loaded" in status.status.error_message
        with pytest.raises(ServingError, match="Servable not found"):
            manager.get(_spec())
        await manager.poll()
        assert manager.get(_spec()).model is loads[1]
        await manager.close()

    asyncio.run(run())


def test_a_broken_version_is_not_tried_at_every_poll(saved, tmp_path):
    version = serving_models.push(saved, tmp_path, 1)
    (version / "saved_model.pb").write_bytes(b"broken")
    loads = []

    def load(path):
        loads.append(path)
        return SavedModel(path)

    async def run(retry_seconds):
        loads.clear()
        manager = ModelManager(load, Metrics(), settle_seconds=0.0, retry_seconds=retry_seconds)
        await manager.configure(_config(m=tmp_path))
        await manager.poll()
        await manager.poll()
        await manager.close()
        return len(loads)

    assert asyncio.run(run(retry_seconds=60.0)) == 1
    assert asyncio.run(run(retry_seconds=0.0)) == 3


def test_the_watcher_survives_an_error(saved, tmp_path):
    serving_models.push(saved, tmp_path, 1)
    loads = []

    def load(path):
        loads.append(path)
        if len(loads) == 2:
            raise RuntimeError("a surprise")
        return SavedModel(path)

    async def run():
        manager = ModelManager(load, Metrics(), settle_seconds=0.0)
        await manager.configure(_config(m=tmp_path))
        watcher = asyncio.create_task(manager.watch(0.01))
        serving_models.push(saved, tmp_path, 2)
        while len(loads) < 3 or manager.get(_spec()).version != 2:
            assert manager.get(_spec()).is_available
            await asyncio.sleep(0.01)
        watcher.cancel()
        await manager.close()

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (_config(m=""), "needs a name and a base_path"),
        (
            model_server_config_pb2.ModelServerConfig(
                model_config_list=model_server_config_pb2.ModelConfigList(
                    config=[{"name": "m", "base_path": "/x"}, {"name": "m", "base_path": "/y"}]
                )
            ),
            "names m twice",
        ),
        (
            model_server_config_pb2.ModelServerConfig(
                model_config_list=model_server_config_pb2.ModelConfigList(
                    config=[{"name": "m", "base_path": "/x", "model_platform": "pytorch"}]
                )
            ),
            "model_platform 'pytorch'; only 'tensorflow'",
        ),
    ],
)
def test_configurations_that_cannot_be_used_change_nothing(saved, tmp_path, config, message):
    serving_models.push(saved, tmp_path, 1)

    async def run():
        manager = ModelManager(SavedModel, Metrics(), settle_seconds=0.0)
        await manager.configure(_config(good=tmp_path))
        with pytest.raises(ServingError, match=message):
            await manager.configure(config)
        assert manager.get(_spec("good")).is_available
        await manager.close()

    asyncio.run(run())
