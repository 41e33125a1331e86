"""Studies are read once for each generation, elsewhere; one that costs too much is remembered."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any, cast

import pytest

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.controller import admission as module
from hippo.kube.controller.admission import Refusal, StudyAdmission
from hippo.kube.observability.events import Events
from hippo.kube.resources import STUDY, Document
from hippo.kube.settings import Settings
from hippo.kube.spec_parser import ParserFailed, SpecParser, TooCostly
from hippo.kube.status.written import StudyStatuses
from hippo.model import InvalidSpec, Study, parse_study
from tests.unit.kube.controller.test_controller import edited
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, run, study_document


class CountingParser(SpecParser):
    """The model's own, in whatever thread it is asked; notes who asked for what."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self.threads: set[int] = set()
        self.fail: Exception | None = None

    def parse_study(self, document: Mapping[str, Any], namespace: str) -> Study:
        self.read.append(document["metadata"]["name"])
        self.threads.add(threading.get_ident())
        if self.fail is not None:
            raise self.fail
        return parse_study(document)


class Fixture:
    def __init__(self) -> None:
        self.server = MemoryApi()
        self.parser = CountingParser()
        self.start()

    def start(self) -> None:
        """A new operator."""
        api = self.server.api
        statuses = StudyStatuses(api)
        settings = Settings(store="s3://bucket")
        self.reception = StudyAdmission(api, settings, statuses, Events(api), self.parser)

    async def accept(self, document: Document) -> Accepted | Refusal:
        return await self.reception.accept(document)

    async def refuse(self, document: Document) -> Refusal:
        """And say so, as the operator does."""
        found = await self.accept(document)
        assert isinstance(found, Refusal)
        await self.reception.reject(document, found.reason, found.message, is_at_work=False)
        return found

    async def add(self, **spec: Any) -> Document:
        body = study_document("a", **spec)
        return await self.server.create(STUDY, NAMESPACE, body)


def test_each_generation_is_read_once_and_not_in_the_event_loop() -> None:
    async def go() -> None:
        fixture = Fixture()
        document = await fixture.add()
        found = [await fixture.accept(document) for _ in range(3)]
        assert all(isinstance(item, Accepted) for item in found)
        assert fixture.parser.read == ["a"]
        at_once = [fixture.accept(edited(document, priority=3)) for _ in range(5)]
        later = await asyncio.gather(*at_once)
        assert {cast(Accepted, item).study.spec.priority for item in later} == {3}
        assert fixture.parser.read == ["a", "a"]
        assert threading.get_ident() not in fixture.parser.threads
        fixture.reception.forget(document["metadata"]["uid"])
        await fixture.accept(document)
        assert fixture.parser.read == ["a", "a", "a"]

    run(go())


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (InvalidSpec([("spec.steps", "is odd"), ("spec.seed", "too")]), names.REASON_INVALID),
        (TooCostly([("spec", "takes more than 1 s to read")]), names.REASON_TOO_COSTLY),
    ],
)
def test_a_refusal_is_remembered_until_the_study_is_another(
    error: InvalidSpec, reason: str
) -> None:
    async def go() -> None:
        fixture = Fixture()
        document = await fixture.add()
        fixture.parser.fail = error
        for _ in range(3):
            refusal = await fixture.refuse(document)
            assert refusal.reason == reason
            assert refusal.message == "; ".join(str(error).splitlines())
        assert fixture.parser.read == ["a"]
        assert fixture.server.count("status", STUDY) == 1
        fixture.parser.fail = None
        assert isinstance(await fixture.accept(edited(document, priority=3)), Accepted)
        fixture.reception.keep([])
        assert isinstance(await fixture.accept(document), Accepted)

    run(go())


def test_what_costs_too_much_is_not_read_again_by_the_next_operator() -> None:
    async def go() -> None:
        fixture = Fixture()
        document = await fixture.add()
        fixture.parser.fail = TooCostly([("spec", "takes more than 1 s to read")])
        first = await fixture.refuse(document)
        fixture.start()
        document = fixture.server.find(STUDY, "a")
        assert await fixture.refuse(document) == first
        assert fixture.parser.read == ["a"]
        later = edited(document, priority=3)
        await fixture.refuse(later)
        assert fixture.parser.read == ["a", "a"]
        fixture.parser.fail = InvalidSpec.at("spec", "is wrong")  # this costs little to find out
        await fixture.refuse(edited(later, priority=4))
        fixture.start()
        await fixture.refuse(fixture.server.find(STUDY, "a"))

    run(go())


def test_refusals_fill_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_REFUSED", 3)

    async def go() -> None:
        fixture = Fixture()
        fixture.parser.fail = InvalidSpec.at("spec", "is wrong")
        document = await fixture.add()
        many = [{**document, "metadata": {**document["metadata"], "uid": str(n)}} for n in range(9)]
        for study in many:
            await fixture.accept(study)
        assert len(fixture.reception._results) == len(fixture.reception._refused) == 3
        for study in reversed(many[-3:]):
            await fixture.accept(study)
        assert len(fixture.parser.read) == 9
        await fixture.accept(many[0])
        assert len(fixture.parser.read) == 10
        fixture.reception.keep(["0"])
        assert [*fixture.reception._results] == [*fixture.reception._refused] == ["0"]

    run(go())


def test_where_nothing_can_be_read_no_study_is_refused() -> None:
    async def go() -> None:
        fixture = Fixture()
        document = await fixture.add()
        fixture.parser.fail = ParserFailed("no process can be started that reads")
        for _ in range(2):
            with pytest.raises(ParserFailed):
                await fixture.accept(document)
        assert fixture.parser.read == ["a", "a"]
        assert "status" not in fixture.server.find(STUDY, "a")

    run(go())


def test_the_real_reader_accepts_what_the_model_does() -> None:
    async def go() -> None:
        server = MemoryApi()
        item = await add_study(server, "a")
        statuses = StudyStatuses(server.api)
        settings = Settings(store="s3://bucket")
        reception = StudyAdmission(server.api, settings, statuses, Events(server.api))
        assert await reception.accept(item.document) == item

    run(go())


@pytest.mark.slow
def test_the_loop_goes_on_while_a_document_of_many_pieces_is_read() -> None:
    """It beats at least some times a second, generously, while seconds of work are done."""

    async def go() -> None:
        server = MemoryApi()
        step = {"initial": 0.1, "every": 10}
        space = {
            "lr": {"choices": [{"step": {**step, "gamma": 0.9999 - i * 1e-8}} for i in range(15)]}
        }
        body = study_document("a", steps=100_000, space=space)
        document = await server.create(STUDY, NAMESPACE, body)
        reception = StudyAdmission(
            server.api, Settings(store="s3://b"), StudyStatuses(server.api), Events(server.api)
        )
        longest = 0.0

        async def beat() -> None:
            nonlocal longest
            loop = asyncio.get_running_loop()
            while True:
                before = loop.time()
                await asyncio.sleep(0.01)
                longest = max(longest, loop.time() - before)

        heart = asyncio.create_task(beat())
        began = asyncio.get_running_loop().time()
        found = await reception.accept(document)
        took = asyncio.get_running_loop().time() - began
        heart.cancel()
        assert isinstance(found, Accepted)
        assert longest < max(1.0, took / 2)

    run(go())
