"""The record of what was launched, with others who write the same object."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hippo.kube.client import ApiError
from hippo.kube.reconciler.errors import TakenOver
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.resources import SEARCH_PLAN, dump
from hippo.kube.status.models import ChainRecord, SearchPlanStatus, TreeStage
from hippo.kube.status.stage_tree import MOST_ENTRIES
from hippo.model import Study
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, run

NAME = "plan"


class World:
    def __init__(self) -> None:
        self.server = MemoryApi()
        self.study: Study = run(add_study(self.server, "a")).study

    def open(self, generation: int) -> PlanObject:
        plan = PlanObject(self.server.api, NAMESPACE, NAME)
        run(
            plan.ensure(
                signature="s", study=self.study, owners=owners("one"), generation=generation
            )
        )
        return plan

    @property
    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.server.find(SEARCH_PLAN, NAME)["status"]
        return found

    @property
    def chains(self) -> list[str]:
        return [chain["name"] for chain in self.status.get("chains", [])]


def owners(*uids: str) -> list[dict[str, Any]]:
    return [{"kind": "Study", "name": uid, "uid": uid} for uid in uids]


def record(plan: PlanObject, chain: str) -> None:
    plan.status.chains.append(ChainRecord(name=chain, study="a"))
    run(plan.write())


def test_whoever_opens_a_plan_finds_what_was_launched() -> None:
    world = World()
    record(world.open(1), "r1-1")
    again = world.open(2)
    assert [chain.name for chain in again.status.chains] == ["r1-1"]
    assert world.status["generation"] == 2


def test_one_that_was_overtaken_records_nothing() -> None:
    world = World()
    slow = world.open(1)
    record(world.open(2), "r2-1")
    with pytest.raises(TakenOver):
        record(slow, "r1-1")
    assert world.chains == ["r2-1"]


def test_new_owners_do_not_hide_that_somebody_took_over() -> None:
    """The answer to a patch carries the version that the other one wrote."""
    world = World()
    slow = world.open(1)
    record(world.open(2), "r2-1")
    with pytest.raises(TakenOver):
        run(slow.set_owners(owners("one", "two")))
    with pytest.raises(TakenOver):
        record(slow, "r1-1")
    assert world.chains == ["r2-1"]


@pytest.mark.parametrize("generation", [1, 2])
def test_an_older_hold_takes_over_nothing(generation: int) -> None:
    world = World()
    world.open(2)
    with pytest.raises(TakenOver):
        world.open(generation)


def test_what_others_write_beside_the_status_is_no_conflict() -> None:
    world = World()
    plan = world.open(1)
    run(world.server.patch(SEARCH_PLAN, NAMESPACE, NAME, {"metadata": {"labels": {"a": "b"}}}))
    record(plan, "r1-1")
    assert world.chains == ["r1-1"]
    assert world.server.find(SEARCH_PLAN, NAME)["metadata"]["labels"]["a"] == "b"


def test_one_that_was_deleted_or_made_again_is_not_written() -> None:
    world = World()
    plan = world.open(1)
    world.server.objects.pop((SEARCH_PLAN.plural, NAMESPACE, NAME))
    with pytest.raises(TakenOver, match="was deleted"):
        record(plan, "r1-1")
    world.open(2)
    with pytest.raises(TakenOver):
        record(plan, "r1-1")
    assert world.chains == []
    world.server.objects.pop((SEARCH_PLAN.plural, NAMESPACE, NAME))
    with pytest.raises(TakenOver, match="was deleted"):
        run(plan.set_owners(owners("two")))


def test_a_lost_answer_leaves_a_record_and_whoever_opens_sees_it() -> None:
    world = World()
    plan = world.open(1)
    replace = world.server.replace_status

    async def lose(*arguments: Any) -> dict[str, Any]:
        await replace(*arguments)
        raise ApiError(0, "the API server does not answer")

    world.server.replace_status = lose  # type: ignore[assignment, method-assign]
    with pytest.raises(ApiError):
        record(plan, "r1-1")
    world.server.replace_status = replace  # type: ignore[method-assign]
    assert [chain.name for chain in world.open(2).status.chains] == ["r1-1"]


def test_a_thousand_chains_leave_the_status_far_below_what_an_object_may_hold() -> None:
    """It is written whole whenever a chain is launched."""
    stage = TreeStage(
        steps="100000-200000",
        state="Running",
        trials=1000,
        changes={"lr": 0.0123456789, "batch_size": 128.0},
        depth=10,
        chain="r12-12345",
    )
    status = SearchPlanStatus(
        chains=[ChainRecord(name=f"r12-{n:05d}", study="resnet-50") for n in range(1000)],
        tree=[stage] * MOST_ENTRIES,
    )
    assert len(json.dumps(dump(status), separators=(",", ":"))) < 64 << 10
