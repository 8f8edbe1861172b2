from devtools.artifact_store import ArtifactStore, Execution


def test_artifacts_are_numbered_across_executions_and_survive_reopening(tmp_path):
    path = tmp_path / "store" / "executions.jsonl"
    store = ArtifactStore(path)
    store.publish(Execution("r1", "a", "key-a", {"x": {"uri": "u1"}, "y": {"uri": "u2"}}))
    store.publish(Execution("r1", "b", "key-b", {"z": {"uri": "u3"}}))
    reopened = ArtifactStore(path)
    reopened.publish(Execution("r2", "a", "key-a", {"x": {"uri": "u4"}, "y": {"uri": "u5"}}))
    names = [a["name"] for e in reopened.executions for a in e.outputs.values()]
    assert names == ["1", "2", "3", "4", "5"]
    assert ArtifactStore(path).executions == reopened.executions


def test_newest_execution_of_a_key_is_reused(tmp_path):
    store = ArtifactStore(tmp_path / "executions.jsonl")
    assert store.cached("key") is None
    store.publish(Execution("r1", "a", "key", {"x": {"uri": "old"}}))
    store.publish(Execution("r2", "a", "key", {"x": {"uri": "new"}}))
    assert store.cached("key").outputs["x"]["uri"] == "new"
