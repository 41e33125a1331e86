"""Why a pod does not begin, or ended otherwise than it should: the cause, and a line on what
happened and what to do.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from hippo.kube import names
from hippo.kube.pods.fields import (
    find_condition,
    find_named,
    get_map,
    list_maps,
    read_exit_code,
    read_last_line,
    read_time,
    read_words,
)
from hippo.protocol.compatibility import find_incompatibility, own_version
from hippo.session.crash_trace import find_crash

EXIT_STORE = 74
"""The runner could not read or write the store (EX_IOERR of sysexits.h)."""


class Cause(StrEnum):
    """Why a pod does not begin, or ended otherwise than it should."""

    NONE = "none"
    # Of pods that do not begin.
    NOT_CREATED = "not_created"  # the API server fails
    NO_QUOTA = "no_quota"  # not created either, until a ResourceQuota has room
    QUEUED = "queued"  # held by a scheduling gate: Kueue's, for instance
    NO_ROOM = "no_room"  # a node would take it that is full
    UNSCHEDULABLE = "unschedulable"  # no node would take it, full or not
    IMAGE_PULL = "image_pull"
    CONFIG = "config"  # the container cannot be made; also of pods that failed for it
    # Of pods that ended, or soon will.
    TRAINER_ERROR = "trainer_error"
    INIT_ERROR = "init_error"  # an init container failed, the trainer never began
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"  # the pod used more than its own limit allows
    DEADLINE = "deadline"
    STORE = "store"
    INCOMPATIBLE = (
        "incompatible"  # the image holds no Hippo, or one that does not fit the operator's
    )
    EVICTED = "evicted"  # the node ran short of something
    PREEMPTED = "preempted"  # told to leave: for another pod, a drain, by whoever deleted it
    NODE_LOST = "node_lost"
    REJECTED = "rejected"  # the node had no room after all
    UNKNOWN = "unknown"


WAITS_FOR_ROOM = frozenset({Cause.NO_QUOTA, Cause.QUEUED, Cause.NO_ROOM})
"""It begins as soon as others leave; nobody has to do anything."""


# -- ends ------------------------------------------------------------------------------------------


_MORE_MEMORY = "raise spec.trainer.resources.limits.memory or use a smaller batch"
_GOES_ON = "its work goes on from what was saved"


def explain_end(pod: Mapping[str, Any], ended: Mapping[str, Any]) -> tuple[Cause, str]:
    """Of a pod that has failed. What Kubernetes states goes before what an exit status may mean."""
    status = get_map(pod, "status")
    reason = str(ended.get("reason") or "")
    if reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY, f"out of memory{_memory_limit(pod)}: {_MORE_MEMORY}"
    if status.get("reason") == "DeadlineExceeded":
        return (
            Cause.DEADLINE,
            "the pod ran longer than its activeDeadlineSeconds: raise or remove it in"
            " spec.trainer.podTemplate",
        )
    told = explain_disruption(pod) or _explain_refusal(pod, has_run=bool(ended))
    if told is not None:
        return told
    if _is_lost(ended):
        return Cause.NODE_LOST, _lost_line(pod)
    if reason in ("StartError", "ContainerCannotRun"):
        if _NO_PYTHON.search(read_words(ended)) and _runs_as_told(pod):
            return Cause.INCOMPATIBLE, _incompatible_line(
                pod, f"it cannot run python3: {read_words(ended)}"
            )
        return (
            Cause.CONFIG,
            f"the container could not be started: {read_words(ended)}: check the command in"
            " spec.trainer.podTemplate and that the image holds Python and Hippo",
        )
    if not ended:
        return _explain_init(pod)
    return _explain_exit(pod, ended)


_NO_PYTHON = re.compile(r"executable file not found|no such file or directory|exec format error")


def _runs_as_told(pod: Mapping[str, Any]) -> bool:
    """Whether the trainer's command is the operator's, and no template's."""
    container = find_named(get_map(pod, "spec").get("containers"), names.TRAINER_CONTAINER)
    return container.get("command") == list(names.RUNNER)


def _incompatible_line(pod: Mapping[str, Any], said: str) -> str:
    container = find_named(get_map(pod, "spec").get("containers"), names.TRAINER_CONTAINER)
    image = f" {container['image']}" if container.get("image") else ""
    number = own_version()
    return (
        f"image{image} does not fit this operator: {said}: build it with"
        f" Hippo{f' {number}' if number else ' of the same version'}, under a new tag, and name it"
        " in spec.trainer.image"
    )


_LOST_REASONS = ("ContainerStatusUnknown", "Unknown")  # of kubelets, of container runtimes
_LOST_EXIT = 255  # what runtimes write for a container whose end they did not see


