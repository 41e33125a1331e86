"""Who may write into a plan's folder of the store neither stops the operator nor leads it outside.

A stage pod can write there, so a trainer's image can. A plan whose records were spoilt may stop,
with one clear line; no other plan may, and nothing outside the plan's folder is read or written.
"""

from __future__ import annotations

import os
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.model_checking.store import MemoryBlobs
from tests.model_checking.world import World
from tests.unit.hostile.values import spoil_bytes

NIGHTLY = os.environ.get("HIPPO_TEST_PROFILE") == "nightly"
LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [3]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [5]}},
]


def take_turns(world: World, number: int) -> None:
    world.go_on(number, actions=2, seconds=2.0)


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
@pytest.mark.timeout(3600)
@settings(max_examples=2_000 if NIGHTLY else 150)
@given(st.integers(0, 2**32))
def test_spoilt_records_stop_at_most_their_own_plan(seed: int) -> None:
    dice = random.Random(seed)
    world = World()
    try:
        for name, version in (("target", "1"), ("other", "2")):
            world.apply(
                name,
                steps=7,
                space={"lr": {"choices": LRS}},
                algorithm=dice.choice([{"name": "grid"}, {"name": "sha", "eta": 2, "minSteps": 2}]),
                maxTrials=3,
                trainer={"entrypoint": "t:T", "image": "i:1", "version": version},
            )
        world.start_operator(0, "hippo")
        take_turns(world, dice.randrange(1, 8))
        target = next(task for task in world.operators[0].plans if "target" in task.studies)
        prefix = f"{target.namespace}/{target.name}/"
        for name in [n for n in world.blobs if n.startswith(prefix)]:
            if dice.random() < 0.3:
                world.blobs[name] = spoil_bytes(world.blobs[name], dice)
        world.is_strict = False
        outside = {n: d for n, d in world.blobs.items() if not n.startswith("research/")}
        if dice.random() < 0.5:
            world.kill_operator(0)
            world.start_operator(0, "hippo")
        for _ in range(25):
            take_turns(world, 1)
            assert 0 in world.operators
        reasons = {
            condition["reason"]
            for study in world.studies()
            for condition in study["status"]["conditions"]
        }
        assert "Defect" not in reasons, [s["status"].get("message") for s in world.studies()]
        other = next(s for s in world.studies() if s["metadata"]["name"] == "other")
        assert other["status"]["phase"] == "Succeeded", "another plan is none of its business"
        assert {n: d for n, d in world.blobs.items() if not n.startswith("research/")} == outside
        for study in world.studies():
            assert "\n" not in study["status"].get("message", "")
    finally:
        world.close()


@pytest.mark.slow
def test_names_lead_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a record names, all that is asked of the store has a name within one plan."""
    asked: list[str] = []
    for verb in ("get", "put", "delete"):
        real = getattr(MemoryBlobs, verb)

        def seen(self: MemoryBlobs, name: str, *rest: Any, real: Any = real, **more: Any) -> Any:
            asked.append(name)
            return real(self, name, *rest, **more)

        monkeypatch.setattr(MemoryBlobs, verb, seen)
    test_spoilt_records_stop_at_most_their_own_plan.hypothesis.inner_test(7)
    assert asked
    assert all(name.startswith("research/") and ".." not in name for name in asked)
