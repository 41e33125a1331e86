"""What a Pod's status says: where the pod stands, and why, in a line for the person who reads it.

The engine learns from reports how a chain went. The status tells the rest: why a pod does not
begin, and what ended a chain that left no report.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from hippo.kube import names
from hippo.store.records import Outcome

EXIT_STORE = 74
"""The runner could not read or write the store (EX_IOERR of sysexits.h)."""
MAX_WORDS = 300
"""Characters that are quoted of others."""


class PodPhase(StrEnum):
    """Where the trainer's container stands. Sidecars do not matter: they may outlive it."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"


class Cause(StrEnum):
    """Why a pod does not begin, or ended otherwise than it should."""

    NONE = "none"
    # Of pods that do not begin.
    QUEUED = "queued"  # held by a scheduling gate: Kueue's, for instance
    UNSCHEDULABLE = "unschedulable"
    IMAGE_PULL = "image_pull"
    CONFIG = "config"  # the container cannot be made; also of pods that failed for it
    # Of pods that ended, or soon will.
    TRAINER_ERROR = "trainer_error"
    INIT_ERROR = "init_error"  # an init container failed, the trainer never began
    OUT_OF_MEMORY = "out_of_memory"
    OUT_OF_DISK = "out_of_disk"  # the pod used more than its own limit allows
    DEADLINE = "deadline"
    STORE = "store"
    EVICTED = "evicted"  # the node ran short of something
    PREEMPTED = "preempted"  # told to leave: for another pod, a drain, by whoever deleted it
    NODE_LOST = "node_lost"
    REJECTED = "rejected"  # the node had no room after all
    UNKNOWN = "unknown"


_NOT_THE_TRAINERS = {Cause.EVICTED, Cause.PREEMPTED, Cause.NODE_LOST, Cause.REJECTED}


@dataclass(frozen=True, slots=True)
class PodState:
    """A pod, as its status tells it. Times are Unix times."""

    phase: PodPhase
    cause: Cause = Cause.NONE
    message: str = ""
    """One line: what happened, and what to do. Empty if there is nothing to tell."""
    created_at: float | None = None
    scheduled_at: float | None = None
    started_at: float | None = None
    """Of the trainer's container."""
    finished_at: float | None = None
    gone_by: float | None = None
    """The pod is being deleted, and its grace ends then. One that is still there long after is on a
    node that does not answer."""
    node: str | None = None
    image_id: str | None = None
    exit_code: int | None = None

    @property
    def is_finished(self) -> bool:
        """Whether the trainer's process is over, for good."""
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED, PodPhase.GONE)

    @property
    def is_stuck(self) -> bool:
        """Whether it will not begin before a person has done something."""
        return self.phase is PodPhase.PENDING and self.cause in (Cause.IMAGE_PULL, Cause.CONFIG)


GONE = PodState(
    PodPhase.GONE, Cause.PREEMPTED, "the pod was deleted: its work goes on from what was saved"
)
"""A pod that is no longer there; how it ended nobody saw."""


def outcome(state: PodState) -> Outcome:
    """How a chain ended that left no Ended report. What is not the trainer's fault is not charged.

    Nothing here is INVALID: that is for the runner to say, which knows why.
    """
    if state.cause in _NOT_THE_TRAINERS:
        return Outcome.PREEMPTED
    return Outcome.STORE if state.cause is Cause.STORE else Outcome.LOST


def observe(pod: Mapping[str, Any]) -> PodState:
    """Reads a pod as the API returns it. What is missing is not known; nothing raises for it."""
    metadata = _mapping(pod, "metadata")
    status = _mapping(pod, "status")
    container = _find(status.get("containerStatuses"), names.TRAINER_CONTAINER)
    running = _mapping(container, "state", "running")
    ended = _mapping(container, "state", "terminated")
    phase = _phase(status, running, ended)
    cause, message = _explain(pod, phase, container)
    return PodState(
        phase=phase,
        cause=cause,
        message=message,
        created_at=_time(metadata.get("creationTimestamp")),
        scheduled_at=_scheduled_at(status),
        started_at=_time((running or ended).get("startedAt")),
        finished_at=_time(ended.get("finishedAt")),
        gone_by=_time(metadata.get("deletionTimestamp")),
        node=_mapping(pod, "spec").get("nodeName") or None,
        image_id=str(container.get("imageID") or "").removeprefix("docker-pullable://") or None,
        exit_code=_exit_code(ended),
    )


def _phase(
    status: Mapping[str, Any], running: Mapping[str, Any], ended: Mapping[str, Any]
) -> PodPhase:
    """The trainer's state goes first: a pod counts as pending while a sidecar's image is missing,
    and as running while a sidecar runs.
    """
    if ended:
        return PodPhase.FAILED if _exit_code(ended) else PodPhase.SUCCEEDED
    match status.get("phase"):
        case "Succeeded":
            return PodPhase.SUCCEEDED
        case "Failed":
            return PodPhase.FAILED
        case "Running" | "Unknown":
            return PodPhase.RUNNING
        case _:
            return PodPhase.RUNNING if running else PodPhase.PENDING


