"""Deletion of a study: a mark in its document. A later sweep removes what is not retained."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from hippo.store import PlanStore


def delete_study(store: PlanStore, name: str, *, now: float) -> None:
    """Marks a study as deleted; its retained checkpoints stay for ``checkpoints.ttl`` from ``now``.

    No effect if it was deleted before. The caller holds the plan's lock. Raises StoreError.
    """
    document = store.read_study(name)
    if document.get("deleted") is None:
        store.write_study(name, {**document, "deleted": now})


def forget_missing(
    store: PlanStore,
    documents: dict[str, dict[str, Any]],
    live: Collection[str],
    *,
    now: float,
) -> list[str]:
    """Mark studies of the cluster as deleted whose objects are gone; those that ``hippo run`` made
    have no uid, and are none of ours. The caller holds the lock. Raises StoreError.
    """
    gone = [
        name
        for name, document in documents.items()
        if document.get("uid") is not None
        and document["uid"] not in live
        and document.get("deleted") is None
    ]
    for name in gone:
        delete_study(store, name, now=now)
        documents[name] = store.read_study(name)
    return gone
