"""Whatever podTemplate is accepted, its pod meets the restricted Pod Security standard.

The standard is written down here once more, from its documentation, and not taken from the checks.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.kube import names
from hippo.kube.pods.manifest import build_pod
from hippo.kube.pods.template_validation import check_template
from hippo.kube.settings import Settings
from hippo.model import InvalidSpec, parse_study
from hippo.protocol.assignments import Assignment, Route, TrainerCall
from tests.unit.hostile.values import anything, spoilt
from tests.unit.kube.memory import study_document

VOLUMES = {
    *("configMap", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim"),
    *("projected", "secret"),
}
SAFE_SYSCTLS = {
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies"),
    *("net.ipv4.ip_local_reserved_ports", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.ping_group_range", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout"),
    *("net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes"),
}
TOLERABLE = {
    *("nvidia.com/gpu", "amd.com/gpu", "google.com/tpu"),
    *("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"),
}
DEPUTIES = (
    # Beginnings of annotations by which others, with more rights, do what a pod's author asks.
    *("iam.amazonaws.com/", "k8s.v1.cni.cncf.io/", "io.kubernetes.cri-o", "vault.hashicorp.com/"),
    *("kubernetes.io/", "container.", "seccomp.", "sidecar.istio.io/"),
)
OWN_PATHS = ("/etc/hippo",)
CONTEXT: dict[str, Any] = {
    "privileged": True,
    "allowPrivilegeEscalation": True,
    "capabilities": {"add": ["SYS_ADMIN"], "drop": ["ALL"]},
    "procMount": "Unmasked",
    "runAsUser": 0,
    "runAsNonRoot": False,
    "seccompProfile": {"type": "Unconfined"},
    "appArmorProfile": {"type": "Unconfined"},
    "seLinuxOptions": {"user": "system_u", "type": "spc_t"},
    "windowsOptions": {"hostProcess": True},
    "readOnlyRootFilesystem": False,
}
CONTAINER: dict[str, Any] = {
    "name": names.TRAINER_CONTAINER,
    "image": "evil:1",
    "command": ["sh"],
    "env": [{"name": "HIPPO_STORE", "value": "s3://other"}, {"name": "LD_PRELOAD", "value": "x"}],
    "envFrom": [{"secretRef": {"name": "admin"}}],
    "ports": [{"containerPort": 80, "hostPort": 80}],
    "securityContext": CONTEXT,
    "volumeMounts": [{"name": "hippo-assignment", "mountPath": "/", "subPath": "../.."}],
    "volumeDevices": [{"name": "disk", "devicePath": "/dev/sda"}],
    "lifecycle": {"postStart": {"exec": {"command": ["id"]}}},
    "livenessProbe": {"httpGet": {"host": "10.0.0.1", "port": 80}},
    "startupProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 80}},
    "terminationMessagePath": "/etc/hippo/assignment.json",
    "resizePolicy": [],
}
TEMPLATE: dict[str, Any] = {
    "metadata": {
        "labels": {
            names.LABEL_PLAN: "other",
            "a": "b",
            "app.kubernetes.io/name": "hippo",
            "app.kubernetes.io/component": "minio",
        },
        "annotations": {
            "container.apparmor.security.beta.kubernetes.io/trainer": "unconfined",
            "iam.amazonaws.com/role": "admin",
            "io.kubernetes.cri-o.Devices": "/dev/sda",
            "k8s.v1.cni.cncf.io/networks": "hostnet",
        },
        "namespace": "kube-system",
        "name": "other",
        "ownerReferences": [],
    },
    "spec": {
        "hostNetwork": True,
        "hostPID": True,
        "hostIPC": True,
        "hostUsers": True,
        "shareProcessNamespace": True,
        "serviceAccountName": "admin",
        "automountServiceAccountToken": True,
        "nodeName": "control-plane",
        "restartPolicy": "Always",
        "runtimeClassName": "privileged",
        "priorityClassName": "system-node-critical",
        "nodeSelector": {"node-role.kubernetes.io/control-plane": ""},
        "tolerations": [{"operator": "Exists"}, {"key": "dedicated", "operator": "Exists"}],
        "someNewField": {"privileged": True},
        "securityContext": {**CONTEXT, "sysctls": [{"name": "kernel.msgmax", "value": "1"}]},
        "containers": [CONTAINER, {**CONTAINER, "name": "beside"}],
        "initContainers": [{**CONTAINER, "name": "first", "restartPolicy": "Always"}],
        "ephemeralContainers": [CONTAINER],
        "volumes": [
            {"name": "host", "hostPath": {"path": "/"}},
            {"name": "hippo-assignment", "emptyDir": {}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
            {"name": "identity", "projected": {"sources": [{"podCertificate": {}}]}},
            {"name": "net", "nfs": {"server": "x", "path": "/"}},
            {"name": "driver", "csi": {"driver": "x"}},
        ],
    },
}
PIECES: list[tuple[str, Any]] = [("spec", {key: value}) for key, value in TEMPLATE["spec"].items()]
PIECES += [("metadata", {key: value}) for key, value in TEMPLATE["metadata"].items()]
PIECES += [
    ("spec", {"containers": [{"name": names.TRAINER_CONTAINER, key: value}]})
    for key, value in CONTAINER.items()
]
PIECES += [
    ("spec", {"containers": [{"name": names.TRAINER_CONTAINER, "securityContext": {key: value}}]})
    for key, value in CONTEXT.items()
]
PIECES += [("spec", {"securityContext": {key: value}}) for key, value in CONTEXT.items()]


@st.composite
def templates(draw: st.DrawFn) -> Any:
    """Pieces of what is not allowed, alone or together, as they are or spoilt."""
    template: dict[str, Any] = {}
    for where, piece in draw(st.lists(st.sampled_from(PIECES), min_size=1, max_size=3)):
        template.setdefault(where, {}).update(piece)
    return draw(st.one_of(st.just(template), spoilt(template), anything))


def build(template: Any) -> dict[str, Any] | None:
    """The pod, if the template is accepted."""
    document = study_document("s")
    document["metadata"] = {"name": "s", "namespace": "research"}
    document["spec"]["trainer"]["podTemplate"] = template
    try:
        study = parse_study(document)
        check_template(study.spec.trainer.pod_template)
        assignment = Assignment(
            chain="r1-00001",
            signature="f" * 64,
            trainer=TrainerCall(entrypoint="t:T"),
            route=Route(hyperparameters={"lr": 0.1}, steps=4, stop_at=4),
            studies=("s",),
        )
        settings = Settings(store="s3://bucket")
        return build_pod(study, assignment, plan="p", plan_uid="uid", settings=settings)
    except InvalidSpec:
        return None


def violations(pod: dict[str, Any]) -> list[str]:
    """Of the restricted standard, and of what a study's pod must not be besides."""
    spec, found = pod["spec"], []
    found += [f for f in ("hostNetwork", "hostPID", "hostIPC") if spec.get(f)]
    for volume in spec.get("volumes", []):
        kinds = set(volume) - {"name"}
        found += [f"volume {kind}" for kind in kinds - VOLUMES]
        sources = (volume.get("projected") or {}).get("sources") or []
        found += [
            "an identity"
            for source in sources
            if source.get("serviceAccountToken") or source.get("podCertificate")
        ]
    outer = spec.get("securityContext") or {}
    groups = ("containers", "initContainers", "ephemeralContainers")
    for container in (c for group in groups for c in spec.get(group) or []):
        context = {**outer, **(container.get("securityContext") or {})}
        found += ["privileged"] if context.get("privileged") else []
        if (container.get("securityContext") or {}).get("allowPrivilegeEscalation") is not False:
            found.append("allowPrivilegeEscalation")
        capabilities = (container.get("securityContext") or {}).get("capabilities") or {}
        if "ALL" not in (capabilities.get("drop") or []):
            found.append("capabilities not dropped")
        if set(capabilities.get("add") or []) - {"NET_BIND_SERVICE"}:
            found.append("capabilities added")
        if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
            found.append("root")
        if (context.get("seccompProfile") or {}).get("type") not in ("RuntimeDefault", "Localhost"):
            found.append("seccomp")
        if (context.get("appArmorProfile") or {}).get("type") == "Unconfined":
            found.append("apparmor")
        options = context.get("seLinuxOptions") or {}
        if options.get("user") or options.get("role"):
            found.append("seLinuxOptions")
        if (context.get("windowsOptions") or {}).get("hostProcess"):
            found.append("hostProcess")
        if context.get("procMount") not in (None, "Default"):
            found.append("procMount")
        if context.get("windowsOptions"):
            found.append("windowsOptions")
        found += ["hostPort" for port in container.get("ports") or [] if port.get("hostPort")]
        hooks = (container.get("lifecycle") or {}).values()
        probes = [container.get(f"{kind}Probe") for kind in ("liveness", "readiness", "startup")]
        for action in (*hooks, *probes):
            for kind in ("httpGet", "tcpSocket"):
                if ((action or {}).get(kind) or {}).get("host"):
                    found.append("probe of another host")
        for mount in container.get("volumeMounts") or []:
            parts = f"{mount['mountPath']}/{mount.get('subPath') or ''}".split("/")
            if not mount["mountPath"].startswith("/") or ".." in parts:
                found.append("climbing mount")
            if mount.get("mountPropagation") not in (None, "None"):
                found.append("propagated mount")
    sysctls = {one.get("name") for one in outer.get("sysctls") or []}
    found += ["sysctls"] if sysctls - SAFE_SYSCTLS - {None} else []
    (trainer,) = [c for c in spec["containers"] if c["name"] == names.TRAINER_CONTAINER]
    over = [m["mountPath"] for m in trainer["volumeMounts"] if m["name"] != "hippo-assignment"]
    over.append(trainer.get("terminationMessagePath") or "")
    found += ["hidden assignment" for path in over if path.startswith(OWN_PATHS)]
    if spec.get("priorityClassName") or spec.get("runtimeClassName"):
        found.append("a class that nobody has allowed")
    if any(key.startswith("node-role.kubernetes.io/") for key in spec.get("nodeSelector") or {}):
        found.append("nodes of the control plane")
    if any(one.get("key") not in TOLERABLE for one in spec.get("tolerations") or []):
        found.append("toleration")
    metadata = pod["metadata"]
    application = [key for key in metadata["labels"] if key.startswith("app.kubernetes.io/")]
    if application != [names.LABEL_MANAGED_BY]:
        found.append("labels of what is installed")
    found += ["a deputy" for key in metadata["annotations"] if key.startswith(DEPUTIES)]
    if spec.get("serviceAccountName") or spec.get("automountServiceAccountToken") is not False:
        found.append("service account")
    if spec.get("restartPolicy") != "Never":
        found.append("restartPolicy")
    return found


@pytest.mark.slow
@settings(max_examples=300)
@given(templates())
def test_no_template_raises_a_pod_above_the_restricted_standard(template: Any) -> None:
    pod = build(template)
    if pod is None:
        return
    assert violations(pod) == []
    metadata = pod["metadata"]
    assert metadata["labels"][names.LABEL_PLAN] == "p"
    assert metadata.get("namespace") in (None, "research")
    assert metadata["name"].startswith("hippo-p-")


def test_the_standard_here_is_not_empty() -> None:
    plain = build({})
    assert plain is not None
    assert violations(plain) == []
    assert build(TEMPLATE) is None
    metadata = {
        field: {**plain["metadata"][field], **TEMPLATE["metadata"][field]}
        for field in ("labels", "annotations")
    }
    whole = {"metadata": metadata, "spec": {**plain["spec"], **copy.deepcopy(TEMPLATE["spec"])}}
    whole["spec"]["containers"][0]["volumeMounts"].append({"name": "x", "mountPath": "../x"})
    assert len(set(violations(whole))) > 25
