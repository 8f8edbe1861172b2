"""The manager follows the release state, and never lets it take away what serves."""

import contextlib
import shutil

import pytest

from contract import release_changes, release_file
from contract.release import CanaryLimits, ReleaseState
from serving.errors import ServingError
from serving.model_config import model_server_config
from tests.unit.serving.release_world import World, scenario
from tests.unit.serving.test_model_manager import BROKEN, _config, _Loaded, _parsed, _push, _spec


def test_a_roll_back_is_served_and_survives_a_restart(tmp_path):
    world = World(tmp_path)

    async def steps():
        assert await world.starts() == 9
        world.change(release_changes.roll_back, reason="bad")
        assert await world.polls() == 7
        assert world.available() == [7]
        assert world.labelled("stable") == 7
        assert world.metric("serving_release_version", label="stable") == 7
        _push(tmp_path, 11)
        assert await world.polls() == 11
        world.change(release_changes.roll_back, reason="bad", to=5)
        assert await world.polls() == 5

    scenario(world, steps)
    again = World(tmp_path, versions=())

    async def after_a_restart():
        assert await again.starts() == 5

    scenario(again, after_a_restart)


def test_the_version_before_answers_until_the_other_one_is_loaded(tmp_path):
    seen = []

    def load(path):
        if path.name == "7":
            seen.append((world.serving(), world.labelled("stable")))
        return _Loaded(path)

    world = World(tmp_path, load=load)

    async def steps():
        await world.starts()
        world.change(release_changes.roll_back, reason="bad")
        assert await world.polls() == 7
        assert seen == [(9, 9)]

    scenario(world, steps)


def test_a_pin_keeps_what_is_pushed_later_from_being_served(tmp_path):
    world = World(tmp_path)

    async def steps():
        world.change(release_changes.pin, 7)
        assert await world.starts() == 7
        _push(tmp_path, 11)
        assert await world.polls() == 7
        world.change(release_changes.unpin)
        assert await world.polls() == 11

    scenario(world, steps)


def test_a_canary_is_loaded_beside_the_stable_version(tmp_path):
    world = World(tmp_path)
    trial = {"share": 0.5, "limits": CanaryLimits()}

    async def steps():
        await world.starts()
        with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
            world.labelled("canary")
        world.change(release_changes.start_canary, 9, **trial)
        assert await world.polls() == 7
        assert world.available() == [7, 9]
        assert (world.labelled("stable"), world.labelled("canary")) == (7, 9)
        release_file.change(
            tmp_path, lambda s: release_changes.end_canary(s, by="x", reason="errors")
        )
        assert await world.polls() == 7
        assert world.available() == [7]
        assert world.metric("serving_release_version", label="canary") is None

    scenario(world, steps)


@pytest.mark.parametrize("content", [b"{", b'{"format": 99}', b"\xff"])
def test_a_damaged_state_changes_nothing_and_is_reported(tmp_path, content, caplog):
    world = World(tmp_path)
    world.change(release_changes.roll_back, reason="bad")
    good = (tmp_path / "release.json").read_bytes()

    async def steps():
        assert await world.starts() == 7
        assert world.problem() == ""
        (tmp_path / "release.json").write_bytes(content)
        for _ in range(2):
            assert await world.polls() == 7
        assert "release.json cannot be used" in world.problem()
        assert world.metric("serving_release_problem") == 1
        reported = [r for r in caplog.records if r.msg == "release state not followed"]
        assert len(reported) == 1
        # The last state that could be read holds for what is pushed now, too.
        _push(tmp_path, 11)
        assert await world.polls() == 11
        (tmp_path / "release.json").write_bytes(good)
        assert await world.polls() == 11
        assert (world.problem(), world.metric("serving_release_problem")) == ("", 0)

    scenario(world, steps)
    # A server that starts with a damaged file serves what there is.
    (tmp_path / "release.json").write_bytes(content)
    again = World(tmp_path, versions=())

    async def after_a_restart():
        assert await again.starts() == 11
        assert "release.json cannot be used" in again.problem()

    scenario(again, after_a_restart)


def test_an_unreadable_state_changes_nothing(tmp_path):
    world = World(tmp_path)
    world.change(release_changes.roll_back, reason="bad")

    async def steps():
        await world.starts()
        (tmp_path / "release.json").unlink()
        (tmp_path / "release.json").symlink_to("release.json")
        assert await world.polls() == 7
        assert "cannot be read (Too many levels of symbolic links)" in world.problem()

    scenario(world, steps)


def test_a_pin_on_what_is_not_there_leaves_what_serves(tmp_path):
    world = World(tmp_path)

    async def steps():
        await world.starts()
        world.change(release_changes.pin, 5)
        shutil.rmtree(tmp_path / "5")
        assert await world.polls() == 9
        assert world.problem() == "version 5 should be stable, but does not exist"
        _push(tmp_path, 5)
        assert await world.polls() == 5
        assert world.problem() == ""

    scenario(world, steps)


