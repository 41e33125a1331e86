"""Clean-up of real stores: what is removed and what stays, even after a crash."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
import typer

from hippo.cli import store as store_commands
from hippo.cli.render.output import Output
from hippo.gc import Collection, collect, delete_study, list_store, read_inventory
from hippo.store import Blobs, DirectoryBlobs, PlanLock, PlanStore, StoreError, list_plans, measure
from tests.unit.gc.stored import STEPS, StoredPlan
from tests.unit.store.test_loading import DyingBlobs

NOW = 1e9
DAY = 86_400.0
SHORT: dict[str, Any] = {"lr": 0.1}
FORKED: dict[str, Any] = {"lr": {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}}}
OTHER: dict[str, Any] = {"lr": 0.2}


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "store")


def names(blobs: Blobs) -> list[str]:
    return [info.name for info in blobs.list("") if "/lock/" not in info.name]


def without_ledger(blobs: Blobs) -> list[str]:
    """An interrupted fold leaves one more chunk, and every report is still read once."""
    return [name for name in names(blobs) if "/ledger/" not in name]


def total(blobs: Blobs) -> int:
    return sum(measure(path, infos).total for path, infos in list_plans(blobs).items())


def test_what_no_study_retains_goes(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    fork = plan.add_checkpoint(SHORT, 6)
    best = plan.add_checkpoint(SHORT, STEPS)
    other = plan.add_checkpoint(OTHER, STEPS)
    plan.add_study("a", SHORT, FORKED, best=best)
    found = collect(blobs, now=NOW, dry_run=True)
    assert plan.stored() == {fork, best, other}
    before = total(blobs)
    assert collect(blobs, now=NOW).plans == found.plans
    assert found.plans[0].checkpoints == 2
    assert plan.stored() == {best}
    assert total(blobs) == found.bytes_after == before - found.plans[0].freed
    assert collect(blobs, now=NOW).plans[0].freed == 0


def test_what_an_unfinished_study_may_need_stays(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    keys = {plan.add_checkpoint(SHORT, 6), plan.add_checkpoint(OTHER, 3)}
    plan.add_study("going-on", SHORT, state=None, retain="none")
    plan.add_study("over", OTHER, retain="none")
    found = collect(blobs, now=NOW, max_bytes=0)
    assert plan.stored() == keys
    assert found.over_budget == total(blobs)


def test_all_that_lies_on_the_way_of_a_trial_is_retained(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    shared = plan.add_checkpoint(SHORT, 6)
    ours = plan.add_checkpoint(FORKED, STEPS)
    theirs = plan.add_checkpoint(OTHER, 6)
    plan.add_study("a", FORKED, retain="all")
    plan.add_study("b", OTHER, retain="none")
    inventory = read_inventory(plan.store)
    assert [i.study for i in inventory.holders(shared, NOW)] == ["a"]
    assert inventory.holders(theirs, NOW) == []
    collect(blobs, now=NOW)
    assert plan.stored() == {shared, ours}


def test_so_is_what_a_chain_has_made_for_it_wherever_that_lies(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    unplaced = plan.add_checkpoint(OTHER, 6, chain=plan.add_chain(OTHER, "a"))
    foreign = plan.add_checkpoint(OTHER, 7, chain=plan.add_chain(OTHER, "b"))
    plan.add_study("a", SHORT, retain="all")
    plan.add_study("b", SHORT, retain="none")
    collect(blobs, now=NOW)
    assert plan.stored() == {unplaced}
    assert foreign not in plan.stored()


def test_a_deleted_study_is_forgotten_once_its_ttl_has_passed(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    ours, shared = plan.add_checkpoint(SHORT, STEPS), plan.add_checkpoint(SHORT, 6)
    plan.add_chain(SHORT, "a")
    plan.add_study("a", SHORT, retain="all", ttl="2d")
    plan.add_study("b", FORKED, best=shared)
    for moment in (NOW, NOW + DAY):  # the first deletion counts
        delete_study(plan.store, "a", now=moment)
    collect(blobs, now=NOW + 2 * DAY - 1)
    assert plan.stored() == {ours, shared}
    assert collect(blobs, now=NOW + 2 * DAY).plans[0].studies == ("a",)
    assert plan.stored() == {shared}
    assert plan.store.list_studies() == ["b"]
    assert plan.store.read_decisions("a") == []
    assert set(plan.store.load().reports) == {"c1"}, "results stay"


def test_with_its_last_study_a_plan_goes(blobs: DirectoryBlobs, tmp_path: Path) -> None:
    going, staying = StoredPlan(blobs, version="1"), StoredPlan(blobs, version="2")
    for plan in (going, staying):
        best = plan.add_checkpoint(SHORT, STEPS)
        plan.add_chain(SHORT, "a")
        plan.add_study("a", SHORT, best=best, ttl="1d")
    delete_study(going.store, "a", now=NOW)
    kept = [name for name in names(blobs) if name.startswith(staying.store.plan)]
    collect(blobs, now=NOW + DAY)
    assert [n for n in names(blobs) if "ledger" not in n and "reports" not in n] == [
        n for n in kept if "reports" not in n
    ]
    assert not (tmp_path / "store" / going.store.plan).exists()
    assert staying.store.load().reports.keys() == {"c1"}


def test_left_overs_of_killed_writers_go(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    best = plan.add_checkpoint(SHORT, STEPS)
    plan.add_study("a", SHORT, best=best)
    for key in (best, plan.key(SHORT, 3)):
        blobs.put(f"{plan.store.plan}/data/{key}/{'1' * 64}", b"never sealed")
    found = collect(blobs, now=NOW).plans[0]
    assert (found.fragments, found.freed) == (2, 24)
    assert plan.stored() == {best}
    assert plan.store.load().orphans == frozenset()
    assert len(blobs.list(f"{plan.store.plan}/data/")) == 1


def test_chains_that_said_that_they_ended_are_folded(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    plan.add_study("a", SHORT)
    plan.add_chain(SHORT, "a")
    plan.add_chain(OTHER, "a", ended=False)
    before = plan.store.load().reports
    assert collect(blobs, now=NOW).plans[0].folded == 1
    assert plan.store.load().unfolded == {"c2"}
    assert plan.store.load().reports == before


def test_namespaces_are_apart(blobs: DirectoryBlobs) -> None:
    plans = [StoredPlan(blobs, namespace) for namespace in ("a", "b")]
    for plan in plans:
        plan.add_checkpoint(SHORT, 6)
        plan.add_study("s", SHORT, retain="none")
    assert [item.namespace for item in list_store(blobs, now=NOW)] == ["a", "b"]
    collect(blobs, now=NOW, namespace="b")
    assert (len(plans[0].stored()), len(plans[1].stored())) == (1, 0)


def test_a_plan_in_use_is_left_alone_and_says_by_whom(blobs: DirectoryBlobs) -> None:
    used, free = StoredPlan(blobs, version="1"), StoredPlan(blobs, version="2")
    for plan in (used, free):
        plan.add_checkpoint(SHORT, 6)
        plan.add_study("s", SHORT, retain="none")
    with PlanLock(used.store):
        for dry_run in (True, False):
            found = collect(blobs, now=NOW, dry_run=dry_run)
            skipped = {swept.plan: swept.skipped for swept in found.plans}
            assert "in use by another hippo" in (skipped[used.store.plan] or "")
            assert skipped[free.store.plan] is None
        listing = {item.name: item.in_use for item in list_store(blobs, now=NOW)}
        assert sum(user is not None for user in listing.values()) == 1
    assert (len(used.stored()), len(free.stored())) == (1, 0)
    PlanLock(free.store).acquire()  # and the lock was given back


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("studies/s/study.json", "study s in the store cannot be read"),
        ("studies/s/decisions/000000.json", "decision 0 of study s"),
        ("plan.json", "its plan.json is missing or damaged"),
    ],
)
def test_where_it_cannot_be_told_what_is_wanted_nothing_goes(
    blobs: DirectoryBlobs, damage: str, told: str
) -> None:
    damaged, whole = StoredPlan(blobs, version="1"), StoredPlan(blobs, version="2")
    for plan in (damaged, whole):
        plan.add_checkpoint(SHORT, 6)
        plan.add_study("s", SHORT, retain="none", deleted=0.0)
    blobs.put(f"{damaged.store.plan}/{damage}", b"{")
    before = [name for name in names(blobs) if name.startswith(damaged.store.plan)]
    found = collect(blobs, now=NOW, max_bytes=0)
    assert names(blobs) == before
    problems = {swept.plan: swept.problems for swept in found.plans}
    assert told in problems[damaged.store.plan][0]
    assert problems[whole.store.plan] == ()
    listings = {item.name: item for item in list_store(blobs, now=NOW)}
    assert told in listings[damaged.store.plan.partition("/")[2]].problems[0]


def test_of_a_plan_with_damaged_records_the_rest_is_cleaned(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    best = plan.add_checkpoint(SHORT, STEPS)
    plan.add_checkpoint(SHORT, 6)
    unknown = plan.add_checkpoint(OTHER, 6, chain=plan.add_chain(OTHER, "a"))
    plan.add_study("a", SHORT, best=best)
    plan.add_study("b", OTHER, retain="all")
    torn = f"{plan.store.plan}/manifests/{plan.key(SHORT, 7)}.json"
    report = f"{plan.store.plan}/reports/c1/000000.json"
    for name in (torn, report):
        blobs.put(name, b"{")
    found = collect(blobs, now=NOW)
    assert len(found.plans[0].problems) == 3  # each, and the gap that the report leaves
    assert plan.stored() == {best, unknown}
    assert {torn, report} <= set(names(blobs))


@pytest.mark.slow
def test_killed_anywhere_nothing_needed_is_lost_and_the_next_one_goes_on(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path / "before")
    going, staying = StoredPlan(blobs, version="1"), StoredPlan(blobs, version="2")
    going.add_checkpoint(SHORT, 6)
    going.add_chain(SHORT, "a")
    going.add_study("a", SHORT, FORKED, OTHER, deleted=0.0)
    going.add_study("c", SHORT, FORKED, deleted=0.0)
    best = staying.add_checkpoint(SHORT, STEPS)
    staying.add_checkpoint(SHORT, 6)
    staying.add_checkpoint(OTHER, 6)
    staying.add_chain(OTHER, "b")
    staying.add_study("a", OTHER, deleted=0.0, retain="all")
    staying.add_study("b", SHORT, best=best)
    shutil.copytree(tmp_path / "before", tmp_path / "after")
    collect(DirectoryBlobs(tmp_path / "after"), now=NOW)
    expected = without_ledger(DirectoryBlobs(tmp_path / "after"))
    for changes in itertools.count():
        root = tmp_path / str(changes)
        shutil.copytree(tmp_path / "before", root)
        store = PlanStore(DirectoryBlobs(root), staying.store.plan)
        dying = DyingBlobs(root)
        dying.left = changes
        survived = _try_to_collect(dying)
        records = store.load()
        assert records.problems == ()
        assert store.read_checkpoint(records.manifests[best])
        assert store.list_studies()[-1:] == ["b"]
        assert len(store.read_decisions("b")) == 1
        assert set(records.reports) == {"c1"}
        blobs = DirectoryBlobs(root)
        for info in blobs.list(""):
            if "/lock/" in info.name:  # it was not given back: it expires
                blobs.delete(info.name)
        assert collect(blobs, now=NOW).failed == []
        assert without_ledger(blobs) == expected
        assert set(store.load().reports) == {"c1"}
        if survived:
            break
    assert changes > 20


def _try_to_collect(dying: DyingBlobs) -> bool:
    """Returns whether it completed."""
    found = Collection()
    with contextlib.suppress(StoreError):
        found = collect(dying, now=NOW)
    return bool(found.plans) and not found.failed


# -- a budget of bytes -----------------------------------------------------------------------------


def test_a_budget_takes_what_is_cheapest_to_train_again(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    late = plan.add_checkpoint(SHORT, STEPS)  # 2 steps after the one before it, and the best
    middle = plan.add_checkpoint(SHORT, 10)  # 4 steps
    early = plan.add_checkpoint(SHORT, 6)  # 6 steps
    alone = plan.add_checkpoint(OTHER, 3)  # 3 steps
    plan.add_chain(SHORT, "a")
    plan.add_study("a", SHORT, OTHER, best=late, retain="all")
    collect(blobs, now=NOW)  # so that only the budget takes something
    for expected in ({late, middle, early}, {late, early}, {late}):
        budget = total(blobs) - 1
        assert collect(blobs, now=NOW, max_bytes=budget, dry_run=True).bytes_after <= budget
        found = collect(blobs, now=NOW, max_bytes=budget)
        assert (found.plans[0].evicted, found.over_budget) == (1, 0)
        assert plan.stored() == expected
        assert found.bytes_after == total(blobs) <= budget
    assert alone not in plan.stored()
    found = collect(blobs, now=NOW, max_bytes=0)
    assert (found.plans[0].evicted, found.over_budget) == (0, total(blobs))
    assert plan.stored() == {late}, "the best stays"
    assert plan.store.load().reports, "and so do results"


def test_a_budget_is_met_across_plans(blobs: DirectoryBlobs) -> None:
    dear, cheap = StoredPlan(blobs, version="1"), StoredPlan(blobs, version="2")
    for plan, size in ((dear, 1000), (cheap, 5000)):
        plan.add_checkpoint(SHORT, 6, size=size)
        plan.add_chain(SHORT, "a")
        plan.add_study("a", SHORT, retain="all")
    collect(blobs, now=NOW)
    found = collect(blobs, now=NOW, max_bytes=total(blobs) - 900)
    assert {swept.plan: swept.evicted for swept in found.plans} == {
        dear.store.plan: 0,
        cheap.store.plan: 1,
    }
    for plan in (dear, cheap):
        PlanLock(plan.store).acquire()  # both were given back


def test_what_waits_for_its_ttl_is_no_obstacle(blobs: DirectoryBlobs) -> None:
    plan = StoredPlan(blobs)
    best = plan.add_checkpoint(SHORT, STEPS)
    plan.add_study("a", SHORT, best=best)
    collect(blobs, now=NOW, max_bytes=0)
    assert plan.stored() == {best}
    delete_study(plan.store, "a", now=NOW)
    collect(blobs, now=NOW)
    assert plan.stored() == {best}
    collect(blobs, now=NOW, max_bytes=total(blobs) - 1)
    assert plan.stored() == set()
    assert plan.store.list_studies() == ["a"]


def test_a_plan_that_is_taken_over_meanwhile_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TakenOver(DirectoryBlobs):
        """Another hippo takes over the first plan once something of the second is deleted."""

        taken = ""

        def delete(self, name: str) -> None:
            super().delete(name)
            if name.startswith("b/") and "/manifests/" in name and self.taken:
                self.put(f"{self.taken}/lock/00000099.json", b"{}")

    monkeypatch.setattr("hippo.gc.collector.LOCK_SECONDS", 0.0)  # each renewal is due
    blobs = TakenOver(tmp_path / "store")
    first, second = StoredPlan(blobs, "a"), StoredPlan(blobs, "b")
    for plan in (first, second):
        best = plan.add_checkpoint(SHORT, STEPS)
        plan.add_checkpoint(OTHER, STEPS)
        plan.add_checkpoint(SHORT, 6)
        plan.add_study("a", SHORT, best=best, retain="all")
    blobs.taken = first.store.plan
    theirs = first.stored() - {first.key(OTHER, STEPS)}
    found = collect(blobs, now=NOW, max_bytes=0)
    assert [swept.plan for swept in found.failed] == [first.store.plan]
    assert "was taken over" in found.failed[0].problems[0]
    assert first.stored() == theirs, "nothing goes that is no longer ours to delete"
    assert second.stored() == {second.key(SHORT, STEPS)}


def test_whatever_fails_while_a_plan_is_read_is_its_own_fault(
    blobs: DirectoryBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, other = StoredPlan(blobs, "a"), StoredPlan(blobs, "b")
    for item in (plan, other):
        item.add_study("s", SHORT)

    def fail(store: PlanStore) -> None:
        if store.plan == plan.store.plan:
            raise ZeroDivisionError("by a record\nthat nobody thought of")

    monkeypatch.setattr(PlanStore, "check_formats", fail)
    told = f"plan {plan.store.plan} cannot be read: ZeroDivisionError: by a record that nobody"
    for found in (list_store(blobs, now=NOW), collect(blobs, now=NOW).plans):
        bad, good = found
        assert bad.problems[0].startswith(told)
        assert good.problems == ()


@pytest.mark.parametrize("command", ["ls", "gc"])
def test_exit_status_and_output_tell_of_a_plan_that_cannot_be_read(
    blobs: DirectoryBlobs, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = getattr(store_commands, command)
    sound, spoilt = StoredPlan(blobs, "a"), StoredPlan(blobs, "b")
    for plan in (sound, spoilt):
        plan.add_study("s", SHORT)
    run(store=str(blobs))
    blobs.put(f"{spoilt.store.plan}/studies/s/study.json", b"{")
    for output in Output:
        with pytest.raises(typer.Exit) as ended:
            run(store=str(blobs), output=output)
        assert ended.value.exit_code == 1
    said = capsys.readouterr().out
    assert "study s in the store cannot be read" in said
