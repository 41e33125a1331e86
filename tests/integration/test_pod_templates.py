"""The merge of pod templates against Kubernetes' own, by ``kubectl patch --local``."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hippo.kube.pods.template_merge import merge_pod
from hippo.kube.settings import read_allowance
from tests.cluster import programs
from tests.unit.kube.pods.test_template_merge import BASE

ALLOWANCE = read_allowance(["priorityClasses=low"])
TEMPLATES: dict[str, dict[str, Any]] = {
    "nothing": {},
    "scheduling": {
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": None}},
        "priorityClassName": "low",
    },
    "the trainer's container": {
        "containers": [
            {
                "name": "trainer",
                "image": "mine:2",
                "args": ["-v"],
                "env": [{"name": "DATA", "value": "/data"}, {"name": "HIPPO_STORE", "value": "x"}],
                "resources": {"limits": {"memory": "4Gi", "cpu": None}},
                "volumeMounts": [
                    {"name": "tmp", "mountPath": "/tmp", "subPath": "a"},
                    {"name": "data", "mountPath": "/data"},
                ],
                "ports": [{"containerPort": 80, "name": "http"}],
            }
        ],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "digits"}}],
    },
    "other containers": {
        "containers": [{"name": "side", "image": "side:1", "securityContext": {}}],
        "initContainers": [{"name": "fetch", "image": "fetch:1", "restartPolicy": "Always"}],
    },
    "what is removed": {
        "tolerations": None,
        "containers": [{"name": "trainer", "command": None, "resources": {"limits": None}}],
    },
    "lists by key": {
        "imagePullSecrets": [{"name": "one"}, {"name": "two"}],
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a", "b"]}],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}}],
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "schedulingGates": [{"name": "example.com/gate"}],
        "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "gpu"}],
    },
}


@pytest.fixture(scope="module")
def kubectl() -> Path:
    found = programs.find("kubectl")
    if found is None:
        pytest.skip("kubectl is not installed")
    return found


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("twice", [False, True])
def test_as_kubernetes_merges(name: str, twice: bool, kubectl: Path, tmp_path: Path) -> None:
    template = {
        "metadata": {"labels": {"team": "speech", "queue": "q"}, "annotations": {"a": "b"}},
        "spec": TEMPLATES[name],
    }
    base = merge_pod(BASE, template, ALLOWANCE) if twice else BASE
    (tmp_path / "pod.json").write_text(json.dumps(base))
    command = [kubectl, "patch", "--local", "--type", "strategic", "-o", "json"]
    command += ["-f", tmp_path / "pod.json", "-p", json.dumps(template)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert comparable(merge_pod(base, template, ALLOWANCE)) == comparable(json.loads(done.stdout))


def comparable(pod: dict[str, Any]) -> Any:
    """Beside what the operator adds on purpose, and the order of what is merged by key."""
    spec = pod["spec"]
    for container in [*spec.get("containers", []), *spec.get("initContainers", [])]:
        if container["name"] != "trainer":
            container.pop("securityContext", None)
    return normal({"metadata": pod["metadata"], "spec": spec})


def normal(value: Any) -> Any:
    if isinstance(value, dict):
        inner = {name: normal(item) for name, item in value.items()}
        return {name: item for name, item in inner.items() if item not in ({}, None, "")}
    if isinstance(value, list):
        items = [normal(item) for item in value]
        by_text = partial(json.dumps, sort_keys=True)
        return sorted(items, key=by_text) if any(isinstance(i, dict) for i in items) else items
    return value
