"""``python -m serving.release``: what it prints, changes and refuses."""

import json

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from contract import release_file
from serving import release


@pytest.fixture
def base(tmp_path):
    for version in ("5", "7", "9"):
        (tmp_path / version).mkdir()
        (tmp_path / version / "saved_model.pb").touch()
    (tmp_path / "11").mkdir()  # not complete
    return tmp_path


@pytest.fixture
def run(base, capsys):
    def call(command, *flags):
        code = release.main([command, "--model_base_path", str(base), *flags])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def _status(run):
    code, out, _ = run("status", "--json")
    assert code == 0
    return json.loads(out)


def test_a_roll_back_is_one_command(run, base):
    assert _status(run)["stable"] == 9
    code, out, err = run("rollback", "--reason", "empty answers", "--by", "ann")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "Withdrew 9 (empty answers); 7 is stable."
    after = _status(run)
    assert (after["stable"], after["rollback_to"], after["in_use"]) == (7, 5, [5, 7])
    assert after["withdrawn"]["9"]["by"] == "ann"
    shown = run("status")[1].splitlines()
    assert shown[0].startswith("  9  withdrawn ")
    assert shown[1:] == ["  7  stable", "  5  a roll-back would go here"]


def test_what_would_leave_nothing_to_serve_is_refused(run, base):
    run("rollback")
    run("rollback")
    before = (base / "release.json").read_bytes()
    code, out, err = run("rollback")
    assert (code, out) == (1, "")
    assert err.startswith("Nothing was changed: Version 5 cannot be rolled back")
    assert (base / "release.json").read_bytes() == before


def test_a_trial_from_its_start_to_its_end(run, base):
    code, out, _ = run("promote", "9", "--canary", "0.05", "--min_requests", "50")
    assert (code, out.splitlines()[0]) == (
        0,
        "Put 9 on trial with a share of 0.05; 7 is stable.",
    )
    assert "  9  canary, share 0.05\n  7  stable, held during the trial\n" in out
    canary = release_file.read(base).canary
    assert (canary.limits.min_requests, canary.limits.max_latency_ratio) == (50, 2.0)
    code, _, err = run("rollback")
    assert code == 1
    assert "Version 7 is stable and 9 is on trial; say which one to withdraw" in err
    code, out, _ = run("rollback", "canary", "--reason", "slow")
    assert (code, out.splitlines()[0]) == (0, "Withdrew the canary 9 (slow).")
    assert run("promote", "9")[0] == 0
    assert _status(run)["stable"] == 9


def test_pin_and_unpin(run):
    assert run("pin", "7")[1].splitlines()[0] == "Pinned 7."
    assert (_status(run)["stable"], _status(run)["pinned"]) == (7, 7)
    assert run("unpin")[0] == 0
    assert (_status(run)["stable"], _status(run)["pinned"]) == (9, None)
    assert run("unpin")[0] == 1


def test_the_configuration_of_stock_tf_serving(run, base):
    run("promote", "9", "--canary", "0.05")
    code, out, err = run("model_config", "--model_name", "shop", "--served_path", "/models/shop")
    assert (code, err) == (0, "")
    config = text_format.Parse(out, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path, model.model_platform) == (
        *("shop", "/models/shop", "tensorflow"),
    )
    assert list(model.model_version_policy.specific.versions) == [7, 9]
    assert dict(model.version_labels) == {"stable": 7, "canary": 9}
    run("rollback", "canary")
    out = run("model_config")[1]
    config = text_format.Parse(out, model_server_config_pb2.ModelServerConfig())
    (model,) = config.model_config_list.config
    assert (model.name, model.base_path) == ("mind", str(base))
    assert list(model.model_version_policy.specific.versions) == [7]
    assert dict(model.version_labels) == {"stable": 7}


def test_a_damaged_state_and_a_missing_directory_are_named(run, base, capsys):
    (base / "release.json").write_text("{")
    for command in ("status", "rollback"):
        code, _, err = run(command)
        assert code == 1
        assert f"The release state {base}/release.json cannot be used" in err
    assert release.main(["status", "--model_base_path", str(base / "none")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert release.main(["status", "--model_base_path", "gs://bucket/mind"]) == 1
    assert "is in an object store" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ["rollback"],
        ["promote", "--model_base_path", "x", "nine"],
        ["promote", "--model_base_path", "x", "9", "--min_requests", "5"],
        [],
    ],
)
def test_wrong_usage_is_2(flags):
    with pytest.raises(SystemExit) as e:
        release.main(flags)
    assert e.value.code == 2


def test_every_limit_has_a_flag():
    fields = release.CanaryLimits.__dataclass_fields__
    assert set(release._LIMIT_HELP) == set(fields)
