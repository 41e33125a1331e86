"""Lists a store's contents, plan by plan, and for whom. Only reads, so it needs no lock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hippo.gc.inventory import Inventory, read_inventory
from hippo.gc.retention_policy import Intent
from hippo.protocol.reports import MetricsReported
from hippo.store import (
    BlobInfo,
    Blobs,
    LockHeld,
    PlanLock,
    PlanSizes,
    PlanStore,
    StoreError,
    list_plans,
    measure,
    reading,
)


@dataclass(frozen=True, slots=True)
class StudyListing:
    """A study of a plan, and what is kept for it."""

    name: str
    state: str | None  # Succeeded or Failed; None: not ended
    message: str
    retain: str
    intent: Intent
    best_trial: int | None
    updated: float  # Unix time at which it was last worked on
    checkpoints: int  # kept for it, perhaps for others too
    bytes: int
    may_go_on_until: float | None = None  # Unix time until which it keeps what it would resume from


@dataclass(slots=True)
class PlanListing:
    """A plan. If it cannot be read, it has ``problems`` and little else."""

    namespace: str
    name: str
    bytes: int  # of all its blobs
    entrypoint: str = ""
    in_use: str | None = None  # by whom
    studies: list[StudyListing] = field(default_factory=list)
    checkpoints: int = 0
    checkpoint_bytes: int = 0
    unwanted: int = 0  # checkpoints that no study wants
    unwanted_bytes: int = 0
    results: int = 0  # steps of sequences with known metrics
    problems: tuple[str, ...] = ()

    @property
    def last_use(self) -> float:
        """Unix time; 0 if unknown."""
        return max((study.updated for study in self.studies), default=0.0)


def list_store(
    blobs: Blobs,
    *,
    now: float,
    namespace: str | None = None,
    links: list[str] | None = None,
) -> list[PlanListing]:
    """Returns all plans of a store, sorted by namespace and name.

    ``now`` is Unix time. Names of symbolic links outside plans are added to ``links``. A plan that
    is damaged, or a newer Hippo's, does not hide the others. Raises StoreError if the store cannot
    be listed.
    """
    plans = list_plans(blobs, namespace, links=links)
    return [_read(blobs, path, infos, now) for path, infos in plans.items()]


def _read(blobs: Blobs, path: str, infos: Iterable[BlobInfo], now: float) -> PlanListing:
    namespace, _, name = path.partition("/")
    sizes = measure(path, infos)
    listing = PlanListing(namespace, name, sizes.total)
    store = PlanStore(blobs, path)
    try:
        with reading(f"plan {path}"):
            _find_user(store, listing)
            _describe(listing, read_inventory(store), sizes, now)
    except StoreError as error:
        return PlanListing(
            namespace, name, sizes.total, in_use=listing.in_use, problems=(str(error),)
        )
    return listing


def _describe(listing: PlanListing, inventory: Inventory, sizes: PlanSizes, now: float) -> None:
    records = inventory.records
    listing.entrypoint = str((records.signature or {}).get("entrypoint", ""))
    listing.problems = records.problems
    results = {
        report.key
        for reports in records.reports.values()
        for report in reports
        if isinstance(report, MetricsReported)
    }
    listing.results = len(results)
    kept: dict[str, list[int]] = {study: [] for study in inventory.documents}
    for key, manifest in records.manifests.items():
        size = sizes.checkpoints.get(key, manifest.size)
        listing.checkpoints += 1
        listing.checkpoint_bytes += size
        holders = inventory.holders(key, now)
        for intent in holders:
            kept[intent.study].append(size)
        if not holders:
            listing.unwanted += 1
            listing.unwanted_bytes += size
    listing.studies = [
        _read_study(inventory, intent, kept[intent.study], now) for intent in inventory.intents
    ]


def _find_user(store: PlanStore, listing: PlanListing) -> None:
    try:
        PlanLock(store).check()
    except LockHeld as error:
        listing.in_use = error.by


def _read_study(inventory: Inventory, intent: Intent, kept: list[int], now: float) -> StudyListing:
    document: dict[str, Any] = inventory.documents[intent.study]
    status = document.get("status") or {}
    return StudyListing(
        name=intent.study,
        state=status.get("state"),
        message=str(status.get("message", "")),
        retain=document["study"]["spec"].get("checkpoints", {}).get("retain", "best"),
        intent=intent,
        best_trial=status.get("best"),
        updated=float(status.get("updated", 0.0)),
        checkpoints=len(kept),
        bytes=sum(kept),
        may_go_on_until=intent.may_go_on_until if now < intent.may_go_on_until else None,
    )