def _explain(
    pod: Mapping[str, Any], phase: PodPhase, container: Mapping[str, Any]
) -> tuple[Cause, str]:
    if phase is PodPhase.FAILED:
        return _explain_end(pod, _mapping(container, "state", "terminated"))
    if phase is PodPhase.SUCCEEDED:
        return Cause.NONE, ""
    disruption = _explain_disruption(pod)
    if disruption is not None:
        return disruption
    if phase is PodPhase.PENDING:
        return _explain_wait(pod)
    if _mapping(pod, "status").get("phase") == "Unknown":
        return Cause.NODE_LOST, f"node {_node(pod)} does not answer: its state is not known"
    return Cause.NONE, ""


# -- ends ------------------------------------------------------------------------------------------


def _explain_end(pod: Mapping[str, Any], ended: Mapping[str, Any]) -> tuple[Cause, str]:
    """What a machine has stated goes before what follows from an exit status."""
    status = _mapping(pod, "status")
    reason = str(ended.get("reason") or "")
    if reason == "OOMKilled":
        return Cause.OUT_OF_MEMORY, f"out of memory{_memory_limit(pod)}: {_MORE_MEMORY}"
    if status.get("reason") == "DeadlineExceeded":
        return (
            Cause.DEADLINE,
            "the pod ran longer than its activeDeadlineSeconds: raise or remove it in"
            " spec.trainer.podTemplate",
        )
    told = _explain_disruption(pod) or _explain_refusal(pod, has_run=bool(ended))
    if told is not None:
        return told
    if reason == "ContainerStatusUnknown":
        return (
            Cause.NODE_LOST,
            f"node {_node(pod)} lost the pod: its work goes on from what was saved",
        )
    if reason in ("StartError", "ContainerCannotRun"):
        return (
            Cause.CONFIG,
            f"the container could not be started: {_words(ended)}: check the command in"
            " spec.trainer.podTemplate and that the image holds Python and Hippo",
        )
    if not ended:
        return _explain_init(pod)
    return _explain_exit(pod, ended)


_MORE_MEMORY = "raise spec.trainer.resources.limits.memory or use a smaller batch"
_GOES_ON = "its work goes on from what was saved"
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


def _explain_disruption(pod: Mapping[str, Any]) -> tuple[Cause, str] | None:
    """Of a pod that has to leave, or had to, whatever its trainer did."""
    status = _mapping(pod, "status")
    if status.get("reason") == "Evicted":
        words = _words(status)
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
    target = _condition(pod, "DisruptionTarget")
    if target.get("status") == "True":
        cause, text = _DISRUPTIONS.get(
            str(target.get("reason")), (Cause.PREEMPTED, "told to leave")
        )
        words = _words(target)
        return cause, f"{text}{f' ({words})' if words else ''}: {_GOES_ON}"
    if status.get("reason") == "NodeLost":
        return Cause.NODE_LOST, f"node {_node(pod)} does not answer: {_GOES_ON}"
    if _mapping(pod, "metadata").get("deletionTimestamp"):
        return Cause.PREEMPTED, f"the pod was deleted: {_GOES_ON}"
    return None


_SHUTDOWN = ("Terminated", "Shutdown", "NodeShutdown", "Preempting")
_PERMANENT_REFUSALS = (
    "SysctlForbidden",
    "AppArmor",
    "PodOSNotSupported",
    "PodOSSelectorNodeLabelDoesNotMatch",
)


def _explain_refusal(pod: Mapping[str, Any], *, has_run: bool) -> tuple[Cause, str] | None:
    """Of a pod that its node did not take, or gave up."""
    status = _mapping(pod, "status")
    reason, words = str(status.get("reason") or ""), _words(status)
    if reason in _SHUTDOWN:
        return Cause.PREEMPTED, f"node {_node(pod)} ended the pod: {words or reason}: {_GOES_ON}"
    if has_run or not reason:
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
    for container in _items(_mapping(pod, "status").get("initContainerStatuses")):
        ended = _mapping(container, "state", "terminated")
        code = _exit_code(ended)
        if code:
            name, words = container.get("name"), _last_line(ended)
            return (
                Cause.INIT_ERROR,
                f"init container {name} ended with exit status {code}"
                f"{f': {words}' if words else ''}: see {_logs(pod, str(name))}",
            )
    return Cause.UNKNOWN, "the pod failed and did not say why: see its events"


