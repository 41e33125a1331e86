"""No study starves: whatever comes beside it, each that can run ends within a bound."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.lifecycles import StudyState
from tests.world import Costs, World, build_study

COSTS = Costs(save=0.2, start=0.5)
ALGORITHMS: dict[str, dict[str, Any]] = {
    "grid": {"name": "grid"},
    "sha": {"name": "sha", "eta": 2, "minSteps": 2},
    "asha": {"name": "asha", "eta": 2, "minSteps": 2},
    "random": {"name": "random"},
    "prefixFirst": {"name": "random", "prefixFirst": {}},
    "median": {"name": "median", "minSteps": 2},
}


def run_beside_a_stream(
    world: World, *, most: float, priority: int, steps: int, at_once: int = 2
) -> dict[str, float]:
    """When the studies that are there have ended, while others come without an end."""
    ours = [study.name for study in world.studies]
    ended: dict[str, float] = {}
    count = 0
    while len(ended) < len(ours) and world.now < most:
        others = [run for name, run in world.engine.studies.items() if name not in ours]
        for _ in range(at_once - sum(not run.state.is_final for run in others)):
            space = {"lr": {"choices": [0.1 + count / 10_000]}}
            world.add(build_study(f"new-{count}", space=space, steps=steps, priority=priority))
            count += 1
        assert world.advance()
        for name in ours:
            if world.engine.studies[name].state is StudyState.SUCCEEDED:
                ended.setdefault(name, world.now)
    return ended


@pytest.mark.parametrize("name", ALGORITHMS)
def test_whichever_its_algorithm_a_study_ends(name: str) -> None:
    low = build_study(
        "low",
        space={"lr": {"choices": [0.9, 0.8, 0.7, 0.6]}},
        algorithm=ALGORITHMS[name],
        steps=6,
        maxTrials=4,
    )
    world = World([low], workers=1, patience=30.0, costs=COSTS)
    # At least one step of the 24 each time that it is its turn.
    ended = run_beside_a_stream(world, most=24 * (1.1 * 30.0 + 5.0), priority=5, steps=40)
    assert ended
