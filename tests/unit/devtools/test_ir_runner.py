import json

import pytest

from devtools import executor_input, ir_runner
from pipeline.kubeflow import spec
from tests import kubeflow_recordings
from tests.unit.pipeline.kubeflow.pipelines import to_yaml, two_steps

# Both read ExecutorInput from their last argument, as the launcher passes it.
_PRELUDE = """
import json, os, sys
ei = json.loads(sys.argv[-1])
def local(uri): return os.environ["KFP_LAUNCHER_ROOT"] + uri.replace("minio://", "/minio/")
def out(key): return local(ei["outputs"]["artifacts"][key]["artifacts"][0]["uri"])
"""
_FIRST = (
    _PRELUDE
    + """
open(out("data"), "w").write("steps=%s" % ei["inputs"]["parameterValues"]["steps"])
json.dump({"artifacts": {"data": {"artifacts": [{"metadata": {"split": "train"}}]}}},
          open(ei["outputs"]["outputFile"], "w"))
"""
)
_SECOND = (
    _PRELUDE
    + """
data = ei["inputs"]["artifacts"]["data"]["artifacts"][0]
text = open(local(data["uri"])).read()
open(out("result"), "w").write("%s %s" % (text, data["metadata"]["split"]))
"""
)


def _python(code):
    return ["python", "-c", code]


def _runner(tmp_path, first=_FIRST, second=_SECOND, edit=None, **options):
    pipeline = two_steps(_python(first), _python(second))
    if edit:
        edit(pipeline)
    return ir_runner.IrRunner(spec.parse(to_yaml(pipeline)), tmp_path, **options)


def _states(results):
    return {name: result.state for name, result in results.items()}


def test_artifacts_and_metadata_travel_from_step_to_step(tmp_path):
    runner = _runner(tmp_path)
    results = runner.run({"steps": 3})
    assert _states(results) == {"first": "succeeded", "second": "succeeded"}
    path = runner.output_path(results["second"], "result")
    assert path.is_relative_to(tmp_path / "pod" / "minio" / "bucket" / "root" / "tiny")
    assert path.read_text() == "steps=3 train"


def test_executor_input_is_what_the_launcher_builds(tmp_path):
    runner = _runner(tmp_path)
    runner.run({})
    run = tmp_path / "runs" / runner.run_id
    first = json.loads((run / "first" / "executor_input.json").read_text())
    assert first["inputs"]["parameterValues"] == {"constant": "fixed", "steps": 10}
    outputs = first["outputs"]["artifacts"]
    assert set(outputs) == {"data", "executor-logs"}
    assert outputs["executor-logs"]["artifacts"][0]["type"] == {"schemaTitle": "system.Artifact"}
    assert outputs["data"]["artifacts"][0]["uri"].startswith(
        f"minio://bucket/root/tiny/{runner.run_id}/first/"
    )
    second = json.loads((run / "second" / "executor_input.json").read_text())
    (data,) = second["inputs"]["artifacts"]["data"]["artifacts"]
    assert data["name"] == "1"
    assert data["uri"] == outputs["data"]["artifacts"][0]["uri"]


def _form(value, path=()):
    """Keys and types of an ExecutorInput, with what differs between pipelines left out."""
    if isinstance(value, dict):
        if path[-1:] == ("metadata",):  # beside what Kubeflow puts there, what the step wrote
            value = {k: value[k] for k in ("display_name", "store_session_info")}
        if path[-1:] == ("type",):
            return value if not any(value.values()) else "a type"
        named = path in (("inputs", "artifacts"), ("outputs", "artifacts"))
        return {
            "*" if named and key != "executor-logs" else key: _form(child, (*path, key))
            for key, child in value.items()
            if (*path, key) != ("inputs", "parameterValues")
        }
    if isinstance(value, list):
        return [_form(child, path) for child in value]
    if path[-1:] == ("store_session_info",):
        return _form(json.loads(value))
    return type(value).__name__


@pytest.mark.parametrize(("ours", "real"), [("first", "example-gen"), ("second", "statistics-gen")])
def test_executor_input_has_the_form_of_what_kubeflow_sent(tmp_path, ours, real):
    runner = _runner(tmp_path)
    runner.run({})
    path = tmp_path / "runs" / runner.run_id / ours / "executor_input.json"
    built = json.loads(path.read_text())
    recorded = kubeflow_recordings.step(real)["executor_input"]
    assert _form(built) == _form(recorded)


