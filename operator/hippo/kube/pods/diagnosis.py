"""Why a pod ended otherwise than it should, or soon will: the cause, and a line on what happened
and what to do.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Mapping
from typing import Any

from hippo.kube import names
from hippo.kube.pods.causes import Cause
from hippo.kube.pods.fields import (
    describe_logs,
    describe_memory_limit,
    find_condition,
    find_named,
    get_map,
    list_maps,
    read_exit_code,
    read_last_line,
    read_namespace,
    read_node,
    read_time,
    read_words,
)
from hippo.protocol.compatibility import find_incompatibility, own_version
from hippo.session.crash_trace import find_crash

EXIT_STORE = 74
"""The runner could not read or write the store (EX_IOERR of sysexits.h)."""

_MORE_MEMORY = "raise spec.trainer.resources.limits.memory or use a smaller batch"
_GOES_ON = "its work goes on from what was saved"


def explain_end(pod: Mapping[str, Any], ended: Mapping[str, Any]) -> tuple[Cause, str]:
    """Explain a pod that has failed. What Kubernetes states goes before what an exit status may
    mean.
    """
    status = get_map(pod, "status")
    reason = str(ended.get("reason") or "")
    if reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY, f"out of memory{describe_memory_limit(pod)}: {_MORE_MEMORY}"
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
    """Whether nobody saw how the container ended, because node or runtime was restarted meanwhile.
    A process that ended by itself, with whatever status, has a time at which it did.
    """
    if ended.get("reason") in _LOST_REASONS:
        return True
    code = read_exit_code(ended)
    if code is None:
        return False
    return code < 0 or (code == _LOST_EXIT and read_time(ended.get("finishedAt")) is None)


def _lost_line(pod: Mapping[str, Any]) -> str:
    return f"node {read_node(pod)} lost the pod, as when it is restarted: {_GOES_ON}"


_DISRUPTIONS = {
    # By reason of the condition DisruptionTarget.
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
    """Explain a pod that has to leave, or had to, whatever its trainer did."""
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
            f"evicted from node {read_node(pod)}: {words}: {_GOES_ON}; requests in"
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
                f" (kubectl get events names it: -n {read_namespace(pod)} --field-selector"
                f" reason=Preempted,involvedObject.name={name})"
            )
        return cause, f"{text}{f' ({words})' if words else ''}: {_GOES_ON}"
    if status.get("reason") == "NodeLost":
        return Cause.NODE_LOST, f"node {read_node(pod)} does not answer: {_GOES_ON}"
    if get_map(pod, "metadata").get("deletionTimestamp"):
        return Cause.PREEMPTED, f"the pod was deleted: {_GOES_ON}"
    return None


_SHUTDOWN = ("Terminated", "Shutdown", "NodeShutdown", "Preempting")
_REFUSALS = re.compile(r"OutOf.+|NodeAffinity|UnexpectedAdmissionError|TopologyAffinityError")
"""Reasons of kubelets, which may also give them for pods that ran before the node restarted."""
_PERMANENT_REFUSALS = (
    "SysctlForbidden",
    "AppArmor",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
)


def _explain_refusal(pod: Mapping[str, Any], *, has_run: bool) -> tuple[Cause, str] | None:
    """Explain a pod that its node did not take, or gave up."""
    status = get_map(pod, "status")
    reason, words = str(status.get("reason") or ""), read_words(status)
    if reason in _SHUTDOWN:
        return (
            Cause.PREEMPTED,
            f"node {read_node(pod)} ended the pod: {words or reason}: {_GOES_ON}",
        )
    if not reason or (has_run and not _REFUSALS.fullmatch(reason)):
        return None
    if reason in _PERMANENT_REFUSALS:
        return (
            Cause.CONFIG,
            f"node {read_node(pod)} does not take the pod: {words or reason}: change"
            " spec.trainer.podTemplate",
        )
    return (
        Cause.REJECTED,
        f"node {read_node(pod)} did not take the pod: {words or reason}: another one is tried",
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
                f"{f': {words}' if words else ''}: see {describe_logs(pod, str(name))}",
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
    see = f"see {describe_logs(pod, names.TRAINER_CONTAINER)}"
    if code == EXIT_STORE:
        return (
            Cause.STORE,
            f"the store could not be read or written{said}: check the store and the Secret"
            f" {names.STORE_SECRET} in namespace {read_namespace(pod)}{'' if said else f'; {see}'}",
        )
    if code == 128 + signal.SIGTERM:
        return Cause.PREEMPTED, f"told to leave by SIGTERM: {_GOES_ON}"
    if code == 128 + signal.SIGKILL:
        return (
            Cause.UNKNOWN,
            f"the trainer was killed (SIGKILL){said}: often for want of memory"
            f"{describe_memory_limit(pod)}: {_MORE_MEMORY}; {see}",
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
    """Describe a pod whose node does not answer; it may still be at work."""
    return f"node {read_node(pod)} does not answer: its state is not known"
