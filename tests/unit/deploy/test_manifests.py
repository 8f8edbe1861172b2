"""The manifests of deploy/kustomize, and what their containers run."""

import subprocess
from pathlib import Path

import pytest
import yaml

_BASE = Path(__file__).resolve().parents[3] / "deploy" / "kustomize" / "base"
_PIPELINE_USER = 10001


def _manifests():
    names = yaml.safe_load((_BASE / "kustomization.yaml").read_text())["resources"]
    return {
        (document["kind"], document["metadata"]["name"]): document
        for name in names
        for document in yaml.safe_load_all((_BASE / name).read_text())
    }


@pytest.fixture(scope="module")
def manifests():
    return _manifests()


def _pod(manifests, kind, name):
    return manifests[kind, name]["spec"]["template"]["spec"]


def test_the_server_is_not_started_before_the_first_push(manifests, tmp_path):
    """Runs the init container's script; the pause is where the push happens."""
    (wait,) = _pod(manifests, "Deployment", "mind-serving")["initContainers"]
    models = tmp_path / "models"
    pause = tmp_path / "bin" / "sleep"
    pause.parent.mkdir()
    # First a version that is still being copied, then a complete one.
    pause.write_text(
        f"#!/bin/sh\nif [ -e {models}/1700000001 ]; then touch {models}/1700000001/saved_model.pb; "
        f"else mkdir -p {models}/1700000001/variables; fi\n"
    )
    pause.chmod(0o755)
    finished = subprocess.run(
        [*wait["command"], *wait["args"]],
        env={"PATH": f"{pause.parent}:/usr/bin:/bin", "MODEL_BASE_PATH": str(models)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert finished.stdout.splitlines() == [f"Nothing has been pushed to {models} yet."] * 2


def test_the_wait_and_the_server_look_at_the_same_folder(manifests):
    pod = _pod(manifests, "Deployment", "mind-serving")
    (wait,), (server,) = pod["initContainers"], pod["containers"]
    assert wait["env"] == server["env"]


def test_the_claim_is_given_to_the_user_of_the_image(manifests):
    pod = _pod(manifests, "Job", "mind-storage-owner")
    (chown,) = pod["containers"]
    (mount,) = chown["volumeMounts"]
    assert chown["command"] == ["chown", f"{_PIPELINE_USER}:{_PIPELINE_USER}", mount["mountPath"]]
    (volume,) = pod["volumes"]
    claim = volume["persistentVolumeClaim"]["claimName"]
    assert ("PersistentVolumeClaim", claim) in manifests
    dockerfile = (_BASE.parents[1] / "Dockerfile").read_text()
    assert f"USER {_PIPELINE_USER}\n" in dockerfile


def test_only_labelled_callers_reach_the_server_and_it_calls_nobody(manifests):
    policy = manifests["NetworkPolicy", "mind-serving"]["spec"]
    deployment = manifests["Deployment", "mind-serving"]["spec"]
    assert policy["podSelector"] == deployment["selector"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["egress"] == []
    (rule,) = policy["ingress"]
    (server,) = deployment["template"]["spec"]["containers"]
    assert [p["port"] for p in rule["ports"]] == [p["name"] for p in server["ports"]]
    assert rule["from"] == [
        {"podSelector": {}},
        {"namespaceSelector": {"matchLabels": {"mind-serving-caller": "true"}}},
    ]
