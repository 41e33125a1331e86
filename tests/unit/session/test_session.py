"""A run finds a plan as earlier ones, and deletions, have left it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hippo.gc import delete_study
from hippo.local import LocatedStudy, Session
from hippo.local.study_files import build_signature_document
from hippo.model import InvalidSpec
from hippo.store import DirectoryBlobs, StoreError
from tests.unit.gc.stored import STEPS, StoredPlan
from tests.world import build_study

ONE: dict[str, Any] = {"lr": 0.1}
TWO: dict[str, Any] = {"lr": 0.2}
EDITED = build_study("a", steps=STEPS, space={"lr": {"choices": [0.3]}})


def plan_of(tmp_path: Path) -> StoredPlan:
    plan = StoredPlan(DirectoryBlobs(tmp_path / "store"))
    plan.add_chain(ONE, "a")
    plan.add_study("a", ONE)
    return plan


def test_a_deleted_study_begins_afresh_and_owes_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    delete_study(plan.store, "a", now=1.0)
    session = Session.open(plan.store, plan.document)
    event = session.admit(EDITED)
    assert (event.decisions, event.ended, event.worker_seconds) == ((), None, 0.0)
    assert "a" not in session.documents, "it is new to the store"
    assert plan.store.list_studies() == []
    session.write_study(EDITED, None)
    plan.add_chain(TWO, "a")  # 120 s of its own
    for _ in range(2):
        session = Session.open(plan.store, plan.document)
        event = session.admit(EDITED)
        assert (event.worker_seconds, event.steps_trained) == (120.0, STEPS)
        session.write_study(EDITED, None)


def test_an_ended_study_stays_as_it_was_written(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    before = plan.store.read_study("a")
    space = {"lr": {"choices": [0.1, 0.2]}}
    raised = build_study("a", steps=STEPS, space=space, checkpoints={}, priority=7)
    event = Session.open(plan.store, plan.document).admit(raised)
    assert event.ended is not None
    assert event.study.spec.priority == 0
    assert plan.store.read_study("a") == before


def test_all_that_keeps_studies_apart_is_named(tmp_path: Path) -> None:
    space = {"lr": {"choices": [0.1]}}
    trainer = {"entrypoint": "trainer:T", "config": {"width": 3, "depth": 2}}
    other = {"entrypoint": "trainer:T", "config": {"width": 4, "depth": 2, "data": "x"}, "seed": 5}
    studies = [
        LocatedStudy(build_study(name, space=space, trainer=written), tmp_path / "study.yaml")
        for name, written in (("a", trainer), ("b", other))
    ]
    with pytest.raises(InvalidSpec, match=r"their config\.data, config\.width, seed differ;"):
        build_signature_document(studies, merge=True)


def test_one_that_is_not_deleted_may_not_be_edited_so(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    session = Session.open(plan.store, plan.document)
    with pytest.raises(InvalidSpec, match=r"spec\.space: may not change"):
        session.admit(EDITED)


def test_what_others_want_is_told_by_the_rule_of_the_store(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    plan.add_study("all", TWO, retain="all")
    ours, theirs = plan.add_checkpoint(ONE, 6), plan.add_checkpoint(TWO, 6)
    session = Session.open(plan.store, plan.document)
    kept = session.kept_by_others({"a"})
    assert (kept(ours), kept(theirs)) == (False, True)
    assert not session.kept_by_others({"a", "all"})(theirs)
    delete_study(plan.store, "all", now=1.0)  # long ago
    assert not Session.open(plan.store, plan.document).kept_by_others({"a"})(theirs)
    plan.add_study("going-on", TWO, state=None)
    assert Session.open(plan.store, plan.document).kept_by_others({"a"})(ours)


def test_if_it_cannot_be_told_everything_is_kept(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    plan.add_study("damaged", TWO, retain="none")
    ours = plan.add_checkpoint(ONE, 6)
    plan.store.blobs.put(f"{plan.store.plan}/studies/damaged/decisions/000000.json", b"{")
    assert Session.open(plan.store, plan.document).kept_by_others({"a"})(ours)


def test_a_damaged_account_is_named(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    (path,) = (tmp_path / "store").rglob("study.json")
    record = json.loads(path.read_text())
    record["document"]["before"] = {"stepsTra": 1.0}
    path.write_text(json.dumps(record))
    session = Session.open(plan.store, plan.document)
    with pytest.raises(StoreError, match=r"before\.stepsTra"):
        session.admit(EDITED)
    assert session.kept_by_others({"another"})("whatever it may want")
