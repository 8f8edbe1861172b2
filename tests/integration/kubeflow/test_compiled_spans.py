"""Days of a log on the compiled pipeline, with a roll-back, beside the same days run locally."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from components.example_gen.report import FILE_NAME as INGEST_REPORT
from contract import manifest
from devtools.ir_runner import IrRunner, TaskResult
from pipeline import config as config_lib
from pipeline.kubeflow import spec
from pipeline.kubeflow.compile import compile_pipeline
from pipeline.output_layout import OutputLayout
from retrieval.manifest import read_manifest
from retrieval.versions import complete_versions
from serving import release
from tests.e2e import planted

pytestmark = pytest.mark.slow

_ROOT = Path(__file__).resolve().parents[3]
_IMAGE = "registry/mind@sha256:" + "0" * 64
_NAME = "mind"
_DAYS = ("2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26")
_RUNS = _DAYS[1:]  # before the first day there is nothing to train on
_PEOPLE = 300
# Beam adds up people in any order, which shows in the sixteenth digit.
_DIGITS = 12


def _push_days(base: Path, run_day: Callable[[str], None]) -> dict[str, dict[str, Any]]:
    """Runs each day, and rolls the third version back before the fourth run.

    Returns:
      The manifest of each version that was pushed, in their order.
    """
    found = {}
    for number, day in enumerate(_RUNS):
        if number == 3:
            assert release.main(["rollback", f"--model_base_path={base}", "--reason=bad"]) == 0
        run_day(day)
        version = complete_versions(str(base))[-1]
        assert version not in found, f"{day} pushed nothing"
        facts = read_manifest(str(base / version))
        assert facts is not None
        found[version] = facts
    return found


class Compiled:
    """The runs of one compiled file."""

    def __init__(self, logs: Path, folder: Path):
        settings = {
            **planted.settings_of_days(logs),
            "kubeflow.storage_root": str(folder / "storage"),
        }
        config = config_lib.load(None, flags=settings)
        compiled = compile_pipeline(config, _IMAGE).write(folder / "mind.yaml")
        self._pipeline = spec.load(compiled)
        self._runner = IrRunner(self._pipeline, folder / "ir")
        self._folder = folder
        self.results: list[dict[str, TaskResult]] = []
        self.pushed = _push_days(folder / "storage" / "serving_models" / _NAME, self._run)

    def _run(self, day: str) -> None:
        results = IrRunner(self._pipeline, self._folder / "ir").run({"span": day})
        assert {result.state for result in results.values()} == {"succeeded"}, results
        self.results.append(results)

    def file(self, number: int, step: str, output: str, name: str) -> Path:
        """A file that a step of the run with this number has written."""
        return self._runner.output_path(self.results[number][step], output) / name


def _run_locally(logs: Path, folder: Path) -> dict[str, dict[str, Any]]:
    layout = OutputLayout(folder / "output", _NAME)

    def run_day(day: str) -> None:
        command = [
            sys.executable,
            "local_runner.py",
            *planted.flags_of_days(logs),
            f"--output_dir={layout.output}",
            f"--span={day}",
            "--require_push",
        ]
        subprocess.run(command, cwd=_ROOT, check=True)

    return _push_days(layout.serving_models, run_day)


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    planted.write_days(folder, _DAYS, _PEOPLE)
    return folder


@pytest.fixture(scope="module")
def compiled(logs, tmp_path_factory):
    return Compiled(logs, tmp_path_factory.mktemp("compiled"))


def test_each_day_reads_one_span_and_goes_on_from_the_day_before(compiled):
    windows = [facts[manifest.DATA]["window"] for facts in compiled.pushed.values()]
    assert windows == [
        {"first": first, "last": last, "spans": 2} for first, last in itertools.pairwise(_DAYS)
    ]
    reports = [
        json.loads(compiled.file(number, "example-gen", "examples", INGEST_REPORT).read_text())
        for number in range(len(_RUNS))
    ]
    read_now = [
        [span["name"] for span in report["window"]["spans"] if span["read_now"]]
        for report in reports
    ]
    assert read_now == [list(_DAYS[:2]), *([day] for day in _DAYS[2:])]


def test_after_a_roll_back_a_run_compares_with_the_good_version(compiled):
    first, second, third, _ = compiled.pushed
    baselines = [
        results["last-pushed"].outputs["model"]["metadata"]["version"]
        for results in compiled.results
    ]
    assert baselines == ["", first, second, second]
    assert third not in baselines
    # It also goes on from the good one: the second training after the one from nothing, again.
    generations = [facts[manifest.GENERATION] for facts in compiled.pushed.values()]
    assert generations == [0, 1, 2, 2]


def test_metrics_of_every_day_are_those_of_the_local_runs(compiled, logs, tmp_path):
    local = _run_locally(logs, tmp_path)
    for facts, expected in zip(compiled.pushed.values(), local.values(), strict=True):
        assert _values(facts) == _values(expected)


def _values(facts: dict[str, Any]) -> dict[str, float]:
    """Every metric, and the primary one of every slice."""
    named = {**facts[manifest.METRICS], **facts[manifest.SLICES]}
    return {
        name: round(found["value"], _DIGITS) for name, found in named.items() if "value" in found
    }