def test_a_roll_back_to_a_version_that_does_not_load(tmp_path):
    world = World(tmp_path, versions=())
    _push(tmp_path, 7, BROKEN)
    _push(tmp_path, 9)

    async def steps():
        await world.starts()
        world.change(release_changes.roll_back, reason="bad")
        assert await world.polls() == 9
        assert "version 9 was withdrawn but stays in service" in world.problem()
        _push(tmp_path, 5)
        assert await world.polls() == 5
        assert world.problem() == ""

    scenario(world, steps)


def test_a_pin_on_what_does_not_load_leaves_what_serves(tmp_path):
    world = World(tmp_path)
    (tmp_path / "7" / "saved_model.pb").write_bytes(BROKEN)

    async def steps():
        await world.starts()
        world.change(release_changes.pin, 7)
        assert await world.polls() == 9
        assert "version 7 should be stable, but" in world.problem()
        assert "does not load" in world.problem()

    scenario(world, steps)


def test_a_canary_that_does_not_load_takes_no_traffic(tmp_path):
    world = World(tmp_path)
    (tmp_path / "7" / "saved_model.pb").write_bytes(BROKEN)

    async def steps():
        await world.starts()
        world.change(release_changes.start_canary, 7, share=0.5, limits=CanaryLimits())
        assert await world.polls() == 9
        with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
            world.labelled("canary")
        assert "version 7 should be canary, but" in world.problem()

    scenario(world, steps)


def test_a_canary_that_is_still_being_written_is_no_problem(tmp_path):
    world = World(tmp_path)

    async def steps():
        await world.starts()
        (tmp_path / "11").mkdir()
        world.change(release_changes.start_canary, 11, share=0.5, limits=CanaryLimits())
        assert await world.polls() == 9
        assert world.problem() == ""
        (tmp_path / "11" / "saved_model.pb").touch()
        await world.polls()
        assert world.labelled("canary") == 11

    scenario(world, steps)


def test_of_withdrawn_versions_alone_a_server_starts_none(tmp_path):
    world = World(tmp_path, versions=(7, 9))
    world.change(release_changes.roll_back, reason="bad")
    shutil.rmtree(tmp_path / "7")

    async def steps():
        with contextlib.suppress(ServingError):
            await world.starts()
        with pytest.raises(ServingError, match="every version is withdrawn; promote one"):
            world.manager.status(_spec())
        assert not world.manager.is_ready()
        world.change(release_changes.promote, 9)
        assert await world.polls() == 9

    scenario(world, steps)


@pytest.mark.parametrize(
    ("policy", "available", "stable"),
    [
        ("latest { num_versions: 2 }", [5, 7], 7),
        ("all { }", [5, 7], 7),
        # Versions that the server's configuration names go before the release state.
        ("specific { versions: 5 versions: 9 }", [5, 9], 9),
    ],
)
def test_the_state_works_with_the_version_policies(tmp_path, policy, available, stable):
    world = World(tmp_path)
    world.change(release_changes.roll_back, reason="bad")
    config = _parsed(
        f"model_config_list {{ config {{ name: 'm' base_path: '{tmp_path}'"
        f" model_version_policy {{ {policy} }} }} }}"
    )

    async def steps():
        assert await world.starts(config) == stable
        assert (world.available(), world.labelled("stable")) == (available, stable)
        assert world.problem() == ""

    scenario(world, steps)


def test_the_configuration_for_tf_serving_serves_the_same(tmp_path):
    world = World(tmp_path)
    world.change(release_changes.start_canary, 9, share=0.5, limits=CanaryLimits())
    text = model_server_config(
        release_file.read(tmp_path), [5, 7, 9], name="m", base_path=str(tmp_path)
    )

    async def steps():
        await world.starts(_parsed(text))
        assert world.available() == [7, 9]
        assert (world.labelled("stable"), world.labelled("canary")) == (7, 9)

    scenario(world, steps)


def test_configured_labels_go_before_those_of_the_state(tmp_path):
    world = World(tmp_path)
    config = _parsed(
        f"model_config_list {{ config {{ name: 'm' base_path: '{tmp_path}'"
        " model_version_policy { all { } } version_labels { key: 'stable' value: 5 } } }"
    )

    async def steps():
        assert await world.starts(config) == 9
        assert world.labelled("stable") == 5

    scenario(world, steps)


def test_the_state_stays_in_force_when_the_configuration_is_reloaded(tmp_path):
    world = World(tmp_path)
    world.change(release_changes.roll_back, reason="bad")

    async def steps():
        await world.starts()
        (tmp_path / "release.json").write_text("{")
        assert await world.starts() == 7
        assert world.metric("serving_release_version", label="stable") == 7
        # A model that is configured no longer leaves nothing in the metrics.
        await world.manager.configure(_config(other=tmp_path))
        assert world.metric("serving_release_version", label="stable") is None
        assert world.metric("serving_release_problem") is None

    assert release_file.read(tmp_path) != ReleaseState()
    scenario(world, steps)
