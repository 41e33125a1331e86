"""Step times are measured where they were spent, even after a reroute."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.engine.commands import Command, Steer
from tests.world import Costs, World, build_study

SIZES: dict[str, Any] = {
    "bs": {"choices": [{"piecewise": [[0, 1], [6, 4]]}]},
    "lr": {"choices": [n / 10 for n in range(1, 7)]},
}


def test_seconds_per_step_are_told_apart_by_batch_size() -> None:
    went_on = 0
    for seed in range(5):
        algorithm = {"name": "asha", "eta": 2, "minSteps": 3, "seed": seed}
        world = World(
            [build_study(space=SIZES, algorithm=algorithm)],
            workers=1,
            costs=Costs(linger=1.0),
            known_costs=False,
            step_seconds=lambda values: float(values["bs"]),
        ).run()
        went_on += len({steer.control.chain for steer in world.log if _goes_on(steer)})
        costs = world.engine.costs
        assert costs.rate((("bs", 1),)) == pytest.approx(1.0)
        assert costs.rate((("bs", 4),)) == pytest.approx(4.0)
    assert went_on, "no worker was given another route"


def _goes_on(command: Command) -> bool:
    return isinstance(command, Steer) and command.control.route.stop_at > 0
