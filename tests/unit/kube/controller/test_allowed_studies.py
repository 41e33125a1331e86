"""Which studies an operator takes: where they are, and what they ask of their pods."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from hippo.kube.controller.controller import Operator
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.manifest import build_pod
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY
from hippo.kube.settings import Settings, read_allowance
from hippo.model import InvalidSpec
from hippo.protocol.assignments import Assignment, Route, TrainerCall
from hippo.store.directory import DirectoryBlobs
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, parse, study_document

SECONDS = 20.0
STORE = "s3://bucket"
TRAINER = {
    "entrypoint": "trainer:Trainer",
    "image": "digits:1",
    "podTemplate": {"spec": {"priorityClassName": "batch"}},
}


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, SECONDS))


@contextlib.asynccontextmanager
async def operating(
    server: MemoryApi, tmp_path: Path, settings: Settings
) -> AsyncIterator[Operator]:
    made = Operator(server.api, DirectoryBlobs(tmp_path / "store"), settings, Metrics())
    try:
        await made.resync.look_again()
        yield made
    finally:
        await made.stop()


async def until(condition: Callable[[], Any]) -> None:
    while not condition():  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.01)


def status(server: MemoryApi, study: str) -> dict[str, Any]:
    return server.find(STUDY, study).get("status") or {}


def condition(server: MemoryApi, study: str) -> tuple[str, str, str]:
    (found,) = [c for c in status(server, study)["conditions"] if c["type"] == "Accepted"]
    return found["status"], found["reason"], found["message"]


def test_no_study_is_taken_where_the_operators_own_keys_lie(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a")
        own = Settings(store=STORE, own_namespace=NAMESPACE)
        async with operating(server, tmp_path, own) as made:
            assert not made.plans
        assert status(server, "a")["phase"] == "Rejected"
        accepted, reason, message = condition(server, "a")
        assert (accepted, reason) == ("False", "InvalidSpec")
        assert message.startswith("metadata.namespace: is the operator's own")
        assert "make the study in another namespace" in message
        assert "stagePods.allow.ownNamespace: true" in message
        assert server.names(SEARCH_PLAN) == server.names(POD) == []
        for other in (None, "hippo"):
            async with operating(server, tmp_path, Settings(store=STORE, own_namespace=other)):
                await until(lambda: len(server.names(POD)) == 2)
        assert condition(server, "a")[0] == "True"

    run(go())


def test_nor_is_a_pod_made_there() -> None:
    assignment = Assignment(
        chain="r1-00001",
        signature="f" * 64,
        trainer=TrainerCall(entrypoint="t:T"),
        route=Route(hyperparameters={"lr": 0.1}, steps=4, stop_at=4),
        studies=("a",),
    )
    study = parse(study_document("a"))
    settings = Settings(store=STORE, own_namespace=NAMESPACE)
    with pytest.raises(InvalidSpec, match=r"^metadata\.namespace: "):
        build_pod(study, assignment, plan="p", plan_uid="u", settings=settings)


def test_a_study_that_is_no_longer_taken_goes_on_once_it_is_allowed(tmp_path: Path) -> None:
    """An upgrade may find studies at work that ask for more than is listed."""
    allowing = Settings(store=STORE, allowance=read_allowance(["priorityClasses=batch"]))

    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a", trainer=TRAINER)
        async with operating(server, tmp_path, allowing):
            await until(lambda: status(server, "a").get("phase") == "Running")
        pods = server.names(POD)
        assert pods
        async with operating(server, tmp_path, Settings(store=STORE)):
            pass
        assert status(server, "a")["phase"] == "Rejected"
        assert "stagePods.allow.priorityClasses: [batch]" in condition(server, "a")[2]
        assert server.names(POD) == pods  # they go on to their end
        async with operating(server, tmp_path, allowing):
            await until(lambda: status(server, "a").get("phase") == "Running")
        assert server.names(POD) == pods

    run(go())


@pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
def test_a_study_that_has_ended_stays_as_it_ended(tmp_path: Path, phase: str) -> None:
    async def go() -> None:
        server = MemoryApi()
        await add_study(server, "a", trainer=TRAINER)
        found = server.find(STUDY, "a")
        before = {"phase": phase, "observedGeneration": 1, "message": "it is over"}
        found["status"] = dict(before)
        own = Settings(store=STORE, own_namespace=NAMESPACE)
        async with operating(server, tmp_path, own):
            pass
        assert status(server, "a") == before
        found["metadata"]["generation"] = 2  # it was edited: pods may be made of it
        async with operating(server, tmp_path, Settings(store=STORE)):
            pass
        assert condition(server, "a")[:2] == ("False", "InvalidSpec")

    run(go())


def test_resources_hold_quantities_and_nothing_else(tmp_path: Path) -> None:
    async def go() -> None:
        server = MemoryApi()
        resources = {"limits": {"cpu": True}, "hugeness": 1}
        await add_study(server, "a", trainer={**TRAINER, "podTemplate": {}, "resources": resources})
        async with operating(server, tmp_path, Settings(store=STORE)):
            pass
        message = condition(server, "a")[2]
        assert "spec.trainer.resources.limits[cpu]: must be a quantity" in message
        assert "spec.trainer.resources.hugeness: is not among the fields" in message

    run(go())
