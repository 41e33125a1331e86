"""Trials that users make, and the mailbox of their study."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from hippo.kube.reconciler.trial_objects import TrialObjects
from hippo.kube.reconciler.user_trials import UserTrials
from hippo.kube.resources import TRIAL, Document
from hippo.kube.spec_parser import ParserFailed, SpecParser, TooCostly
from hippo.model import Sequence
from hippo.protocol.requests import Promote, Request, Stop, Suggest, Taken
from hippo.store import DirectoryBlobs, PlanStore
from hippo.store.mailbox import Mailbox
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, add_trial, run


class World:
    """A study that Trials name; ``start`` is a new operator."""

    def __init__(self, tmp_path: Path) -> None:
        self.server = MemoryApi()
        item = run(add_study(self.server, "a", algorithm={"name": "external"}))
        self.study, self.uid = item.study, item.uid
        self.store = PlanStore(DirectoryBlobs(tmp_path / "store"), f"{NAMESPACE}/plan")
        self.mailbox = Mailbox(self.store.blobs, self.store.plan, "a")
        self.start()

    def start(self) -> None:
        live = {document["metadata"]["uid"] for document in self.objects.values()}
        self.book = TrialObjects(self.server.api, self.store, self.study, self.uid)
        self.trials = UserTrials(self.store, self.study, self.book, live)

    @property
    def objects(self) -> dict[str, Document]:
        found = {name: self.server.find(TRIAL, name) for name in self.server.names(TRIAL)}
        return copy.deepcopy(found)

    def add(self, name: str, lr: Any = 0.1, steps: int = 2) -> str:
        """Its uid."""
        uid: str = run(add_trial(self.server, name, "a", lr, steps))["metadata"]["uid"]
        return uid

    def remove(self, name: str) -> None:
        run(self.server.delete(TRIAL, NAMESPACE, name))

    def post(self) -> None:
        self.trials.post(self.objects)

    @property
    def requests(self) -> list[Request]:
        return [self.mailbox.read(number) for number in range(self.mailbox.count())]

    def tell(self) -> None:
        self.trials.read_refusals()
        run(self.trials.write_refusals(self.server.api))

    def reason(self, name: str) -> str | None:
        found: str | None = (self.server.find(TRIAL, name).get("status") or {}).get("reason")
        return found


@pytest.mark.slow
def test_each_wish_is_asked_for_once_by_however_many_operators(tmp_path: Path) -> None:
    world = World(tmp_path)
    uid = world.add("one")
    asked: list[Request] = [Suggest(hyperparameters={"lr": 0.1}, steps=2, origin=uid)]
    for _ in range(2):
        world.post()
        assert world.requests == asked
        world.start()
        world.post()
    world.server.find(TRIAL, "one")["spec"]["steps"] = 4
    for _ in range(2):
        world.post()
        assert world.requests == [*asked, Promote(trial=0, steps=4)]
        world.start()
    world.server.find(TRIAL, "one")["spec"]["stop"] = True
    for _ in range(2):
        world.post()
        assert world.requests == [*asked, Promote(trial=0, steps=4), Stop(trial=0)]
        world.start()


def test_trials_that_are_deleted_are_stopped_whoever_looked(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("one")
    world.add("two", 0.2)
    world.post()
    world.remove("one")
    world.post()
    assert world.requests[2:] == [Stop(trial=0)]
    world.remove("two")  # while no operator is there
    world.start()
    assert world.requests[2:] == [Stop(trial=0), Stop(trial=1)]
    world.start()
    world.post()
    assert len(world.requests) == 4


def test_one_that_no_watch_has_shown_yet_is_not_stopped(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("one")
    world.post()
    world.start()
    world.trials.post({})
    assert len(world.requests) == 1


def test_a_trial_that_was_deleted_lends_its_name_to_another(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("one")
    world.post()
    assert world.book.user_trials == {0: "one"}
    world.remove("one")
    world.add("one", 0.2)
    world.post()
    assert world.book.user_trials == {0: None, 2: "one"}
    world.start()
    world.post()
    assert world.book.user_trials == {0: None, 2: "one"}


def test_what_is_wrong_with_a_trial_is_told_where_it_stands(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("odd", {"nonsense": 1})
    world.server.find(TRIAL, "odd")["spec"]["steps"] = 0
    world.add("refused")
    world.post()
    world.mailbox.answer(Taken(request=0, refused="the study has no trial left"))
    world.tell()
    assert "steps" in str(world.reason("odd"))
    assert world.reason("refused") == "the study has no trial left"
    calls = len(world.server.calls)
    world.post()
    world.tell()
    assert len(world.server.calls) == calls
    world.remove("odd")
    world.post()
    world.add("odd", {"nonsense": 1})
    world.server.find(TRIAL, "odd")["spec"]["steps"] = 0
    world.post()
    world.tell()
    assert "steps" in str(world.reason("odd")), "it is another object"


def test_answers_are_read_once(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("one")
    world.post()
    world.mailbox.answer(Taken(request=0, name="a-0"))
    world.tell()
    read: list[str] = []
    get = world.store.blobs.get

    def noted(name: str) -> bytes:
        read.append(name)
        return get(name)

    world.store.blobs.get = noted  # type: ignore[method-assign]
    world.tell()
    assert read == []


class _Noting(SpecParser):
    """Refuses what is marked as costly; notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []
        self.is_broken = False

    def check_sequence(self, hyperparameters: Any, steps: int, namespace: str) -> None:
        self.asked.append(hyperparameters["lr"])
        if self.is_broken:
            raise ParserFailed("no process can be started that reads")
        if hyperparameters["lr"] == "costly":
            raise TooCostly.at("spec", "takes too long")
        Sequence.of(hyperparameters, steps)


def test_each_trial_is_read_once_and_what_costs_too_much_is_not_asked_for(tmp_path: Path) -> None:
    world = World(tmp_path)
    parser = world.trials._parser = _Noting()
    world.add("bad", "costly")
    world.add("wrong", {"step": {}})
    uid = world.add("good")
    objects = world.objects
    for _ in range(3):
        world.trials.post(objects)
        world.tell()
    assert sorted(map(str, parser.asked)) == ["0.1", "costly", "{'step': {}}"]
    assert world.reason("bad") == "spec: takes too long"
    origins = [request.origin for request in world.requests if isinstance(request, Suggest)]
    assert len(origins) == 2, "the tuner says what is wrong with the other"
    assert uid in origins
    world.server.find(TRIAL, "good")["spec"]["steps"] = 4
    world.post()
    assert len(parser.asked) == 3, "its sequence is as it was"
    assert isinstance(world.requests[-1], Promote)


def test_a_trial_that_could_not_be_read_is_asked_for_later(tmp_path: Path) -> None:
    world = World(tmp_path)
    parser = world.trials._parser = _Noting()
    world.add("one")
    parser.is_broken = True
    world.post()
    assert world.requests == []
    parser.is_broken = False
    world.post()
    assert len(world.requests) == 1
    world.tell()
    assert world.reason("one") is None
