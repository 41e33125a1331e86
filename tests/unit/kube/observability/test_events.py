"""Events: posted once, counted when repeated, and never in the way."""

from __future__ import annotations

import asyncio

import pytest

from hippo.kube.client import ApiError
from hippo.kube.observability import events as module
from hippo.kube.observability.events import Events
from hippo.kube.resources import EVENT, STUDY, Document
from hippo.kube.status.bounding import MAX_EVENT_BYTES
from tests.unit.kube.memory import MemoryApi, add_study, run


def about(server: MemoryApi) -> Document:
    run(add_study(server, "a"))
    return server.find(STUDY, "a")


async def post(events: Events) -> None:
    task = asyncio.create_task(events.run())
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()


def post_all(events: Events) -> None:
    run(post(events))


def told(server: MemoryApi) -> dict[str, int]:
    return {
        str(server.find(EVENT, name)["message"]): int(server.find(EVENT, name)["count"])
        for name in server.names(EVENT)
    }


def test_the_same_happening_is_counted() -> None:
    server = MemoryApi()
    study, events = about(server), Events(server.api)
    for message in ("one", "two", "one", "one"):
        events.tell(study, "Notice", message, False)
    post_all(events)
    assert told(server) == {"one": 3, "two": 1}


def test_one_that_has_expired_is_posted_anew() -> None:
    server = MemoryApi()
    study, events = about(server), Events(server.api)

    async def go() -> None:
        events.tell(study, "Notice", "one", False)
        await post(events)
        for name in server.names(EVENT):
            del server.objects[EVENT.plural, "research", name]
        events.tell(study, "Notice", "one", False)
        await post(events)

    run(go())
    assert list(told(server)) == ["one"]


def test_a_restarted_operator_says_nothing_twice() -> None:
    server = MemoryApi()
    study = about(server)
    for _ in range(2):
        events = Events(server.api)
        events.tell(study, "Notice", "one", False)
        post_all(events)
    assert told(server) == {"one": 1}


def test_what_cannot_be_posted_stops_nothing() -> None:
    server = MemoryApi()
    study, events = about(server), Events(server.api)
    answers = [ApiError(403, "the namespace is being terminated")]
    server.fail = lambda verb, *_: answers.pop() if answers else None
    events.tell(study, "Notice", "one", False)
    events.tell(study, "Notice", "two", True)
    post_all(events)
    assert told(server) == {"two": 1}
    (name,) = server.names(EVENT)
    assert server.find(EVENT, name)["type"] == "Warning"


def test_of_too_many_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 3)
    server = MemoryApi()
    study, events = about(server), Events(server.api)
    for number in range(10):
        events.tell(study, "Notice", str(number) + "x" * 2000, False)
    post_all(events)
    assert sorted(message[0] for message in told(server)) == ["7", "8", "9"]
    assert {len(message) for message in told(server)} == {MAX_EVENT_BYTES}


def test_a_flood_of_one_namespace_drowns_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_WAITING", 10)
    server = MemoryApi()
    study, events = about(server), Events(server.api)
    other = {**study, "metadata": {**study["metadata"], "namespace": "other"}}
    events.tell(other, "Notice", "quiet", False)
    for number in range(100):
        events.tell(study, "Notice", f"loud {number}", False)
    order = [events._queue.get_nowait()["message"] for _ in range(events._queue.qsize())]
    assert order == ["quiet", *(f"loud {number}" for number in range(91, 100))]