def _explain_exit(pod: Mapping[str, Any], ended: Mapping[str, Any]) -> tuple[Cause, str]:
    code = _exit_code(ended)
    words = _last_line(ended)
    said = f": {words}" if words else ""
    see = f"see {_logs(pod, names.TRAINER_CONTAINER)}"
    if code == EXIT_STORE:
        return (
            Cause.STORE,
            f"the store could not be read or written{said}: check the store and the Secret"
            f" {names.STORE_SECRET} in namespace {_namespace(pod)}; {see}",
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
    return Cause.TRAINER_ERROR, f"the trainer ended with exit status {code}{said}: {see}"


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
_PREEMPTION = re.compile(r"\.? preemption: .*")
"""What the scheduler adds on its search for pods to preempt."""
_KINDS = {"secret": "Secret", "configmap": "ConfigMap"}


def _explain_wait(pod: Mapping[str, Any]) -> tuple[Cause, str]:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False":
        return _explain_scheduling(pod, scheduled)
    status = _mapping(pod, "status")
    for field in ("initContainerStatuses", "containerStatuses"):
        for container in _items(status.get(field)):
            waiting = _mapping(container, "state", "waiting")
            reason = str(waiting.get("reason") or "")
            if reason in _PULL_REASONS:
                return Cause.IMAGE_PULL, _pull_line(container, waiting)
            if reason in _CONFIG_REASONS:
                return Cause.CONFIG, _config_line(pod, container, waiting)
    return Cause.NONE, ""


def _explain_scheduling(pod: Mapping[str, Any], scheduled: Mapping[str, Any]) -> tuple[Cause, str]:
    words = _PREEMPTION.sub("", _words(scheduled))
    if scheduled.get("reason") == "SchedulingGated":
        gates = _items(_mapping(pod, "spec").get("schedulingGates"))
        held = ", ".join(str(gate.get("name")) for gate in gates)
        return Cause.QUEUED, f"held by {held or 'a scheduling gate'}: its queue lets it go"
    claim = _MISSING_CLAIM.search(words)
    if claim is not None:
        return (
            Cause.CONFIG,
            f"the PersistentVolumeClaim {claim[1]} {_is_missing(claim[2])} in namespace"
            f" {_namespace(pod)}: create it, or correct the volumes in spec.trainer.podTemplate",
        )
    if "Insufficient" in words:
        advice = "wait for room, ask for less in spec.trainer.resources, or lower spec.parallelism"
    elif "affinity" in words or "selector" in words or "taint" in words:
        advice = "check nodeSelector, affinity and tolerations in spec.trainer.podTemplate"
    else:
        advice = "check spec.trainer.resources and spec.trainer.podTemplate"
    return Cause.UNSCHEDULABLE, f"no node takes the pod: {words or 'no reason given'}: {advice}"


def _is_missing(words: str) -> str:
    return "is missing" if words == "not found" else words


def _pull_line(container: Mapping[str, Any], waiting: Mapping[str, Any]) -> str:
    image, words = container.get("image"), _words(waiting)
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
    words, namespace = _words(waiting), _namespace(pod)
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


# -- reading ---------------------------------------------------------------------------------------


def _mapping(value: Any, *path: str) -> Mapping[str, Any]:
    """What lies there, or nothing."""
    for field in path:
        value = value.get(field) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _items(value: Any) -> Iterator[Mapping[str, Any]]:
    items = value if isinstance(value, list) else ()
    return (item for item in items if isinstance(item, Mapping))


def _find(value: Any, name: str) -> Mapping[str, Any]:
    return next((item for item in _items(value) if item.get("name") == name), {})


def _exit_code(ended: Mapping[str, Any]) -> int | None:
    code = ended.get("exitCode")
    return code if isinstance(code, int) else None


def _condition(pod: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    conditions = _items(_mapping(pod, "status").get("conditions"))
    return next((item for item in conditions if item.get("type") == kind), {})


def _scheduled_at(status: Mapping[str, Any]) -> float | None:
    scheduled = _condition({"status": status}, "PodScheduled")
    if scheduled.get("status") != "True":
        return None
    return _time(scheduled.get("lastTransitionTime"))


def _time(text: Any) -> float | None:
    """The epoch itself stands for a time that was never set."""
    try:
        return datetime.fromisoformat(text).timestamp() or None
    except (TypeError, ValueError):
        return None


def _words(holder: Mapping[str, Any]) -> str:
    """A message on one line, as a part of a sentence."""
    text = " ".join(str(holder.get("message") or "").split()).rstrip(".: ")
    return text if len(text) <= MAX_WORDS else f"{text[: MAX_WORDS - 3]}..."


def _last_line(ended: Mapping[str, Any]) -> str:
    """Of a termination message, which may be the end of a log: there an error is named last."""
    lines = [line for line in str(ended.get("message") or "").splitlines() if line.strip()]
    return _words({"message": lines[-1]}) if lines else ""


def _memory_limit(pod: Mapping[str, Any]) -> str:
    container = _find(_mapping(pod, "spec").get("containers"), names.TRAINER_CONTAINER)
    limit = _mapping(container, "resources", "limits").get("memory")
    return f" (limit {limit})" if limit else ""


def _node(pod: Mapping[str, Any]) -> str:
    return str(_mapping(pod, "spec").get("nodeName") or "?")


def _namespace(pod: Mapping[str, Any]) -> str:
    return str(_mapping(pod, "metadata").get("namespace") or "default")


def _logs(pod: Mapping[str, Any], container: str) -> str:
    name = _mapping(pod, "metadata").get("name")
    return f"kubectl logs -n {_namespace(pod)} {name} -c {container}"
