"""Reads a Pod's status: where the pod stands, and why, in a line for the person who reads it.

The engine learns from reports how a chain went. The status tells the rest: why a pod does not
begin, and what ended a chain that left no report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hippo.kube import names
from hippo.kube.pods.causes import WAITS_FOR_ROOM, Cause
from hippo.kube.pods.diagnosis import describe_silence, explain_disruption, explain_end
from hippo.kube.pods.fields import (
    find_condition,
    find_named,
    get_map,
    list_maps,
    read_exit_code,
    read_time,
)
from hippo.kube.pods.waiting import explain_wait
from hippo.protocol.reports import Outcome

DEFAULT_GRACE_SECONDS = 30.0
"""Kubernetes' default, for pods that do not say."""
MAX_IMAGE = 512
"""Characters of an image ID that are kept; real ones are shorter."""

__all__ = ["GONE", "Cause", "PodPhase", "PodState", "observe", "outcome"]


class PodPhase(StrEnum):
    """Where the trainer's container stands. Sidecars do not matter: they may outlive it."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"


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
    """When the trainer's container started."""
    finished_at: float | None = None
    gone_by: float | None = None
    """The pod is being deleted, and its grace ends then. One that is still there long after is on a
    node that does not answer."""
    node: str | None = None
    image_id: str | None = None
    exit_code: int | None = None
    saving_seconds: float = 0.0
    """The pod counts as failed, for its deadline for instance, but the trainer's process may still
    be at work for so long.
    """
    lingers: bool = False
    """The trainer is over, and another container keeps the pod, and what it holds, alive."""

    @property
    def is_finished(self) -> bool:
        """Whether the trainer's process is over, for good."""
        return self.phase in (PodPhase.SUCCEEDED, PodPhase.FAILED, PodPhase.GONE)

    @property
    def is_queued(self) -> bool:
        """Whether it waits for room alone: it begins once others leave."""
        return self.phase is PodPhase.PENDING and self.cause in WAITS_FOR_ROOM


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
    if state.cause is Cause.INCOMPATIBLE:
        return Outcome.REFUSED
    return Outcome.STORE if state.cause is Cause.STORE else Outcome.LOST


def observe(pod: Mapping[str, Any]) -> PodState:
    """Reads a pod as the API returns it. What is missing is not known; nothing raises for it."""
    metadata = get_map(pod, "metadata")
    status = get_map(pod, "status")
    container = find_named(status.get("containerStatuses"), names.TRAINER_CONTAINER)
    running = get_map(container, "state", "running")
    ended = get_map(container, "state", "terminated")
    phase = _phase(status, running, ended)
    cause, message = _explain(pod, phase, container)
    return PodState(
        phase=phase,
        cause=cause,
        message=message,
        created_at=read_time(metadata.get("creationTimestamp")),
        scheduled_at=_scheduled_at(status),
        started_at=read_time((running or ended).get("startedAt")),
        finished_at=read_time(ended.get("finishedAt")),
        gone_by=read_time(metadata.get("deletionTimestamp")),
        node=get_map(pod, "spec").get("nodeName") or None,
        image_id=_read_image(container),
        exit_code=read_exit_code(ended),
        saving_seconds=_grace(pod) if running and phase is PodPhase.FAILED else 0.0,
        lingers=bool(ended) and _has_others(status),
    )


def _read_image(container: Mapping[str, Any]) -> str | None:
    """By its digest, where the kubelet tells one. It stands in the plan's status, as it is."""
    return (
        str(container.get("imageID") or "").removeprefix("docker-pullable://")[:MAX_IMAGE] or None
    )


def _phase(
    status: Mapping[str, Any], running: Mapping[str, Any], ended: Mapping[str, Any]
) -> PodPhase:
    """The trainer's state goes first: a pod counts as pending while a sidecar's image is missing,
    and as running while a sidecar runs.
    """
    if ended:
        return PodPhase.FAILED if read_exit_code(ended) else PodPhase.SUCCEEDED
    match status.get("phase"):
        case "Succeeded":
            return PodPhase.SUCCEEDED
        case "Failed":
            return PodPhase.FAILED
        case "Running" | "Unknown":
            return PodPhase.RUNNING
        case _:
            return PodPhase.RUNNING if running else PodPhase.PENDING


def _grace(pod: Mapping[str, Any]) -> float:
    seconds = get_map(pod, "spec").get("terminationGracePeriodSeconds")
    return float(seconds) if isinstance(seconds, int) else DEFAULT_GRACE_SECONDS


def _has_others(status: Mapping[str, Any]) -> bool:
    """Whether a container beside the trainer's has not ended. Sidecars among init containers do not
    count: their kubelet ends them.
    """
    containers = list_maps(status.get("containerStatuses"))
    return any(not get_map(container, "state", "terminated") for container in containers)


def _explain(
    pod: Mapping[str, Any], phase: PodPhase, container: Mapping[str, Any]
) -> tuple[Cause, str]:
    if phase is PodPhase.FAILED:
        return explain_end(pod, get_map(container, "state", "terminated"))
    if phase is PodPhase.SUCCEEDED:
        return Cause.NONE, ""
    disruption = explain_disruption(pod)
    if disruption is not None:
        return disruption
    if phase is PodPhase.PENDING:
        return explain_wait(pod)
    if get_map(pod, "status").get("phase") == "Unknown":
        return Cause.NODE_LOST, describe_silence(pod)
    return Cause.NONE, ""


def _scheduled_at(status: Mapping[str, Any]) -> float | None:
    scheduled = find_condition({"status": status}, "PodScheduled")
    if scheduled.get("status") != "True":
        return None
    return read_time(scheduled.get("lastTransitionTime"))
