"""Removes from one plan whatever no study wants, and the leftovers of killed writers.

The order allows a crash anywhere: checkpoints first (manifest before data), then the studies that
wanted them. The next sweep continues.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from hippo.gc.inventory import Inventory, read_inventory
from hippo.protocol.reports import Ended, Report
from hippo.store import PlanStore, measure


@dataclass(slots=True)
class Swept:
    """The removals of one sweep of a plan, or of its dry run."""

    plan: str  # its path
    checkpoints: int = 0  # wanted by no study
    evicted: int = 0  # wanted, but evicted to free room
    fragments: int = 0  # data without a manifest
    studies: tuple[str, ...] = ()  # deleted ones whose ttl has passed
    folded: int = 0  # ended chains moved into the ledger
    is_gone: bool = False  # nothing of the plan remains
    freed: int = 0  # bytes
    skipped: str | None = None  # why the plan was left alone
    problems: tuple[str, ...] = ()  # damaged records, which were left alone


def sweep(
    store: PlanStore,
    *,
    now: float,
    dry_run: bool = False,
    before_each: Callable[[], None] = lambda: None,
) -> tuple[Swept, Inventory]:
    """Removes what may go; returns it with the inventory of the rest.

    The caller holds the plan's lock, and may renew it in ``before_each``, which is called before
    each deletion. A plan without studies is removed except for its lock, which the caller removes.
    Raises StoreError, also if it is unknown what studies want; nothing is removed then.
    """
    inventory = read_inventory(store)
    records = inventory.records
    sizes = measure(store.plan, store.blobs.list(f"{store.plan}/"))
    over = [intent.study for intent in inventory.intents if intent.is_over(now)]
    unwanted = [key for key in records.manifests if not inventory.holders(key, now)]
    swept = Swept(
        plan=store.plan,
        checkpoints=len(unwanted),
        fragments=len(records.orphans) + len(records.strays),
        studies=tuple(over),
        problems=records.problems,
    )
    if len(over) == len(inventory.intents) and not records.problems:
        swept.is_gone, swept.freed = True, sizes.total
        if not dry_run:
            store.remove(before_each)
        return swept, inventory
    for key in [*unwanted, *sorted(records.orphans)]:
        swept.freed += sizes.checkpoints.get(key, 0)
        inventory.drop(key)
        if not dry_run:
            before_each()
            store.delete_checkpoint(key)
    for stray in records.strays:
        if stray.name.split("/")[-2] in records.manifests:  # otherwise it went with its checkpoint
            swept.freed += stray.size
            if not dry_run:
                before_each()
                store.blobs.delete(stray.name)
    for name in over:
        swept.freed += sizes.studies.get(name, 0)
        if not dry_run:
            before_each()
            store.delete_study(name)
    reports = records.reports
    ended = [c for c in sorted(records.unfolded & reports.keys()) if _has_ended(reports[c])]
    swept.folded = len(ended)
    if not dry_run:
        before_each()
        store.fold(ended)
    return swept, inventory


def _has_ended(reports: list[Report]) -> bool:
    """Whether its own report says so: a silent worker may still be active elsewhere."""
    return isinstance(reports[-1], Ended)
