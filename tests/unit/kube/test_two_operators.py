"""One operator is held up before any of its requests, another takes over, the first goes on."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.resources import POD
from hippo.kube.status.models import ChainRecord
from hippo.store import PlanStore
from tests.model_checking.world import FINAL, LOCK_SECONDS, World

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [3]}},
    0.5,
]
MOST = 200


def begin() -> World:
    world = World()
    world.apply("s", steps=6, space={"lr": {"choices": LRS}}, parallelism=3)
    world.start_operator(0, "hippo")
    return world


def finish(world: World, slot: int) -> None:
    for _ in range(MOST):
        for each in list(world.free_operators()):
            world.catch_up(each)
            world.take_turn(each)
        world.serve_pods(actions=2)
        world.server.now += 2.0
        world.check()
        if all((s.get("status") or {}).get("phase") in FINAL for s in world.studies()):
            break
    world.kill_operator(1 - slot)
    for _ in range(40):
        world.catch_up(slot)
        world.take_turn(slot)
        world.server.now += 3.0
    world.check_end()


def hold_up_everywhere(other: str) -> None:
    pods_when_held = set()
    for number in range(MOST):
        world = begin()
        try:
            world.operators[0].faults.set("held", number)
            world.take_turn(0)
            was_held = not world.free_operators()
            if was_held:
                pods_when_held.add(world.server.count("create", POD))
                world.server.now += LOCK_SECONDS
                world.start_operator(1, other)
                world.catch_up(1)
                for _ in range(3):
                    world.take_turn(1)
                    world.server.now += 1.0
                world.resume(0)
            finish(world, 1 if was_held else 0)
        finally:
            world.close()
        if not was_held:
            break
    assert number > 10
    assert len(pods_when_held) > 2, "it was held up between pods"


@pytest.mark.slow
@pytest.mark.parametrize("other", ["hippo", "another"])
def test_no_stage_gets_two_pods_whenever_one_is_overtaken(other: str) -> None:
    """The first may be held up for any time: also in the middle of a launch."""
    hold_up_everywhere(other)


# -- the model finds what is wrong -----------------------------------------------------------------


@pytest.mark.slow
def test_a_chain_that_is_not_barred_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlanStore, "bar", lambda store, chain: True)
    with pytest.raises(AssertionError, match="no SearchPlan told of it"):
        hold_up_everywhere("hippo")


def test_a_launch_without_a_record_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def launch(self: ChainPods, wanted: Any) -> list[Any]:
        for item in wanted:
            self.records[item[0].chain] = ChainRecord(name=item[0].chain, study=item[1].name)
            await self._build(*item)
        return []

    monkeypatch.setattr(ChainPods, "launch", launch)
    world = begin()
    try:
        with pytest.raises(AssertionError, match="no SearchPlan told of it"):
            finish(world, 0)
    finally:
        world.close()


def test_a_writer_that_minds_no_other_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PlanObject, "_check", lambda plan, found: found)
    with pytest.raises(AssertionError):
        hold_up_everywhere("hippo")
