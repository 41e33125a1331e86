"""Why a pod does not begin: the cause, and a line on what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from hippo.kube import names
from hippo.kube.pods.causes import Cause
from hippo.kube.pods.fields import (
    describe_logs,
    find_condition,
    get_map,
    list_maps,
    read_namespace,
    read_words,
)

_PULL_REASONS = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
    "RegistryUnavailable",
    "SignatureValidationFailed",
}
_CONFIG_REASONS = {
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "PreCreateHookError",
    "PreStartHookError",
    "PostStartHookError",
    "CrashLoopBackOff",  # of a sidecar before the trainer
}
_MISSING = re.compile(r'(secret|configmap) "([^"]+)" not found', re.IGNORECASE)
_MISSING_KEY = re.compile(
    r"couldn't find key (\S+) in (Secret|ConfigMap) (?:[^/\s]+/)?(\S+)", re.IGNORECASE
)
_MISSING_CLAIM = re.compile(r'persistentvolumeclaim "([^"]+)" (not found|is being deleted)')
_PREEMPTION = re.compile(r"(\.? no new claims to deallocate,)?\.? preemption: .*")
"""The scheduler's remark on its search for pods to preempt."""
_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}


def explain_wait(pod: Mapping[str, Any]) -> tuple[Cause, str]:
    """Explain why a pod has not begun."""
    scheduled = find_condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _explain_scheduling(pod, scheduled)
    status = get_map(pod, "status")
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in list_maps(status.get(field)):
            waiting = get_map(container, "state", "waiting")
            reason = str(waiting.get("reason") or "")
            if reason in _PULL_REASONS:
                return Cause.IMAGE_PULL, _pull_line(container, waiting)
            if reason in _CONFIG_REASONS:
                return Cause.CONFIG, _config_line(pod, container, waiting)
    return Cause.NONE, ""


def _explain_scheduling(pod: Mapping[str, Any], scheduled: Mapping[str, Any]) -> tuple[Cause, str]:
    words = _PREEMPTION.sub("", read_words(scheduled))
    if scheduled.get("reason") == "SchedulingGated":
        return Cause.QUEUED, _explain_gates(pod)
    claim = _MISSING_CLAIM.search(words)
    if claim is not None:
        return (
            Cause.CONFIG,
            f"the PersistentVolumeClaim {claim[1]} {_is_missing(claim[2])} in namespace"
            f" {read_namespace(pod)}: create it, or correct the volumes in"
            " spec.trainer.podTemplate",
        )
    cause = Cause.NO_ROOM if _FULL.search(words) else Cause.UNSCHEDULABLE
    advice = [text for pattern, text in _ADVICE if pattern.search(words)] or [_OTHER_ADVICE]
    told = f"no node takes the pod: {words or 'no reason given'}: {'; '.join(advice)}"
    return cause, told


_FULL = re.compile(r"Insufficient|Too many pods")
_ADVICE = (
    # By what the scheduler says of some of the nodes.
    (
        _FULL,
        "wait for room, ask for less in spec.trainer.resources, or lower spec.parallelism",
    ),
    (
        re.compile(r"were unschedulable|node\.kubernetes\.io/unschedulable"),
        "nodes are cordoned: wait until their admin is done with them (kubectl uncordon)",
    ),
    (
        re.compile(r"node\.kubernetes\.io/(not-ready|unreachable|network-unavailable|out-of-serv)"),
        "nodes are not ready: their admin has to see to them (kubectl get nodes)",
    ),
    (
        re.compile(r"node\.kubernetes\.io/(disk|memory|pid)-pressure"),
        "nodes run short of what is named, and take pods again once they have recovered",
    ),
    (
        re.compile(r"taint(?!\(?s?\)? \{node\.(kubernetes|cloudprovider))"),
        "if the study belongs on nodes with that taint, tolerate it in spec.trainer.podTemplate",
    ),
    (
        re.compile(r"(?<!volume )node affinity|node selector"),
        "check nodeSelector and affinity in spec.trainer.podTemplate against the nodes' labels",
    ),
    (
        re.compile(r"pod affinity|pod anti-affinity|topology spread"),
        "check affinity and topologySpreadConstraints in spec.trainer.podTemplate",
    ),
    (
        re.compile(r"free ports"),
        "leave hostPort out of spec.trainer.podTemplate",
    ),
    (
        re.compile(r"[Pp]ersistent ?[Vv]olume|volume node affinity|pvc|max volume count"),
        "check the volumes in spec.trainer.podTemplate and their claims (kubectl describe pvc)",
    ),
    (
        re.compile(r"no nodes available|0/0 nodes"),
        "the cluster has no node: wait for one, or ask its admin",
    ),
)
_OTHER_ADVICE = "check spec.trainer.resources and spec.trainer.podTemplate"
_KUEUE_GATE = "kueue.x-k8s.io/"
_KUEUE_QUEUE = "kueue.x-k8s.io/queue-name"


def _explain_gates(pod: Mapping[str, Any]) -> str:
    gates = list_maps(get_map(pod, "spec").get("schedulingGates"))
    held = [str(gate.get("name")) for gate in gates]
    queue = get_map(pod, "metadata", "labels").get(_KUEUE_QUEUE)
    if queue and any(gate.startswith(_KUEUE_GATE) for gate in held):
        return (
            f"waits in Kueue's queue {queue}: it begins once the queue has quota for it"
            f" (kubectl get -n {read_namespace(pod)} localqueue {queue}, workloads)"
        )
    named = ", ".join(held) or "a scheduling gate"
    return f"held by {named}: it begins once whoever set the gate lets it go"


def _is_missing(words: str) -> str:
    return "is missing" if words == "not found" else words


def _pull_line(container: Mapping[str, Any], waiting: Mapping[str, Any]) -> str:
    image, words = container.get("image"), read_words(waiting)
    where = (
        "spec.trainer.image"
        if container.get("name") == names.TRAINER_CONTAINER
        else f"the image of container {container.get('name')}"
    )
    return (
        f"image {image} cannot be pulled: {words or waiting['reason']}: check {where} and"
        " imagePullSecrets in spec.trainer.podTemplate"
    )


def _config_line(
    pod: Mapping[str, Any], container: Mapping[str, Any], waiting: Mapping[str, Any]
) -> str:
    words, namespace = read_words(waiting), read_namespace(pod)
    missing = _MISSING.search(words)
    if missing is not None:
        kind, name = _KINDS[missing[1].lower()], missing[2]
        return f"the {kind} {name} is missing in namespace {namespace}: {_advice(name)}"
    key = _MISSING_KEY.search(words)
    if key is not None:
        kind, name = _KINDS[key[2].lower()], key[3]
        return f"the {kind} {name} in namespace {namespace} has no key {key[1]}: {_advice(name)}"
    if "runAsNonRoot" in words or "non-root" in words or "non-numeric user" in words:
        return (
            f"image {container.get('image')} would run as root: name a user by number in the image"
            " (USER 1000), or set securityContext.runAsUser in spec.trainer.podTemplate"
        )
    if waiting.get("reason") == "CrashLoopBackOff":
        name = str(container.get("name"))
        return f"container {name} ends again and again: see {describe_logs(pod, name)}"
    return (
        f"container {container.get('name')} cannot be made: {words or waiting['reason']}: check"
        " spec.trainer.podTemplate"
    )


def _advice(name: str) -> str:
    if name == names.STORE_SECRET:
        return "its admin makes it, with the credentials of the store"
    if name == names.STORE_CA:
        return "its admin makes it, with the certificate of the store's authority as ca.crt"
    return "create it, or correct spec.trainer.podTemplate"
