"""The test cluster itself: what all other tests in here rely on."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.cluster.commands import CommandFailed

_GPUS = 4


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    """Under the strictest Pod Security standard."""
    name = f"cluster-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false")


def test_restricted_pod_with_a_gpu(cluster: Cluster, namespace: str) -> None:
    script = "import torch, sklearn, stage_runner; print('torch', torch.ones(3).sum().item())"
    _create(cluster, namespace, _pod(cluster, "worker", f'python -c "{script}" && sleep 600'))
    _wait(cluster, namespace, "worker", "condition=Ready")
    _wait_for_log(cluster, namespace, "worker", "torch 3.0")
    inside = ("exec", "--namespace", namespace, "worker", "--")
    assert "--help" in cluster.kubectl(*inside, "hippo", "--help")
    assert cluster.kubectl(*inside, "id", "-u").strip() == "65532"
    assert "198.18.0.1" in cluster.kubectl(*inside, "getent", "hosts", "kubernetes.default")
    if cluster.minio_url is not None:
        fetch = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1], timeout=10).status)"
        health = f"{cluster.minio_url}/minio/health/live"
        assert cluster.kubectl(*inside, "python", "-c", fetch, health).strip() == "200"


def test_operator_image(cluster: Cluster, namespace: str) -> None:
    pod = _pod(cluster, "operator", "hippo operator --help", gpus=0)
    pod["spec"]["containers"][0]["image"] = cluster.operator_image
    _create(cluster, namespace, pod)
    _wait(cluster, namespace, "operator", "jsonpath={.status.phase}=Succeeded")
    _wait_for_log(cluster, namespace, "operator", "Usage: hippo operator")


def test_pods_reach_one_another_through_services(cluster: Cluster, namespace: str) -> None:
    serve = "python -m http.server 8000 --directory /workspace"
    _create(cluster, namespace, _pod(cluster, "server", serve, gpus=0))
    expose = ("expose", "pod", "server", "--port=80", "--target-port=8000")
    cluster.kubectl("--namespace", namespace, *expose)
    fetch = (
        "import time, urllib.request as u\n"
        "for _ in range(100):\n"
        "    try: print(u.urlopen('http://server', timeout=5).status); break\n"
        "    except OSError: time.sleep(0.2)\n"
    )
    _create(cluster, namespace, _pod(cluster, "client", f'python -c "{fetch}"', gpus=0))
    _wait(cluster, namespace, "client", "jsonpath={.status.phase}=Succeeded")
    _wait_for_log(cluster, namespace, "client", "200")


def test_pod_security_is_enforced(cluster: Cluster, namespace: str) -> None:
    pod = _pod(cluster, "forbidden", "true")
    pod["spec"]["containers"][0]["securityContext"] = {"privileged": True}
    with pytest.raises(CommandFailed, match='violates PodSecurity "restricted'):
        _create(cluster, namespace, pod)


def test_a_pod_without_a_free_gpu_waits(cluster: Cluster, namespace: str) -> None:
    _create(cluster, namespace, _pod(cluster, "too-large", "true", gpus=_GPUS + 1))
    _wait(cluster, namespace, "too-large", "condition=PodScheduled=False")
    pod = json.loads(cluster.kubectl("get", "pod", "-n", namespace, "too-large", "-o", "json"))
    assert pod["status"]["phase"] == "Pending"
    assert "Insufficient nvidia.com/gpu" in pod["status"]["conditions"][0]["message"]


def _pod(cluster: Cluster, name: str, script: str, gpus: int = 1) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [
                {
                    "name": "main",
                    "image": cluster.digits_image,
                    "command": ["sh", "-c", script],
                    "resources": {"limits": {"nvidia.com/gpu": gpus}},
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "readOnlyRootFilesystem": True,
                    },
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
                }
            ],
            "volumes": [{"name": "tmp", "emptyDir": {}}],
        },
    }


def _create(cluster: Cluster, namespace: str, pod: dict[str, Any]) -> None:
    cluster.kubectl("create", "--namespace", namespace, "--filename=-", input=json.dumps(pod))


def _wait(cluster: Cluster, namespace: str, pod: str, what: str) -> None:
    wait = ("wait", f"pod/{pod}", f"--for={what}", "--timeout=60s")
    cluster.kubectl("--namespace", namespace, *wait, timeout=90)


def _wait_for_log(cluster: Cluster, namespace: str, pod: str, text: str) -> None:
    """Fails with the whole log."""
    log = ""
    for _ in range(120):
        log = cluster.kubectl("logs", "--namespace", namespace, pod)
        if text in log:
            return
        time.sleep(0.25)
    pytest.fail(log)
