"""Deletion of a study: a mark in its document. A later sweep removes what is not retained."""

from __future__ import annotations

from hippo.store import PlanStore


def delete_study(store: PlanStore, name: str, *, now: float) -> None:
    """Marks a study as deleted; its retained checkpoints stay for ``checkpoints.ttl`` from ``now``.

    No effect if it was deleted before. The caller holds the plan's lock. Raises StoreError.
    """
    document = store.read_study(name)
    if document.get("deleted") is None:
        store.write_study(name, {**document, "deleted": now})
