"""Prometheus' own tool on rules, their unit tests, and the dashboard's queries."""

import re
import shutil
import subprocess

import pytest
import yaml

from tests import monitoring_files

pytestmark = pytest.mark.slow


def _promtool(*arguments):
    assert shutil.which("promtool"), (
        "promtool is not installed; it is part of Debian's package `prometheus`: apt-get update &&"
        " apt-get install --yes --no-install-recommends prometheus"
    )
    done = subprocess.run(
        ["promtool", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_the_rules_are_valid():
    assert _promtool("check", "rules", *monitoring_files.RULES).count("SUCCESS") == 2


def test_the_configuration_is_valid():
    _promtool("check", "config", monitoring_files.FOLDER / "prometheus.yaml")


@pytest.mark.parametrize("path", monitoring_files.TESTS, ids=lambda path: path.stem)
def test_the_alerts_fire_when_they_should(path):
    assert "SUCCESS" in _promtool("test", "rules", path)


def test_a_wrong_expectation_fails(tmp_path):
    """What the test above asks is asked in earnest."""
    for path in monitoring_files.FOLDER.glob("*.yaml"):
        shutil.copy(path, tmp_path)
    path = tmp_path / monitoring_files.TESTS[0].name
    text = path.read_text().replace('description: "2% of', 'description: "3% of')
    path.write_text(text)
    with pytest.raises(AssertionError, match="FAILED"):
        _promtool("test", "rules", path)


def test_the_dashboards_queries_are_valid(tmp_path):
    rules = [
        {"record": f"query_{number}", "expr": re.sub(r"\$__rate_interval", "5m", text)}
        for number, text in enumerate(monitoring_files.queries())
    ]
    path = tmp_path / "queries.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    _promtool("check", "rules", path)
