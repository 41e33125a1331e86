"""Studies whose trainer was mended before anything was trained: each leaves its plan for another.

A plan holds the studies of one trainer signature, so under another one a study begins afresh.
``status.plan`` names the plan it belongs to; it is written last, so whoever is killed on the way
finds the study where it was and does all of it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from hippo.gc import delete_study
from hippo.kube import names
from hippo.kube.client import Api, NotFound
from hippo.kube.resources import SEARCH_PLAN, STUDY, TRIAL
from hippo.kube.status.models import StudyStatus
from hippo.store import Blobs, Holder, PlanLock, PlanStore

LOCK_SECONDS = 60.0


def may_move(status: StudyStatus) -> bool:
    """Whether nothing was trained for the study, as far as its status tells."""
    if status.phase in (None, "Pending", "Rejected"):
        return True
    return status.steps_trained == 0 and not status.steps_reached


async def take_leave(api: Api, study: Mapping[str, Any], plan: str) -> None:
    """Remove what the study has in the cluster below that plan: its Trials, the SearchPlan if it is
    nobody else's, and with it all pods. Raises ApiError.
    """
    namespace, uid = study["metadata"]["namespace"], study["metadata"]["uid"]
    selector = f"{names.LABEL_STUDY_UID}={uid},{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    for trial in await api.list(TRIAL, namespace, labels=selector):
        metadata = trial["metadata"]
        await api.delete(TRIAL, namespace, metadata["name"], uid=metadata["uid"])
    try:
        found = await api.get(SEARCH_PLAN, namespace, plan)
    except NotFound:
        return
    metadata = found["metadata"]
    owners = metadata.get("ownerReferences") or []
    others = [owner for owner in owners if owner["uid"] != uid]
    if not others:
        await api.delete(SEARCH_PLAN, namespace, plan, uid=metadata["uid"])
    elif others != owners:
        version = metadata["resourceVersion"]
        body = {"metadata": {"ownerReferences": others, "resourceVersion": version}}
        await api.patch(SEARCH_PLAN, namespace, plan, body)


async def mark_left(
    blobs: Blobs, path: str, name: str, uid: str, holder: Holder, *, now: float
) -> None:
    """Let the store know that the study has left a plan that is not open. ``now`` is Unix time.
    Raises StoreError, LockHeld.
    """

    def mark() -> None:
        store = PlanStore(blobs, path)
        if name not in store.list_studies():
            return
        with PlanLock(store, holder, seconds=LOCK_SECONDS):
            if store.read_study(name).get("uid") == uid:
                delete_study(store, name, now=now)

    await asyncio.to_thread(mark)


async def begin_afresh(api: Api, study: Mapping[str, Any]) -> None:
    """Its status says nothing of the plan that it has left. Raises ApiError."""
    metadata = study["metadata"]
    await api.set_status(STUDY, metadata["namespace"], metadata["name"], StudyStatus())
