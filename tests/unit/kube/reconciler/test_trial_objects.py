"""Decisions in Trials and in the store, wherever the operator was killed between the two."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hippo.engine import Engine
from hippo.engine.events import StudyAdded
from hippo.engine.options import EngineOptions
from hippo.engine.state import StudyRun
from hippo.kube.client import ApiError, Conflict
from hippo.kube.reconciler import trial_objects as module
from hippo.kube.reconciler.trial_objects import TrialObjects, read_decisions
from hippo.kube.resources import STUDY, TRIAL
from hippo.model import Study
from hippo.plan import SearchPlan
from hippo.protocol.decisions import Decision
from hippo.store import DirectoryBlobs, PlanStore, StoreError
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, run


class World:
    """One study, its Trials and its folder in the store; every book is that of a new operator."""

    def __init__(self, tmp_path: Path, **spec: Any) -> None:
        self.server = MemoryApi()
        item = run(add_study(self.server, "a", **spec))
        self.study: Study = item.study
        self.uid = item.uid
        self.store = PlanStore(DirectoryBlobs(tmp_path / "store"), f"{NAMESPACE}/plan")

    def book(self) -> TrialObjects:
        return TrialObjects(self.server.api, self.store, self.study, self.uid)

    def trial(self, name: str) -> list[Decision]:
        return read_decisions(self.server.find(TRIAL, name))


def suggest(index: int, trial: int, lr: float = 0.1, request: int | None = None) -> Decision:
    return Decision(
        index=index,
        kind="suggest",
        trial=trial,
        steps=2,
        hyperparameters={"lr": lr},
        request=request,
        reason="next",
    )


def promote(index: int, trial: int, steps: int = 4) -> Decision:
    return Decision(index=index, kind="promote", trial=trial, steps=steps, reason="good")


def recover(world: World) -> tuple[Decision, ...]:
    return run(world.book().recover())


def test_what_is_decided_is_in_trials_and_in_the_store(tmp_path: Path) -> None:
    world = World(tmp_path)
    book = world.book()
    made = [suggest(0, 0), suggest(1, 1, 0.2), promote(2, 0)]
    run(book.write(made[:2]))
    run(book.write(made[2:]))
    assert world.trial("a-0") == [made[0], made[2]]
    assert world.server.find(TRIAL, "a-0")["spec"]["steps"] == 4
    assert world.store.read_decisions("a") == made
    assert recover(world) == tuple(made)
    assert world.server.count("create", TRIAL) == 2


def test_decisions_that_only_trials_have_stand(tmp_path: Path, monkeypatch: Any) -> None:
    world = World(tmp_path)
    made = [suggest(0, 0), suggest(1, 1, 0.2), promote(2, 0)]
    run(world.book().write(made[:1]))

    def fail(*_: Any) -> None:
        raise StoreError("the store is away")

    with monkeypatch.context() as patch:
        patch.setattr(world.store, "write_decision", fail)
        book = world.book()
        run(book.recover())
        with pytest.raises(StoreError):
            run(book.write(made[1:]))
    assert recover(world) == tuple(made)
    assert world.store.read_decisions("a") == made


def test_nothing_is_in_the_store_that_no_trial_has(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.server.fail = lambda verb, plural, name: ApiError(500, "no") if verb == "create" else None
    with pytest.raises(ApiError):
        run(world.book().write([suggest(0, 0)]))
    assert world.store.read_decisions("a") == []


def test_what_lies_behind_a_gap_is_undone_before_anything_else_is_decided(tmp_path: Path) -> None:
    """Killed while many Trials were written: 1 is missing, 2 and 3 were never acted on. Whoever
    comes next may decide otherwise, and be killed again.
    """
    world = World(tmp_path)
    run(world.book().write([suggest(0, 0)]))
    failing = {"a-1"}

    def fail(verb: str, plural: str, name: str) -> ApiError | None:
        return ApiError(0, "killed") if verb == "create" and name in failing else None

    world.server.fail = fail
    killed = world.book()
    run(killed.recover())
    with pytest.raises(ApiError):
        run(killed.write([suggest(1, 1), promote(2, 0), suggest(3, 2)]))
    assert world.server.names(TRIAL) == ["a-0", "a-2"]
    failing.clear()

    book = world.book()
    assert run(book.recover()) == (suggest(0, 0),)
    assert world.server.names(TRIAL) == ["a-0"]
    assert world.trial("a-0") == [suggest(0, 0)]
    other = suggest(1, 1, 0.2)
    run(book.write([other]))
    assert recover(world) == (suggest(0, 0), other)


def test_trials_that_are_gone_or_were_altered_are_made_again(tmp_path: Path) -> None:
    world = World(tmp_path)
    run(world.book().write([suggest(0, 0), suggest(1, 1, 0.2)]))
    world.server.objects.pop((TRIAL.plural, NAMESPACE, "a-0"))
    world.server.find(TRIAL, "a-1")["spec"]["decisions"] = []
    book = world.book()
    assert run(book.recover()) == (suggest(0, 0), suggest(1, 1, 0.2))
    run(book.restore())
    assert (world.trial("a-0"), world.trial("a-1")) == ([suggest(0, 0)], [suggest(1, 1, 0.2)])
    calls = len(world.server.calls)
    run(book.restore())
    assert len(world.server.calls) == calls


def test_a_trial_of_an_earlier_study_of_that_name_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path)
    run(world.book().write([suggest(0, 0)]))
    before = world.server.find(TRIAL, "a-0")["metadata"]["uid"]
    world.uid = "another"
    world.store.delete_study("a")
    book = world.book()
    assert run(book.recover()) == ()
    run(book.write([suggest(0, 0, 0.2)]))
    found = world.server.find(TRIAL, "a-0")["metadata"]
    assert found["uid"] != before
    assert found["ownerReferences"][0]["uid"] == "another"


def running(world: World, trials: int) -> StudyRun:
    """The study with so many trials."""
    engine = Engine(SearchPlan("signature"), EngineOptions())
    made = tuple(suggest(index, index, 0.1 + index) for index in range(trials))
    engine.handle(StudyAdded(world.study, decisions=made), 0.0)
    return engine.studies["a"]


SPACE = {"lr": {"uniform": {"low": 0.0, "high": 100.0}}}
EXTERNAL = {"algorithm": {"name": "external"}, "space": SPACE}


def test_statuses_are_written_some_at_a_time_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STATUSES", 4)
    world = World(tmp_path, **EXTERNAL)
    study = running(world, 9)
    book = world.book()
    run(book.write(suggest(index, index, 0.1 + index) for index in range(9)))
    assert [run(book.write_statuses(study)) for _ in range(4)] == [False, False, True, True]
    assert world.server.count("status", TRIAL) == 9
    again = world.book()
    run(again.recover())
    while not run(again.write_statuses(study)):
        pass
    assert world.server.count("status", TRIAL) == 9, "a new operator finds them as they are to be"
    world.server.find(TRIAL, "a-3")["spec"]["decisions"] = []
    again = world.book()
    run(again.recover())
    run(again.restore())
    while not run(again.write_statuses(study)):
        pass
    assert world.server.find(TRIAL, "a-3")["status"]["phase"] == "Pending"


def test_trials_of_users_that_are_gone_keep_no_others_from_being_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_STATUSES", 2)
    world = World(tmp_path, **EXTERNAL)
    engine = Engine(SearchPlan("signature"), EngineOptions())
    made = [suggest(index, index, 0.1 + index, request=index) for index in range(5)]
    engine.handle(StudyAdded(world.study, decisions=tuple(made)), 0.0)
    book = world.book()
    book.user_trials = {0: "one", 1: "two", 2: "three", 3: None, 4: "five"}
    body = dict(world.server.find(STUDY, "a"), metadata={"name": "five"})
    run(world.server.create(TRIAL, NAMESPACE, body))
    run(book.write(made))
    assert world.server.names(TRIAL) == ["five"], "none is made for those that users made"
    while not run(book.write_statuses(engine.studies["a"])):
        pass
    assert world.server.find(TRIAL, "five")["status"]["phase"] == "Pending"
    calls = len(world.server.calls)
    assert run(book.write_statuses(engine.studies["a"]))
    assert len(world.server.calls) == calls


def test_the_end_of_an_earlier_object_tells_nothing_of_the_one_in_its_place(tmp_path: Path) -> None:
    """A watch tells late that a Trial was removed by hand, which has been made again since."""
    world = World(tmp_path, **EXTERNAL)
    study, book = running(world, 1), world.book()
    run(book.write([suggest(0, 0)]))
    gone = world.server.objects.pop((TRIAL.plural, NAMESPACE, "a-0"))
    run(book.write([promote(1, 0)]))  # the first to find out
    assert run(book.write_statuses(study))
    book.lost(0, gone)
    world.server.find(TRIAL, "a-0")["status"]["phase"] = "Running"  # by who has overtaken
    study.trials[0].reason = "it is news"
    run(book.restore())
    with pytest.raises(Conflict):
        run(book.write_statuses(study))


def test_the_end_of_the_object_that_is_there_makes_it_again(tmp_path: Path) -> None:
    world = World(tmp_path, **EXTERNAL)
    study, book = running(world, 1), world.book()
    run(book.write([suggest(0, 0)]))
    assert run(book.write_statuses(study))
    book.lost(0, world.server.objects.pop((TRIAL.plural, NAMESPACE, "a-0")))
    run(book.restore())
    assert run(book.write_statuses(study))
    assert world.server.find(TRIAL, "a-0")["status"]["phase"] == "Pending"


def test_a_trial_whose_creation_was_not_answered_is_written_over_as_it_is_found(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, **EXTERNAL)
    study, book = running(world, 1), world.book()
    run(world.book().write([suggest(0, 0)]))
    world.server.find(TRIAL, "a-0")["status"] = {"phase": "Pending"}
    run(book.write([suggest(0, 0)]))
    world.server.find(TRIAL, "a-0")["status"]["phase"] = "Running"
    with pytest.raises(Conflict):
        run(book.write_statuses(study))
