"""What is made of pods that do not begin, leave, or are not what they should be."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hippo.engine import Engine
from hippo.kube import names
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.state import GONE, Cause, PodPhase, PodState
from hippo.kube.reconciler import pod_monitor
from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.reconciler.pod_monitor import PodMonitor
from hippo.kube.status.models import ChainRecord, SearchPlanStatus

Over = list[tuple[str, PodState | None]]


@dataclass
class World:
    """Recorded chains with their pods as watched; no API server."""

    pods: dict[str, PodState] = field(default_factory=dict)  # by chain
    status: SearchPlanStatus = field(default_factory=SearchPlanStatus)
    records: dict[str, ChainRecord] = field(default_factory=dict)
    removed: list[str] = field(default_factory=list)
    running: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan, chains = cast(PlanObject, self), cast(ChainPods, self)
        self.watch = PodMonitor("research", "plan", plan, chains, Metrics())

    def add(self, chain: str, state: PodState | None, **engine: bool) -> None:
        self.records[chain] = ChainRecord(name=chain, study="study")
        self.running[chain] = SimpleNamespace(**{"begun": False, "is_leaving": False, **engine})
        if state is not None:
            self.pods[chain] = state

    def pod_of(self, chain: str) -> str:
        return chain

    async def create_again(self) -> None:
        pass

    async def look_for(self, chain: str, pods: Mapping[str, PodState]) -> PodState | None:
        return pods.get(chain)

    async def remove(self, chain: str, *, grace_seconds: int | None = None) -> None:
        self.removed.append(chain if grace_seconds is None else f"{chain} in {grace_seconds} s")

    def look(self) -> Over:
        engine = cast(Engine, SimpleNamespace(chains=self.running))
        return asyncio.run(self.watch.look(engine, self.pods))


@pytest.fixture
def world() -> World:
    return World()


def running(image: str = "registry.example/digits@sha256:ab12", **more: Any) -> PodState:
    return PodState(PodPhase.RUNNING, image_id=image, **more)


def test_the_first_image_is_the_plans(world: World) -> None:
    world.add("a", PodState(PodPhase.PENDING, image_id="of another pod's status"))
    world.look()
    assert world.status.image_id is None
    world.pods["a"] = running()
    world.add("b", running())
    world.look()
    assert world.status.image_id == "registry.example/digits@sha256:ab12"
    assert world.watch.problem is None


def test_another_image_stops_the_plan_and_says_what_to_do(world: World) -> None:
    world.status.image_id = "registry.example/digits@sha256:ab12"  # by an operator before this one
    world.add("a", running("registry.example/digits@sha256:cd34"))
    assert world.look() == []
    assert world.watch.is_changed
    assert world.watch.problem is not None
    reason, message = world.watch.problem
    assert reason == names.REASON_IMAGE_CHANGED
    assert "begun with registry.example/digits@sha256:ab12" in message
    assert "a pod now runs registry.example/digits@sha256:cd34" in message
    assert "name the image by its digest, or make a new study" in message
    world.pods["a"] = running("registry.example/digits@sha256:ef56")
    world.look()
    assert world.watch.problem == (reason, message)  # the first stands
    assert world.status.image_id == "registry.example/digits@sha256:ab12"
    assert set(world.removed) == {"a in 0 s"}, "it must not save what others would go on from"


def test_who_waits_and_why(world: World) -> None:
    world.add("a", PodState(PodPhase.PENDING))
    world.add("b", PodState(PodPhase.PENDING, Cause.CONFIG, "the Secret is missing"))
    world.add("c", running(cause=Cause.NODE_LOST, message="node n does not answer"))
    world.add("d", running(cause=Cause.PREEMPTED, message="the pod was deleted"))
    assert world.look() == []
    assert world.watch.waiting == {"b": "the Secret is missing", "c": "node n does not answer"}
    assert not world.watch.is_changed, "whether a study waits, others find out"
    world.pods["b"] = running()
    del world.records["c"]
    world.look()
    assert world.watch.waiting == {}


def test_who_would_begin_if_there_were_room(world: World) -> None:
    for cause in (Cause.NO_ROOM, Cause.QUEUED, Cause.NO_QUOTA):
        world.add(cause, PodState(PodPhase.PENDING, cause, "wait"))
    for cause in (Cause.NOT_CREATED, Cause.UNSCHEDULABLE, Cause.CONFIG, Cause.IMAGE_PULL):
        world.add(cause, PodState(PodPhase.PENDING, cause, "somebody has to do something"))
    world.add("leaving", PodState(PodPhase.PENDING, Cause.NO_ROOM, "wait"), is_leaving=True)
    world.add("running", running())
    world.look()
    assert world.watch.queued == {"no_room", "queued", "no_quota"}
    world.pods["queued"] = running()
    world.look()
    assert world.watch.queued == {"no_room", "no_quota"}


def test_a_pod_need_not_begin_to_be_told_to_leave(world: World) -> None:
    world.add("a", PodState(PodPhase.PENDING, Cause.UNSCHEDULABLE, "no room"), is_leaving=True)
    world.add("b", running(), is_leaving=True)
    world.look()
    assert world.removed == ["a"]
    assert world.watch.waiting == {}


def test_ended_pods_are_over(world: World) -> None:
    failed = PodState(PodPhase.FAILED, Cause.OUT_OF_MEMORY, "out of memory")
    world.add("a", failed)
    world.add("b", running())
    assert world.look() == [("a", failed)]


def test_a_pod_removed_by_force_may_still_be_saving(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add("began", None, begun=True)
    world.add("ran", running())
    world.add("waited", PodState(PodPhase.PENDING))
    assert world.look() == []
    world.pods.clear()
    assert world.look() == [("waited", None)]
    monkeypatch.setattr(pod_monitor, "SAVING_SECONDS", 0.0)
    del world.records["waited"]
    assert world.look() == [("began", None), ("ran", None)]


def test_a_pod_that_failed_by_its_deadline_may_still_be_saving(world: World) -> None:
    late = PodState(PodPhase.FAILED, Cause.DEADLINE, "it ran too long", saving_seconds=600.0)
    world.add("a", late)
    assert world.look() == []
    ended = world.pods["a"] = replace(late, saving_seconds=0.0)
    assert world.look() == [("a", ended)]


def test_it_is_told_once_why_a_worker_was_sent_away(world: World) -> None:
    watch, pods = world.watch, world.pods
    world.add("a", running())
    world.add("b", running())
    watch.note_preempted("a", "study")
    watch.note_preempted("b", "study")
    world.records.clear()  # their ends are taken in
    assert list(watch.tell_preempted(pods)) == []  # they have still to end
    pods["a"] = PodState(PodPhase.FAILED, Cause.DEADLINE, "it ran too long")
    assert list(watch.tell_preempted(pods)) == [("study", "a: it ran too long")]
    del pods["b"]
    assert list(watch.tell_preempted(pods)) == [("study", f"b: {GONE.message}")]
    assert list(watch.tell_preempted(pods)) == []


def test_what_is_known_of_a_pod_is_told_when_it_is_gone(world: World) -> None:
    world.add("a", running(cause=Cause.PREEMPTED, message="evicted"))
    world.watch.note_preempted("a", "study")
    assert list(world.watch.tell_preempted(world.pods)) == []
    world.pods.clear()
    assert list(world.watch.tell_preempted(world.pods)) == [("study", "a: evicted")]