def _is_lost(ended: Mapping[str, Any]) -> bool:
    """Whether node or runtime was restarted meanwhile, and how the container ended nobody saw. A
    process that ended by itself, with whatever status, has a time at which it did.
    """
    if ended.get("reason") in _LOST_REASONS:
        return True
    code = read_exit_code(ended)
    if code is None:
        return False
    return code < 0 or (code == _LOST_EXIT and read_time(ended.get("finishedAt")) is None)


def _lost_line(pod: Mapping[str, Any]) -> str:
    return f"node {_node(pod)} lost the pod, as when it is restarted: {_GOES_ON}"


_DISRUPTIONS = {
    # Reasons of the condition DisruptionTarget.
    "PreemptionByScheduler": (Cause.PREEMPTED, "preempted for a pod of higher priority"),
    "DeletionByTaintManager": (Cause.PREEMPTED, "told to leave, because its node was tainted"),
    "EvictionByEvictionAPI": (Cause.PREEMPTED, "evicted through the API, as a drained node's pods"),
    "DeletionByPodGC": (Cause.NODE_LOST, "removed, because its node is gone"),
    "TerminationByKubelet": (Cause.PREEMPTED, "ended by its node"),
}
_OWN_LIMIT = re.compile(
    r"exceeds the (total )?limit|exceeded its local ephemeral storage limit", re.IGNORECASE
)


def explain_disruption(pod: Mapping[str, Any]) -> tuple[Cause, str] | None:
    """Of a pod that has to leave, or had to, whatever its trainer did."""
    status = get_map(pod, "status")
    if status.get("reason") == "Evicted":
        words = read_words(status)
        if _OWN_LIMIT.search(words):
            return (
                Cause.OUT_OF_DISK,
                f"out of disk space: {words}: raise ephemeral-storage in"
                " spec.trainer.resources.limits or the sizeLimit of the volume",
            )
        return (
            Cause.EVICTED,
            f"evicted from node {_node(pod)}: {words}: {_GOES_ON}; requests in"
            " spec.trainer.resources that fit the real use prevent it",
        )
    queue = find_condition(pod, "TerminationTarget")  # of Kueue, which says in favour of whom
    if queue.get("status") == "True":
        words = read_words(queue)
        return Cause.PREEMPTED, f"told to leave by Kueue{f': {words}' if words else ''}: {_GOES_ON}"
    target = find_condition(pod, "DisruptionTarget")
    if target.get("status") == "True":
        cause, text = _DISRUPTIONS.get(
            str(target.get("reason")), (Cause.PREEMPTED, "told to leave")
        )
        words = read_words(target)
        if target.get("reason") == "PreemptionByScheduler":
            name = get_map(pod, "metadata").get("name")
            text += (
                f" (kubectl get events names it: -n {_namespace(pod)} --field-selector"
                f" reason=Preempted,involvedObject.name={name})"
            )
        return cause, f"{text}{f' ({words})' if words else ''}: {_GOES_ON}"
    if status.get("reason") == "NodeLost":
        return Cause.NODE_LOST, f"node {_node(pod)} does not answer: {_GOES_ON}"
    if get_map(pod, "metadata").get("deletionTimestamp"):
        return Cause.PREEMPTED, f"the pod was deleted: {_GOES_ON}"
    return None


_SHUTDOWN = ("Terminated", "Shutdown", "NodeShutdown", "Preempting")
_REFUSALS = re.compile(r"OutOf.+|NodeAffinity|UnexpectedAdmissionError|TopologyAffinityError")
"""Of kubelets, which may also say so of pods that ran before the node was restarted."""
_PERMANENT_REFUSALS = (
    "SysctlForbidden",
    "AppArmor",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
)


def _explain_refusal(pod: Mapping[str, Any], *, has_run: bool) -> tuple[Cause, str] | None:
    """Of a pod that its node did not take, or gave up."""
    status = get_map(pod, "status")
    reason, words = str(status.get("reason") or ""), read_words(status)
    if reason in _SHUTDOWN:
        return Cause.PREEMPTED, f"node {_node(pod)} ended the pod: {words or reason}: {_GOES_ON}"
    if not reason or (has_run and not _REFUSALS.fullmatch(reason)):
        return None
    if reason in _PERMANENT_REFUSALS:
        return (
            Cause.CONFIG,
            f"node {_node(pod)} does not take the pod: {words or reason}: change"
            " spec.trainer.podTemplate",
        )
    return (
        Cause.REJECTED,
        f"node {_node(pod)} did not take the pod: {words or reason}: another one is tried",
    )


