"""Cleans a whole store: sweeps each plan, then evicts checkpoints beyond a budget of bytes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

from hippo.gc.eviction import Stored, choose_evictions
from hippo.gc.inventory import Inventory
from hippo.gc.sweeper import Swept, sweep
from hippo.plan import CostModel
from hippo.plan.restore import build_costs
from hippo.protocol.records import Manifest
from hippo.store import (
    STALE_SECONDS,
    Blobs,
    LockHeld,
    LockLost,
    PlanLock,
    PlanStore,
    StoreError,
    list_plans,
    measure,
    reading,
)

LOCK_SECONDS = 300.0


@dataclass(slots=True)
class Collection:
    """The result of a clean-up, or of its dry run."""

    plans: list[Swept] = field(default_factory=list)
    cleaned: int = 0  # number of unfinished writes of killed writers
    not_cleaned: str | None = None  # why such writes could not be listed
    bytes_before: int = 0
    bytes_after: int = 0
    over_budget: int = 0  # bytes beyond the budget that may not be removed
    links: tuple[str, ...] = ()  # symbolic links outside plans, which were left alone

    @property
    def failed(self) -> list[Swept]:
        """Plans that could not be read, in whole or in part."""
        return [swept for swept in self.plans if swept.problems]


def collect(
    blobs: Blobs,
    *,
    now: float,
    namespace: str | None = None,
    max_bytes: int | None = None,
    dry_run: bool = False,
) -> Collection:
    """Removes what no study wants, then evicts the cheapest to retrain, down to ``max_bytes``.

    A plan that is in use, or whose studies cannot be read, is skipped with a note. Never evicted
    are checkpoints that an unfinished study may need, the best trial's checkpoint, and metrics.
    ``now`` is Unix time. Raises StoreError.
    """
    collection = Collection()
    if not dry_run:
        try:
            collection.cleaned = blobs.clean(older_than_seconds=STALE_SECONDS)
        except StoreError as error:  # needs a permission that nothing else needs
            collection.not_cleaned = str(error)
    links: list[str] = []
    plans = list_plans(blobs, namespace, links=links)
    collection.links = tuple(links)
    collection.bytes_before = sum(measure(path, infos).total for path, infos in plans.items())
    locks = _Locks(dry_run)
    opened: list[_Opened] = []
    with contextlib.ExitStack() as stack:
        for path in plans:
            store = PlanStore(blobs, path)
            try:
                with reading(f"plan {path}"), contextlib.ExitStack() as plan_stack:
                    lock = plan_stack.enter_context(locks.hold(store))
                    swept, inventory = sweep(
                        store, now=now, dry_run=dry_run, before_each=partial(locks.renew, path)
                    )
                    if swept.is_gone:
                        if lock is not None:
                            lock.remove()
                    elif max_bytes is not None:
                        opened.append(_Opened(store, swept, _appraise(store, inventory, now)))
                        stack.enter_context(plan_stack.pop_all())
            except LockHeld as error:
                swept = Swept(path, skipped=error.by)
            except StoreError as error:
                swept = Swept(path, problems=(str(error),))
            collection.plans.append(swept)
        if max_bytes is not None:
            excess = collection.bytes_before - sum(s.freed for s in collection.plans) - max_bytes
            collection.over_budget = max(0, _evict(opened, excess, locks))
    freed = sum(swept.freed for swept in collection.plans)
    collection.bytes_after = collection.bytes_before - freed
    return collection


@dataclass(slots=True)
class _Locks:
    """Locks of the plans in progress.

    A dry run acquires none, and only checks that they are free.
    """

    dry_run: bool
    held: dict[str, PlanLock] = field(default_factory=dict)  # by path of the plan
    lost: dict[str, LockLost] = field(default_factory=dict)

    @contextlib.contextmanager
    def hold(self, store: PlanStore) -> Iterator[PlanLock | None]:
        """Locks a plan. Raises LockHeld, StoreError."""
        lock = PlanLock(store, seconds=LOCK_SECONDS)
        if self.dry_run:
            lock.check()
            yield None
            return
        lock.acquire()
        self.held[store.plan] = lock
        try:
            yield lock
        finally:
            self.held.pop(store.plan, None)
            with contextlib.suppress(StoreError):  # it expires by itself
                lock.release()

    def renew(self, path: str) -> None:
        """Renews all locks, before each deletion from the plan at ``path``.

        Raises LockLost, after which nothing more of that plan may be deleted; StoreError. Errors of
        other plans' locks are raised when their turn comes.
        """
        for other, lock in self.held.items():
            try:
                if other not in self.lost:
                    lock.renew_if_due()
            except LockLost as error:
                self.lost[other] = error
            except StoreError:
                if other == path:
                    raise
        if path in self.lost:
            raise self.lost[path]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A plan that was swept and is still locked."""

    store: PlanStore
    swept: Swept
    stored: list[Stored]


def _evict(opened: list[_Opened], excess: int, locks: _Locks) -> int:
    """Evicts checkpoints until ``excess`` bytes are free; returns how many bytes are missing."""
    if excess <= 0:
        return 0
    by_path = {item.store.plan: item for item in opened}
    stored = [entry for item in opened for entry in item.stored]
    lost = set[str]()  # plans from which nothing more may be deleted
    for entry in choose_evictions(stored, excess):
        path, key = entry.identity
        item = by_path[path]
        if path in lost:
            continue
        try:
            if not locks.dry_run:
                locks.renew(path)
                item.store.delete_checkpoint(key)
        except StoreError as error:
            lost.add(path)
            item.swept.problems += (str(error),)
            continue
        item.swept.evicted += 1
        item.swept.freed += entry.size
        excess -= entry.size
    return excess


def _appraise(store: PlanStore, inventory: Inventory, now: float) -> list[Stored]:
    """Returns every checkpoint of a plan with its size and the cost of retraining it."""
    records = inventory.records
    costs = build_costs(records.reports)
    sizes = measure(store.plan, store.blobs.list(f"{store.plan}/")).checkpoints
    known: dict[str, Stored] = {}
    for manifest in sorted(records.manifests.values(), key=lambda manifest: manifest.step):
        key = manifest.key
        place = inventory.places.get(key)
        earlier = place.node.latest_checkpoint(place.step - 1) if place is not None else None
        known[key] = Stored(
            identity=(store.plan, key),
            step=manifest.step,
            size=sizes.get(key, manifest.size),
            seconds=_seconds(inventory, costs, manifest),
            before=known[earlier.key] if earlier is not None else None,
            is_protected=any(i.forbids_eviction(key) for i in inventory.holders(key, now)),
        )
    return list(known.values())


def _seconds(inventory: Inventory, costs: CostModel, manifest: Manifest) -> Callable[[int], float]:
    """Returns a function: seconds of training from an earlier step to the checkpoint."""
    place = inventory.places.get(manifest.key)
    if place is None:  # its sequence is unknown
        return lambda begun: (manifest.step - begun) * costs.mean_step
    sequence = place.node.sequence
    return lambda begun: costs.seconds(sequence, begun, manifest.step)
