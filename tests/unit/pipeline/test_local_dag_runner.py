"""What an unchanged second run on this machine does."""

import shutil

import pytest

from tests.two_steps import TwoSteps, runs_of_importer


@pytest.fixture
def pipeline(tmp_path):
    return TwoSteps(tmp_path)


def test_an_unchanged_run_pushes_nothing_anew(pipeline):
    first = pipeline.run()
    assert len(first) == 1
    assert pipeline.run() == first
    assert len(runs_of_importer) == 1  # the second time from cache


def test_a_deleted_version_is_pushed_again_without_other_work(pipeline):
    (first,) = pipeline.run()
    shutil.rmtree(pipeline.layout.serving_models / first)
    assert len(pipeline.run()) == 1
    assert len(runs_of_importer) == 1


def test_a_step_whose_output_was_deleted_runs_again(pipeline):
    pipeline.run()
    shutil.rmtree(pipeline.layout.pipeline_root / "importer" / "model")
    pipeline.run()
    assert len(runs_of_importer) == 2
