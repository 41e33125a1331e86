"""No study starves: whatever its algorithm, it ends within a bound beside urgent ones."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.lifecycles import StudyState
from tests.world import Costs, World, build_study

PATIENCE = 30.0
STREAM = 40
"""Steps of each of the urgent studies, which come without an end."""
ALGORITHMS: dict[str, dict[str, Any]] = {
    "grid": {"name": "grid"},
    "sha": {"name": "sha", "eta": 2, "minSteps": 2},
    "asha": {"name": "asha", "eta": 2, "minSteps": 2},
    "random": {"name": "random"},
    "median": {"name": "median", "every": 2, "minSteps": 2},
}


@pytest.mark.parametrize("name", ALGORITHMS)
def test_whichever_its_algorithm_a_study_ends(name: str) -> None:
    low = build_study(
        "low",
        space={"lr": {"choices": [0.9, 0.8, 0.7, 0.6]}},
        algorithm=ALGORITHMS[name],
        steps=6,
        maxTrials=4,
    )
    costs = Costs(save=0.2, start=0.5)
    world = World([low], workers=1, patience=PATIENCE, costs=costs)
    # At least one step of the 24 each time that it is its turn, which may come a stage late.
    bound = 24 * (1.1 * PATIENCE + STREAM + 5.0)
    count = 0
    while world.engine.studies["low"].state is not StudyState.SUCCEEDED:
        assert world.now < bound
        urgent = [run for study, run in world.engine.studies.items() if study != "low"]
        if sum(not run.state.is_final for run in urgent) < 2:
            space = {"lr": {"choices": [0.1 + count / 10_000]}}
            world.add(build_study(f"high-{count}", space=space, steps=STREAM, priority=5))
            count += 1
        assert world.advance()
