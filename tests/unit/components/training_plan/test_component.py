"""What the Trainer is told of the guard rails that ask for a full training."""

import json

import pytest
from tfx.types import standard_artifacts

from components.data_gate.config import DataRailsConfig
from components.data_gate.rails import judge_features
from components.training_plan.component import TrainingPlan
from contract.guard_rails import stopping, to_json, warnings
from contract.training_report import FROM_NOTHING_BECAUSE


@pytest.mark.parametrize(("divergence", "hit"), [(0.09, False), (0.11, True)])
def test_a_rail_that_is_hit_asks_for_a_training_from_nothing(tmp_path, divergence, hit):
    limits = DataRailsConfig(full=("feature_drift",))
    findings = judge_features({("train", "age"): divergence}, limits)
    assert stopping(findings) == []
    assert bool(warnings(findings)) == hit
    gate, plan = standard_artifacts.ExampleAnomalies(), standard_artifacts.HyperParameters()
    gate.uri, plan.uri = str(tmp_path / "gate"), str(tmp_path / "plan")
    (tmp_path / "gate").mkdir()
    (tmp_path / "gate" / "findings.json").write_text(to_json(findings))
    TrainingPlan.test_call(findings=gate, plan=plan, source_digest="")
    (file,) = (tmp_path / "plan").iterdir()
    because = json.loads(file.read_text())[FROM_NOTHING_BECAUSE]
    expected = "0.110; at most 0.1 is allowed (feature_drift)"
    assert because.endswith(expected) if hit else not because


def test_a_rail_that_only_warns_asks_for_nothing():
    limits = DataRailsConfig(warn=("feature_drift",))
    (finding,) = judge_features({("train", "age"): 0.5}, limits)
    assert finding.tripped
    assert not finding.asks_full


def test_a_rail_cannot_stop_and_ask_for_a_training():
    with pytest.raises(ValueError, match="'item_drift' is in 'stop' and in 'full'"):
        DataRailsConfig(stop=("item_drift",), full=("item_drift",))