def _explain_init(pod: Mapping[str, Any]) -> tuple[Cause, str]:
    for container in list_maps(get_map(pod, "status").get("initContainerStatuses")):
        ended = get_map(container, "state", "terminated")
        code = read_exit_code(ended)
        if _is_lost(ended):
            return Cause.NODE_LOST, _lost_line(pod)
        if code:
            name, words = container.get("name"), read_last_line(ended)
            return (
                Cause.INIT_ERROR,
                f"init container {name} ended with exit status {code}"
                f"{f': {words}' if words else ''}: see {_logs(pod, str(name))}",
            )
    return Cause.UNKNOWN, "the pod failed and did not say why: see its events"


def _explain_exit(pod: Mapping[str, Any], ended: Mapping[str, Any]) -> tuple[Cause, str]:
    code = read_exit_code(ended)
    words = read_last_line(ended)
    crash = find_crash(str(ended.get("message") or ""))
    if crash is not None:  # whose last lines say nothing
        words = crash.place
    problem = find_incompatibility(code, words)
    if problem is not None:
        return Cause.INCOMPATIBLE, _incompatible_line(pod, problem)
    said = f": {words}" if words else ""
    see = f"see {_logs(pod, names.TRAINER_CONTAINER)}"
    if code == EXIT_STORE:
        return (
            Cause.STORE,
            f"the store could not be read or written{said}: check the store and the Secret"
            f" {names.STORE_SECRET} in namespace {_namespace(pod)}{'' if said else f'; {see}'}",
        )
    if code == 128 + signal.SIGTERM:
        return Cause.PREEMPTED, f"told to leave by SIGTERM: {_GOES_ON}"
    if code == 128 + signal.SIGKILL:
        return (
            Cause.UNKNOWN,
            f"the trainer was killed (SIGKILL){said}: often for want of memory"
            f"{_memory_limit(pod)}: {_MORE_MEMORY}; {see}",
        )
    if code is not None and code - 128 in {number.value for number in signal.Signals}:
        return (
            Cause.TRAINER_ERROR,
            f"the trainer crashed ({signal.Signals(code - 128).name}){said}: {see}",
        )
    if crash is not None and (crash.is_timeout or not crash.what):
        return (
            Cause.TRAINER_ERROR,
            "a call of the trainer has not ended within spec.trainer.stepTimeout, in code that"
            f" holds Python's lock{said}: {see}",
        )
    return Cause.TRAINER_ERROR, f"the trainer ended with exit status {code}{said}: {see}"


def describe_silence(pod: Mapping[str, Any]) -> str:
    """Of a pod whose node does not answer; it may still be at work."""
    return f"node {_node(pod)} does not answer: its state is not known"


# -- waits -----------------------------------------------------------------------------------------

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
"""What the scheduler adds on its search for pods to preempt."""
_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}


def explain_wait(pod: Mapping[str, Any]) -> tuple[Cause, str]:
    """Of a pod that has not begun."""
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
            f" {_namespace(pod)}: create it, or correct the volumes in spec.trainer.podTemplate",
        )
    cause = Cause.NO_ROOM if _FULL.search(words) else Cause.UNSCHEDULABLE
    advice = [text for pattern, text in _ADVICE if pattern.search(words)] or [_OTHER_ADVICE]
    told = f"no node takes the pod: {words or 'no reason given'}: {'; '.join(advice)}"
    return cause, told


_FULL = re.compile(r"Insufficient|Too many pods")
_ADVICE = (
    # What the scheduler says of some of the nodes, and what to do about these.
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
            f" (kubectl get -n {_namespace(pod)} localqueue {queue}, workloads)"
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
    words, namespace = read_words(waiting), _namespace(pod)
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
        return f"container {name} ends again and again: see {_logs(pod, name)}"
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


# -- who and where ---------------------------------------------------------------------------------


def _memory_limit(pod: Mapping[str, Any]) -> str:
    container = find_named(get_map(pod, "spec").get("containers"), names.TRAINER_CONTAINER)
    limit = get_map(container, "resources", "limits").get("memory")
    return f" (limit {limit})" if limit else ""


def _node(pod: Mapping[str, Any]) -> str:
    return str(get_map(pod, "spec").get("nodeName") or "?")


def _namespace(pod: Mapping[str, Any]) -> str:
    return str(get_map(pod, "metadata").get("namespace") or "default")


def _logs(pod: Mapping[str, Any], container: str) -> str:
    name = get_map(pod, "metadata").get("name")
    return f"kubectl logs -n {_namespace(pod)} {name} -c {container}"
