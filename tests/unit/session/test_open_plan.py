"""A plan is opened with all that the store holds, and closed so that the next run finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hippo.engine.events import Tick
from hippo.engine.options import EngineOptions
from hippo.session.open_plan import OpenPlan
from hippo.session.session import Session
from hippo.store import DirectoryBlobs, LockLost, PlanLock, PlanStore
from tests.unit.gc.stored import STEPS, StoredPlan
from tests.world import build_study

ONE: dict[str, Any] = {"lr": 0.1}
STUDY = build_study("a", steps=STEPS, space={"lr": {"choices": [0.1, 0.2]}})


@pytest.fixture
def plan(tmp_path: Path) -> StoredPlan:
    return StoredPlan(DirectoryBlobs(tmp_path / "store"))


def open_plan(plan: StoredPlan, **options: Any) -> OpenPlan:
    lock = PlanLock(plan.store)
    lock.acquire()
    options = {"clock": lambda: 0.0, "on_read": lambda session: None, **options}
    return OpenPlan.open(plan.store, lock, plan.document, [STUDY], EngineOptions(), **options)


@pytest.mark.parametrize("keeps_orphans", [False, True])
def test_data_without_a_manifest_goes_unless_a_worker_may_be_writing_it(
    plan: StoredPlan, keeps_orphans: bool
) -> None:
    key = plan.add_checkpoint(ONE, STEPS)
    (manifest,) = plan.store.blobs.list(f"{plan.store.plan}/manifests/")
    plan.store.blobs.delete(manifest.name)
    read: list[set[str]] = []

    def note(session: Session) -> None:
        read.append(set(session.records.orphans))
        assert plan.store.load().orphans == session.records.orphans, "nothing is removed yet"

    open_plan(plan, on_read=note, keeps_orphans=keeps_orphans)
    assert read == [{key}]
    assert plan.store.load().orphans == ({key} if keeps_orphans else set())


def test_chains_are_named_after_the_generation_of_the_lock(plan: StoredPlan) -> None:
    for generation in (1, 2):
        opened = open_plan(plan)
        assert opened.engine.options.chain_prefix == f"r{generation}"
        opened.lock.release()


def test_what_is_settled_and_closed_is_found_again(plan: StoredPlan) -> None:
    opened = open_plan(plan)
    event = opened.admit(STUDY)
    opened.session.write_study(event.study, None)
    opened.engine.handle(event, 0.0)
    (run,) = opened.engine.studies.values()
    run.worker_seconds, run.steps_trained = 30.0, 3.0
    opened.engine.handle(Tick(), 7.0)
    opened.has_news = True
    opened.note_costs({"r1-00000": 2}, ["a"])
    assert not opened.has_news
    opened.settle({"r1-00000": 2})
    opened.write_study(run)
    opened.close([], is_idle=True)
    opened.lock.release()
    again = open_plan(plan).admit(STUDY)
    assert (again.worker_seconds, again.steps_trained) == (30.0, 3.0)
    assert (again.wall_seconds, again.ended) == (7.0, None)


def test_studies_that_a_cluster_has_no_more_are_marked_as_deleted(plan: StoredPlan) -> None:
    plan.add_study("gone", ONE)
    plan.store.write_study("gone", {**plan.store.read_study("gone"), "uid": "uid-gone"})
    for live, deleted in ((None, None), ({"uid-gone"}, None), (set[str](), 7.0)):
        opened = open_plan(plan, live=live, unix_clock=lambda: 7.0)
        assert plan.store.read_study("gone").get("deleted") == deleted
        assert opened.session.documents["gone"].get("deleted") == deleted
        opened.lock.release()


def test_charges_are_noted_only_if_there_is_news(plan: StoredPlan) -> None:
    opened = open_plan(plan)
    opened.note_costs({}, [])
    assert plan.store.read_spending() is None
    opened.has_news = True
    opened.note_costs({}, [])
    assert plan.store.read_spending() is not None


def test_nothing_is_noted_without_the_lock(plan: StoredPlan) -> None:
    opened = open_plan(plan)
    opened.lock.release()
    with pytest.raises(LockLost):
        opened.note_charges({})
    assert PlanStore(plan.store.blobs, plan.store.plan).read_spending() is None
