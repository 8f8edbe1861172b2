"""How versions come and go, step by step: every poll is one that the test asks for."""

import asyncio
import logging
import os
import shutil

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ServingError, invalid_argument
from serving.metrics import Metrics
from serving.model_manager import ModelManager
from serving.servable import State

BROKEN = b"broken"


class _Loaded:
    """Stands for a loaded model: remembers where it came from."""

    def __init__(self, path):
        self.content = (path / "saved_model.pb").read_bytes()
        if self.content == BROKEN:
            raise invalid_argument(f"{path} does not load")
        self.path = path
        self.is_closed = False

    def close(self):
        self.is_closed = True


class _Clock:
    """A clock that stands still unless it is told to go on."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def _push(base, version, content=b"model"):
    """Writes a version as the Pusher does: it appears whole."""
    staging = base / f".staging-{version}"
    staging.mkdir(parents=True)
    (staging / "saved_model.pb").write_bytes(content)
    staging.rename(base / str(version))
    return base / str(version)


def _config(**base_paths):
    config = model_server_config_pb2.ModelServerConfig()
    for name, path in base_paths.items():
        config.model_config_list.config.add(name=name, base_path=str(path))
    return config


def _parsed(text):
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def _spec(name="m"):
    return model_pb2.ModelSpec(name=name)


def _manager(load=_Loaded, **options):
    return ModelManager(load, Metrics(), **{"settle_seconds": 0.0, **options})


def _states(manager, name="m"):
    return {s.version: s.state for s in manager.status(_spec(name)).model_version_status}


def _message(manager, version, name="m"):
    spec = _spec(name)
    spec.version.value = version
    return manager.status(spec).model_version_status[0].status.error_message


def _loop(path):
    """Makes ``path`` something that nobody can read, not even root."""
    path.symlink_to(path.name)


def test_a_directory_that_changes_while_it_is_loaded_is_loaded_again(tmp_path):
    version = _push(tmp_path, 1)
    loads = []

    def load(path):
        loads.append(_Loaded(path))
        if len(loads) == 1:
            (version / "late").write_text("a writer that was not done")
        return loads[-1]

    async def scenario():
        manager = _manager(load)
        await manager.configure(_config(m=tmp_path))
        assert _states(manager) == {1: State.END}
        assert "changed while it was loaded" in _message(manager, 1)
        assert loads[0].is_closed
        with pytest.raises(ServingError, match="Servable not found"):
            manager.get(_spec())
        await manager.poll()
        assert manager.get(_spec()).model is loads[1]
        await manager.close()

    asyncio.run(scenario())


def test_a_broken_version_is_not_tried_at_every_poll(tmp_path):
    _push(tmp_path, 1, BROKEN)
    clock, loads = _Clock(), []

    def load(path):
        loads.append(path)
        return _Loaded(path)

    async def scenario():
        manager = _manager(load, retry_seconds=60.0, clock=clock)
        await manager.configure(_config(m=tmp_path))
        clock.now += 59.0
        await manager.poll()
        assert len(loads) == 1
        clock.now += 1.0
        await manager.poll()
        assert len(loads) == 2
        # What has changed is tried at once.
        (tmp_path / "1" / "saved_model.pb").write_bytes(b"repaired")
        await manager.poll()
        assert _states(manager) == {1: State.AVAILABLE}
        await manager.close()

    asyncio.run(scenario())


def test_a_load_that_fails_in_an_unforeseen_way_leaves_the_version_before(tmp_path):
    _push(tmp_path, 1)
    surprises = [RuntimeError("a surprise"), OSError(5, "Input/output error", "/a/file")]

    def load(path):
        if path.name == "2" and surprises:
            raise surprises.pop(0)
        return _Loaded(path)

    async def scenario():
        manager = _manager(load, retry_seconds=0.0)
        _push(tmp_path, 2)
        await manager.configure(_config(m=tmp_path))
        assert _states(manager) == {1: State.AVAILABLE, 2: State.END}
        assert "cannot be loaded (RuntimeError: a surprise)" in _message(manager, 2)
        await manager.poll()
        assert "/a/file cannot be read (Input/output error)" in _message(manager, 2)
        await manager.poll()
        assert manager.get(_spec()).version == 2
        await manager.close()

    asyncio.run(scenario())


def test_an_unreadable_base_path_does_not_stop_the_other_models(tmp_path, caplog):
    _loop(tmp_path / "bad")
    _push(tmp_path / "good", 1)

    async def scenario():
        manager = _manager()
        await manager.configure(_config(bad=tmp_path / "bad", good=tmp_path / "good"))
        assert _states(manager, "good") == {1: State.AVAILABLE}
        with pytest.raises(ServingError) as e:
            manager.status(_spec("bad"))
        assert e.value.code == grpc.StatusCode.NOT_FOUND
        assert "Could not find any versions of model bad: its base path" in e.value.message
        assert "cannot be read (Too many levels of symbolic links)" in e.value.message
        _push(tmp_path / "good", 2)
        await manager.poll()
        assert manager.get(_spec("good")).version == 2
        # Logged once, not at every poll.
        assert [r.model for r in caplog.records if r.msg == "base path ignored"] == ["bad"]
        # It is looked at again, and served once it can be.
        (tmp_path / "bad").unlink()
        _push(tmp_path / "bad", 1)
        await manager.poll()
        assert _states(manager, "bad") == {1: State.AVAILABLE}
        await manager.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("inside", [False, True])
def test_an_unreadable_entry_does_not_stop_other_versions(tmp_path, inside):
    _push(tmp_path, 1)
    if inside:
        _loop(_push(tmp_path, 2) / "variables")
    else:
        _loop(tmp_path / "2")

    async def scenario():
        manager = _manager()
        await manager.configure(_config(m=tmp_path))
        assert _states(manager) == {1: State.AVAILABLE, 2: State.END}
        assert "cannot be read (Too many levels of symbolic links)" in _message(manager, 2)
        await manager.close()

    asyncio.run(scenario())


def test_what_is_ignored_has_a_reason(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / str(2**63)).mkdir()
    (tmp_path / ("9" * 200)).mkdir()
    (tmp_path / "8").touch()
    _push(tmp_path, 7)
    (tmp_path / "007").mkdir()
    (tmp_path / "9").mkdir()

    async def scenario():
        manager = _manager()
        await manager.configure(_config(m=tmp_path, none=tmp_path / "none"))
        await manager.poll()
        assert _states(manager) == {7: State.START, 9: State.START}
        assert "has no saved_model.pb; it will be loaded once it has one" in _message(manager, 9)
        with pytest.raises(ServingError, match=r"none cannot be read \(No such file"):
            manager.status(_spec("none"))
        await manager.close()

    asyncio.run(scenario())
    ignored = {r.entry: r.error for r in caplog.records if r.msg == "entry ignored"}
    assert ignored.keys() == {str(2**63), "9" * 200, "8", "7"}
    assert ignored[str(2**63)] == f"a version is at most {2**63 - 1}"
    assert ignored["8"] == "it is not a directory"
    assert ignored["7"] == "007 is the same version"
    assert [r.version for r in caplog.records if r.msg == "version waits"] == [9, 7]


def test_a_version_is_not_loaded_while_it_is_being_written(tmp_path):
    _push(tmp_path, 1)
    clock = _Clock()

    async def scenario():
        # Longer than any test takes: by its files' times alone, no version settles.
        manager = _manager(settle_seconds=86_400.0, clock=clock)
        await manager.configure(_config(m=tmp_path))
        assert _states(manager) == {1: State.START}
        assert "once its files have not changed for 86400 seconds" in _message(manager, 1)
        clock.now += 86_400.0
        await manager.poll()
        assert _states(manager) == {1: State.AVAILABLE}
        (tmp_path / "2").mkdir()
        for size in (None, 1, 2):
            if size is not None:
                (tmp_path / "2" / "saved_model.pb").write_bytes(b"x" * size)
            await manager.poll()
            clock.now += 86_399.0
            await manager.poll()
            assert _states(manager) == {1: State.AVAILABLE, 2: State.START}
        clock.now += 1.0
        await manager.poll()
        assert manager.get(_spec()).version == 2
        assert manager.get(_spec()).model.content == b"xx"
        await manager.close()

    asyncio.run(scenario())


def test_deleting_the_newest_version_rolls_back(tmp_path):
    _push(tmp_path, 1)
    _push(tmp_path, 2)

    async def scenario():
        manager = _manager()
        await manager.configure(_config(m=tmp_path))
        assert manager.get(_spec()).version == 2
        shutil.rmtree(tmp_path / "2")
        await manager.poll()
        assert manager.get(_spec()).version == 1
        # But a base path that is emptied, or goes away, is not an order to stop.
        shutil.rmtree(tmp_path / "1")
        await manager.poll()
        assert manager.get(_spec()).version == 1
        os.rmdir(tmp_path)
        await manager.poll()
        assert manager.get(_spec()).version == 1
        await manager.close()

    asyncio.run(scenario())


def test_a_new_base_path_is_loaded_before_the_old_one_is_withdrawn(tmp_path):
    _push(tmp_path / "old", 1)
    _push(tmp_path / "new", 1)
    metrics, seen = Metrics(), []

    def load(path):
        if path.parent.name == "new":
            seen.append(manager.get(_spec()).path)
        return _Loaded(path)

    manager = ModelManager(load, metrics, settle_seconds=0.0)

    async def scenario():
        await manager.configure(_config(m=tmp_path / "old"))
        old = manager.get(_spec()).model
        await manager.configure(_config(m=tmp_path / "new"))
        assert seen == [tmp_path / "old" / "1"]
        assert manager.get(_spec()).path == tmp_path / "new" / "1"
        labels = {"model": "m", "version": "1"}
        name = "serving_model_version_available"
        assert metrics.registry.get_sample_value(name, labels) == 1
        await manager.close()
        assert old.is_closed

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [None, BROKEN])
def test_a_reload_that_would_leave_nothing_is_refused(tmp_path, content):
    _push(tmp_path / "old", 1)
    (tmp_path / "new").mkdir()
    if content is not None:
        _push(tmp_path / "new", 4, content)

    async def scenario():
        manager = _manager()
        await manager.configure(_config(m=tmp_path / "old"))
        with pytest.raises(ServingError, match="No version of model m can be served") as e:
            await manager.configure(_config(m=tmp_path / "new"))
        assert e.value.code == grpc.StatusCode.FAILED_PRECONDITION
        assert ("does not load" if content else "has no directory") in e.value.message
        await manager.poll()
        assert manager.get(_spec()).path == tmp_path / "old" / "1"
        await manager.close()

    asyncio.run(scenario())


def test_a_label_of_a_version_that_does_not_serve_changes_no_label(tmp_path):
    _push(tmp_path, 1)

    def labelled(**versions):
        config = _config(m=tmp_path)
        config.model_config_list.config[0].version_labels.update(versions)
        return config

    def version_of(manager, label):
        return manager.get(model_pb2.ModelSpec(name="m", version_label=label)).version

    async def scenario():
        manager = _manager()
        await manager.configure(labelled(old=1))
        with pytest.raises(ServingError, match="assign label to version 2 of model m") as e:
            await manager.configure(labelled(old=1, new=2))
        assert e.value.code == grpc.StatusCode.FAILED_PRECONDITION
        assert version_of(manager, "old") == 1
        with pytest.raises(ServingError, match="Unrecognized servable version label: new"):
            version_of(manager, "new")
        _push(tmp_path, 2)
        await manager.configure(labelled(new=2))
        assert version_of(manager, "new") == 2
        await manager.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("moves", [False, True])
def test_a_reload_waits_until_files_have_settled(tmp_path, moves):
    """For the version of a label, and for those of a new base path."""
    clock = _Clock()
    base = tmp_path / "old"
    _push(base, 1)

    async def scenario():
        manager = _manager(settle_seconds=1000.0, clock=clock)
        await manager.configure(_config(m=base))
        clock.now += 1000.0
        await manager.poll()
        assert _states(manager) == {1: State.AVAILABLE}
        new = tmp_path / "new" if moves else base
        config = _config(m=new)
        config.model_config_list.config[0].version_labels["new"] = 2
        _push(new, 2)
        reload = asyncio.create_task(manager.configure(config))
        while 2 not in manager.model("m").seen and not reload.done() and not moves:
            await asyncio.sleep(0)
        for _ in range(100):  # it has looked, and does not give up
            await asyncio.sleep(0)
        assert not reload.done()
        while not reload.done():
            clock.now += 100.0
            await asyncio.wait({reload}, timeout=0.01)
        await reload
        spec = model_pb2.ModelSpec(name="m", version_label="new")
        assert manager.get(spec).version == 2
        await manager.close()

    asyncio.run(scenario())


def test_a_reload_gives_up_on_files_that_never_settle(tmp_path):
    clock = _Clock()
    _push(tmp_path, 1)

    async def scenario():
        manager = _manager(settle_seconds=1000.0, clock=clock)
        await manager.configure(_config(m=tmp_path))
        clock.now += 1000.0
        await manager.poll()
        config = _config(m=tmp_path)
        config.model_config_list.config[0].version_labels["new"] = 2
        path = _push(tmp_path, 2)
        reload = asyncio.create_task(manager.configure(config))
        count = 0
        while not reload.done():
            count += 1
            clock.now += 900.0
            (path / "still").write_text("x" * count)
            await asyncio.wait({reload}, timeout=0.2)
        with pytest.raises(ServingError, match="assign label to version 2 of model m"):
            await reload
        await manager.close()

    asyncio.run(scenario())


def test_a_label_may_wait_for_its_version_when_the_server_starts(tmp_path):
    _push(tmp_path, 1)
    config = _config(m=tmp_path)
    config.model_config_list.config[0].version_labels["new"] = 2

    async def scenario():
        manager = _manager()
        await manager.configure(config)
        spec = model_pb2.ModelSpec(name="m", version_label="new")
        with pytest.raises(ServingError, match=r"not found for request: Specific\(m, 2\)"):
            manager.get(spec)
        _push(tmp_path, 2)
        await manager.poll()
        assert manager.get(spec).version == 2
        await manager.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (_config(m=""), "needs a name and a base_path"),
        (
            _parsed(
                "model_config_list { config { name: 'm' base_path: '/x' }"
                " config { name: 'm' base_path: '/y' } }"
            ),
            "list model m multiple times",
        ),
        (
            _parsed(
                "model_config_list {"
                " config { name: 'm' base_path: '/x' model_platform: 'pytorch' } }"
            ),
            "model_platform 'pytorch'; only 'tensorflow'",
        ),
        (_config(), "names no model"),
    ],
)
def test_configurations_that_cannot_be_used_change_nothing(tmp_path, config, message):
    _push(tmp_path, 1)

    async def scenario():
        manager = _manager()
        await manager.configure(_config(good=tmp_path))
        with pytest.raises(ServingError, match=message):
            await manager.configure(config)
        assert manager.get(_spec("good")).is_available
        await manager.close()

    asyncio.run(scenario())
