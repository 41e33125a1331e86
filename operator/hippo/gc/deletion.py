"""Deletion of a study: a mark in its document. A later sweep removes what nobody retains."""

from __future__ import annotations

from hippo.store import PlanStore


def delete_study(store: PlanStore, name: str, *, now: float) -> None:
    """Mark a study as deleted: what it retains stays for its ``checkpoints.ttl`` from now on.

    A study deleted before stays as it is. The caller holds the plan's lock. Raises StoreError.
    """
    document = store.read_study(name)
    if document.get("deleted") is None:
        store.write_study(name, {**document, "deleted": now})
