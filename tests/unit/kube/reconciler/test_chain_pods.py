"""Chains whose pods cannot be created: for now, for ever, or by us."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import pytest

from hippo.kube.client import AlreadyExists, Api, ApiError, NotFound, Refused
from hippo.kube.pods.state import Cause, PodPhase, PodState
from hippo.kube.reconciler import chain_pods as module
from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.errors import TakenOver
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.settings import Settings
from hippo.kube.status.models import SearchPlanStatus
from hippo.model import Study, parse_study
from hippo.protocol.assignments import Assignment, Route, TrainerCall

T = TypeVar("T")
QUOTA = Refused(
    403,
    'pods "hippo-plan-r1" is forbidden: exceeded quota: few, requested: pods=1, used: pods=2,'
    " limited: pods=2",
)


@dataclass
class Server:
    """An API server that answers creations as it is told, and otherwise has nothing."""

    answers: list[ApiError | None] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)

    async def create(self, _: Any, _namespace: str, body: dict[str, Any]) -> None:
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
        self.created.append(body["metadata"]["name"])

    async def get(self, *_: Any) -> None:
        raise NotFound(404, "not found")

    async def delete(self, _: Any, _namespace: str, name: str, **_options: Any) -> None:
        self.deleted.append(name)


@dataclass
class Plan:
    """A SearchPlan; ``is_lost``: somebody else has taken over."""

    uid: str = "1234"
    status: SearchPlanStatus = field(default_factory=SearchPlanStatus)
    is_lost: bool = False

    async def write(self) -> None:
        if self.is_lost:
            raise TakenOver("taken over")


class World:
    def __init__(self, *answers: ApiError | None) -> None:
        self.server, self.plan = Server(list(answers)), Plan()
        self.chains = ChainPods(
            cast(Api, self.server),
            cast(PlanObject, self.plan),
            "research",
            "plan",
            Settings(store="s3://bucket"),
        )

    def launch(self, *chains: str) -> list[module.NotLaunched]:
        return run(self.chains.launch([(assignment(chain), STUDY) for chain in chains]))

    def look(self, chain: str) -> PodState | None:
        return run(self.chains.look_for(chain, {}))

    def create_again(self) -> None:
        run(self.chains.create_again())


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def assignment(chain: str) -> Assignment:
    return Assignment(
        chain=chain,
        signature="",
        trainer=TrainerCall(entrypoint="trainer:Trainer"),
        route=Route(hyperparameters={}, steps=1, stop_at=1),
        studies=("study",),
    )


STUDY: Study = parse_study(
    {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": "study", "namespace": "research"},
        "spec": {
            "objective": {"metric": "loss", "goal": "minimize"},
            "steps": 1,
            "space": {"lr": {"choices": [0.1]}},
            "algorithm": {"name": "grid"},
            "trainer": {"entrypoint": "trainer:Trainer", "image": "digits:1"},
        },
    }
)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CREATE_AGAIN_SECONDS", 0.0)


def test_a_quota_makes_pods_wait_until_there_is_room() -> None:
    world = World(QUOTA, QUOTA)
    assert world.launch("r1") == []
    state = world.look("r1")
    assert state is not None
    assert (state.phase, state.cause) == (PodPhase.PENDING, Cause.NO_QUOTA)
    assert state.is_queued
    assert state.message.startswith("there is no quota for a pod: exceeded quota: few, requested:")
    assert "ResourceQuota" in state.message
    world.create_again()
    assert world.server.created == []
    world.create_again()
    assert world.server.created == ["hippo-plan-r1"]
    assert world.look("r1") == PodState(PodPhase.PENDING)  # created, and not seen yet
    world.create_again()
    assert world.server.created == ["hippo-plan-r1"]


def test_a_server_that_fails_is_asked_again() -> None:
    world = World(ApiError(500, "a webhook does not answer"), AlreadyExists(409, "exists"))
    assert world.launch("r1") == []
    state = world.look("r1")
    assert state is not None
    assert "a webhook does not answer" in state.message
    world.create_again()  # the first request had come through
    assert world.look("r1") == PodState(PodPhase.PENDING)


def test_a_pod_that_is_refused_is_told() -> None:
    world = World(None, Refused(403, "violates PodSecurity"))
    (problem,) = world.launch("r1", "r2")
    assert problem.chain == "r2"
    assert "violates PodSecurity" in problem.problem


def test_a_pod_that_is_refused_later_is_gone_and_so_launched_anew() -> None:
    world = World(QUOTA, Refused(403, "violates PodSecurity"))
    world.launch("r1")
    world.create_again()
    assert world.look("r1") is None


def test_who_was_overtaken_creates_nothing() -> None:
    world = World(QUOTA)
    world.launch("r1")
    world.plan.is_lost = True
    with pytest.raises(TakenOver):
        world.create_again()
    assert world.server.created == []


def test_what_was_not_created_needs_no_deletion() -> None:
    world = World(QUOTA)
    world.launch("r1")
    run(world.chains.remove("r1"))
    world.create_again()
    assert world.look("r1") is None
    assert world.server.created == world.server.deleted == []


def test_a_pod_that_was_seen_and_is_missing_is_gone() -> None:
    world = World()
    world.launch("r1")
    assert world.look("r1") == PodState(PodPhase.PENDING)
    seen = {"hippo-plan-r1": PodState(PodPhase.RUNNING)}
    run(world.chains.look_for("r1", seen))
    assert world.look("r1") is None


def test_pods_that_another_container_keeps_are_deleted() -> None:
    world = World()
    world.launch("r1")
    over = PodState(PodPhase.SUCCEEDED, lingers=True)
    pods = {"hippo-plan-r1": over, "hippo-plan-r0": over}
    run(world.chains.tidy(pods))
    assert world.server.deleted == ["hippo-plan-r0"]  # the end of the other is not taken in yet
    assert not world.chains.is_tidy
    pods["hippo-plan-r0"] = PodState(PodPhase.SUCCEEDED, lingers=True, gone_by=1.0)
    run(world.chains.tidy(pods))
    assert world.chains.is_tidy
