"""Causes for which pods do not begin, or end otherwise than they should."""

from __future__ import annotations

from enum import StrEnum


class Cause(StrEnum):
    """Why a pod does not begin, or ended otherwise than it should."""

    NONE = "none"
    # Pods that do not begin.
    NOT_CREATED = "not_created"  # the API server fails
    NO_QUOTA = "no_quota"  # not created either, until a ResourceQuota has room
    QUEUED = "queued"  # held by a scheduling gate: Kueue's, for instance
    NO_ROOM = "no_room"  # a node would take it that is full
    UNSCHEDULABLE = "unschedulable"  # no node would take it, full or not
    IMAGE_PULL = "image_pull"
    CONFIG = "config"  # the container cannot be made; also of pods that failed for it
    # Pods that ended, or soon will.
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
"""Causes of pods that begin as soon as others leave; nobody has to do anything."""
