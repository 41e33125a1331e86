"""Clean-up of the store for a cluster: studies whose objects are gone, and what nobody wants."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Any

from hippo.gc import Swept, forget_missing, sweep
from hippo.kube.client import ApiError
from hippo.kube.observability.metrics import Metrics
from hippo.store import (
    Blobs,
    Holder,
    LockHeld,
    PlanLock,
    PlanStore,
    StoreError,
    clusters,
    list_plans,
    reading,
)

log = logging.getLogger(__name__)

EVERY_SECONDS = 3600.0
FIRST_SECONDS = 60.0
LOCK_SECONDS = 300.0


def mark_missing(
    blobs: Blobs, path: str, live: Collection[str], holder: Holder, *, now: float
) -> None:
    """Mark studies as deleted whose objects are gone, in a plan that is not open. ``live``: uids of
    all Studies there are. Raises StoreError, LockHeld.
    """
    store = PlanStore(blobs, path)
    with PlanLock(store, holder, seconds=LOCK_SECONDS):
        documents = {name: store.read_study(name) for name in store.list_studies()}
        forget_missing(store, documents, live, now=now)


def sweep_store(
    blobs: Blobs,
    live: Collection[str],
    holder: Holder,
    *,
    namespaces: Iterable[str],
    is_open: Callable[[str], bool],
    is_known: Callable[[str], bool],
    cluster: str | None = None,
    unswept: dict[str, str] | None = None,
) -> list[Swept]:
    """Sweep all plans that nobody works on. ``live``: uids of all Studies there are; an empty
    ``namespaces`` means all. ``is_known``, by uid: studies that have come since they were listed;
    a sweep may take long. ``cluster``: which one this is; namespaces of the store that are another
    cluster's are left alone. One plan's trouble hides no other's: ``unswept`` takes up the plans
    that were left as they are, and why. Raises StoreError.
    """
    unswept = {} if unswept is None else unswept
    paths = [path for n in (tuple(namespaces) or (None,)) for path in list_plans(blobs, n)]

    def is_there(uid: str) -> bool:
        return uid in live or is_known(uid)

    @functools.cache
    def is_ours(namespace: str) -> bool:
        try:
            clusters.claim(blobs, namespace, cluster, is_known=is_there, begins=False)
        except StoreError as error:
            log.warning("%s is not swept: %s", namespace, error)
            return False
        return True

    found: list[Swept] = []
    for path in paths:
        if is_open(path) or not is_ours(path.partition("/")[0]):
            continue
        try:
            with reading(f"plan {path}"):
                swept = _sweep_plan(PlanStore(blobs, path), live, holder, is_known)
        except LockHeld:
            continue
        except StoreError as error:
            log.warning("%s is not swept: %s", path, error)
            unswept[path] = str(error)
            continue
        if swept is not None:
            found.append(swept)
    return found


def _sweep_plan(
    store: PlanStore, live: Collection[str], holder: Holder, is_known: Callable[[str], bool]
) -> Swept | None:
    """None if it is none of the cluster's. Raises StoreError, LockHeld."""
    lock = PlanLock(store, holder, seconds=LOCK_SECONDS)
    lock.acquire()
    try:
        documents = {name: store.read_study(name) for name in store.list_studies()}
        uids = {str(document["uid"]) for document in documents.values() if document.get("uid")}
        if not uids:
            return None
        there = {uid for uid in uids if uid in live or is_known(uid)}
        forget_missing(store, documents, there, now=time.time())
        swept, _ = sweep(store, now=time.time(), before_each=lock.renew_if_due)
        if swept.is_gone:
            lock.remove()
        return swept
    finally:
        with contextlib.suppress(StoreError):
            lock.release()


async def sweep_for_ever(
    blobs: Blobs,
    list_uids: Callable[[], Any],
    holder: Holder,
    *,
    namespaces: tuple[str, ...],
    is_open: Callable[[str], bool],
    is_known: Callable[[str], bool],
    identify: Callable[[], Awaitable[str]],
    metrics: Metrics,
) -> None:
    """Sweep now and then. ``list_uids`` awaits the uids of all Studies, from the server itself;
    ``identify`` which cluster that is.
    """
    pause = FIRST_SECONDS
    while True:
        await asyncio.sleep(pause)
        pause = EVERY_SECONDS
        try:
            cluster = await identify()
            live = await list_uids()
            unswept: dict[str, str] = {}
            for swept in await asyncio.to_thread(
                sweep_store,
                blobs,
                live,
                holder,
                namespaces=namespaces,
                is_open=is_open,
                is_known=is_known,
                cluster=cluster,
                unswept=unswept,
            ):
                if swept.freed:
                    log.info("%s: %d bytes freed", swept.plan, swept.freed)
            metrics.note_unswept(len(unswept))
        except (ApiError, StoreError) as error:
            log.warning("the store is not swept: %s", error)
        except Exception:
            log.exception("the store is not swept: a defect of Hippo")