@pytest.mark.parametrize("real", kubeflow_recordings.STEPS)
def test_the_output_file_is_beside_the_artifacts(tmp_path, real):
    """As in the recording, so that remote Beam workers and the launcher find it."""
    recorded = kubeflow_recordings.step(real)["executor_input"]["outputs"]
    assert recorded["outputFile"] == executor_input.output_file(recorded, "")


def test_failing_step_stops_the_rest_and_shows_its_error(tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    failing = "import sys; print('no more memory'); sys.exit(3)"
    path.write_text(to_yaml(two_steps(_python(failing), _python(_SECOND))))
    assert ir_runner.main([str(path), "--root", str(tmp_path / "root")]) == 1
    captured = capsys.readouterr()
    assert "Step first failed: exit code 3" in captured.err
    assert "no more memory" in captured.err
    assert "second" in captured.out
    assert "skipped" in captured.out


def test_second_run_is_served_from_cache(tmp_path):
    first = _runner(tmp_path).run({})
    second = _runner(tmp_path).run({})
    assert _states(second) == {"first": "cached", "second": "cached"}
    assert second["second"].outputs == first["second"].outputs


def test_other_parameter_misses_the_cache_and_so_does_what_follows(tmp_path):
    _runner(tmp_path).run({})
    assert _states(_runner(tmp_path).run({"steps": 11})) == {
        "first": "succeeded",
        "second": "succeeded",
    }


def test_step_without_caching_runs_again_with_all_that_follows(tmp_path):
    def edit(pipeline):
        pipeline["root"]["dag"]["tasks"]["first"]["cachingOptions"]["enableCache"] = False

    _runner(tmp_path, edit=edit).run({})
    assert _states(_runner(tmp_path, edit=edit).run({})) == {
        "first": "succeeded",
        "second": "succeeded",
    }


def test_cache_can_be_left_unused(tmp_path):
    _runner(tmp_path).run({})
    assert set(_states(_runner(tmp_path, use_cache=False).run({})).values()) == {"succeeded"}


@pytest.mark.parametrize(("retries", "state"), [(0, "failed"), (1, "succeeded")])
def test_retry_policy(tmp_path, retries, state):
    fails_once = (
        "import os, sys\n"
        f"p = {str(tmp_path / 'tried')!r}\n"
        "if not os.path.exists(p): open(p, 'w'); sys.exit(1)\n"
    ) + _FIRST

    def edit(pipeline):
        pipeline["root"]["dag"]["tasks"]["first"]["retryPolicy"] = {"maxRetryCount": retries}

    assert _runner(tmp_path, first=fails_once, edit=edit).run({})["first"].state == state


def test_until_runs_a_step_and_what_it_needs(tmp_path):
    assert list(_runner(tmp_path).run({}, until="first")) == ["first"]
    assert list(_runner(tmp_path).run({}, until="second")) == ["first", "second"]
    with pytest.raises(spec.SpecError, match="no step 'third'; steps: first, second"):
        _runner(tmp_path).run({}, until="third")


def test_environment_of_the_container_reaches_the_step(tmp_path):
    def edit(pipeline):
        container = pipeline["deploymentSpec"]["executors"]["first_executor"]["container"]
        container["env"] = [{"name": "GREETING", "value": "hello"}]

    code = _PRELUDE + "open(out('data'), 'w').write(os.environ['GREETING'])"
    runner = _runner(tmp_path, first=code, second="", edit=edit)
    results = runner.run({})
    assert runner.output_path(results["first"], "data").read_text() == "hello"


def test_tasks_in_a_circle_are_refused(tmp_path):
    def edit(pipeline):
        pipeline["root"]["dag"]["tasks"]["first"]["dependentTasks"] = ["second"]

    with pytest.raises(spec.SpecError, match="depend on each other"):
        _runner(tmp_path, edit=edit).run({})


def test_output_of_unknown_form_is_refused(tmp_path):
    """The launcher parses what a step writes strictly."""
    code = _PRELUDE + 'json.dump({"artefacts": {}}, open(ei["outputs"]["outputFile"], "w"))'
    result = _runner(tmp_path, first=code).run({})["first"]
    assert result.state == "failed"
    assert "artefacts" in result.error


def test_bad_parameter_is_refused_before_anything_runs(tmp_path, capsys):
    path = tmp_path / "tiny.yaml"
    path.write_text(to_yaml(two_steps(_python(_FIRST), _python(_SECOND))))
    root = tmp_path / "root"
    assert ir_runner.main([str(path), "--root", str(root), "--param", "steps=x"]) == 2
    assert "steps: expected NUMBER_INTEGER" in capsys.readouterr().err
    assert not root.exists()
