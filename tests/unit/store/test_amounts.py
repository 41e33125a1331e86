"""A plan with too many records to hold is refused before any is read, without affecting others."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from hippo.gc import collect, list_store
from hippo.store import PlanStore, Unreadable, bounds
from hippo.store.bounds import MAX_BYTES, MAX_HELD_BYTES, Kind
from hippo.store.directory import DirectoryBlobs
from hippo.store.layout import Layout
from tests.unit.gc.stored import STEPS, StoredPlan

ONE = {"lr": 0.1}


def add_plan(root: Path, namespace: str) -> PlanStore:
    plan = StoredPlan(DirectoryBlobs(root), namespace)
    plan.add_study("s", ONE, best=plan.add_checkpoint(ONE, STEPS))
    return plan.store


def fill(root: Path, store: PlanStore, kind: Kind) -> None:
    """Too many records of a kind, each of the maximum size; sparse, so they take no disk space."""
    layout = Layout(store.plan)
    names: dict[Kind, Callable[[int], str]] = {
        Kind.REPORT: lambda n: layout.report("c1", n),
        Kind.LEDGER: layout.ledger_chunk,
        Kind.MANIFEST: lambda n: layout.manifest(f"k{n}"),
        Kind.DECISION: lambda n: layout.decision("s", n),
        Kind.STUDY: lambda n: layout.study(f"s{n}"),
    }
    size = MAX_BYTES[kind]
    for number in range(10, 10 + MAX_HELD_BYTES // size + 1):
        path = root / names[kind](number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)


def read(store: PlanStore, kind: Kind) -> object:
    return store.list_studies() if kind in (Kind.DECISION, Kind.STUDY) else store.load()


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Kind.REPORT, Kind.LEDGER, Kind.MANIFEST])
def test_records_too_large_together_stop_their_plan_only(tmp_path: Path, kind: Kind) -> None:
    store = add_plan(tmp_path, "aa")
    sound = add_plan(tmp_path, "bb")
    fill(tmp_path, store, kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Unreadable, match=f"plan {store.plan} cannot be read: its records have"):
        store.load()
    blobs = DirectoryBlobs(tmp_path)
    listed = {f"{plan.namespace}/{plan.name}": plan for plan in list_store(blobs, now=1e9)}
    assert listed[store.plan].problems
    assert not listed[sound.plan].problems
    collected = {swept.plan: swept for swept in collect(blobs, now=1e9).plans}
    assert collected[store.plan].problems
    assert not collected[sound.plan].problems
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10  # KiB


@pytest.mark.parametrize("kind", [Kind.STUDY, Kind.DECISION])
def test_studies_too_large_together_are_not_read(tmp_path: Path, kind: Kind) -> None:
    store = add_plan(tmp_path, "aa")
    fill(tmp_path, store, kind)
    with pytest.raises(Unreadable, match=f"plan {store.plan} cannot be read: its records have"):
        store.list_studies()


@pytest.mark.parametrize("kind", [Kind.REPORT, Kind.LEDGER, Kind.MANIFEST, Kind.STUDY])
def test_too_many_records_are_not_read(
    tmp_path: Path, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = add_plan(tmp_path, "aa")
    assert read(store, kind)
    fill(tmp_path, store, kind)
    monkeypatch.setattr(bounds, "MAX_HELD_BYTES", 1 << 40)
    monkeypatch.setattr(bounds, "find_memory", lambda: 1 << 50)
    monkeypatch.setattr(bounds, "MAX_RECORDS", 20)
    with pytest.raises(Unreadable, match="records, more than 20"):
        read(store, kind)


def test_what_memory_does_not_allow_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = add_plan(tmp_path, "aa")
    monkeypatch.setattr(bounds, "find_memory", lambda: 160)
    with pytest.raises(Unreadable, match="bytes, too many for 160 bytes of memory"):
        store.load()
    with pytest.raises(Unreadable, match="bytes, too many for 160 bytes of memory"):
        store.read_decisions("s")
