"""The estimated time left includes chains' overheads and the usable workers."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.engine import Engine
from hippo.engine.commands import Command
from hippo.engine.events import Event
from hippo.plan import Overheads
from hippo.simulate import Pace, Simulation, SimulationOptions
from hippo.views.summary import Remaining, estimate_remaining
from tests.unit.simulate.test_simulation import synthetic
from tests.world import build_study

SHORT = {"lr": {"choices": [0.1 + index / 1000 for index in range(60)]}}
LATE = {"lr": {"choices": [{"piecewise": [[0, 0.1], [4, index / 1000]]} for index in range(60)]}}
OVERHEADS = Overheads(start=1.0, load=0.5, save=0.2, evaluate=0.3)


def watch(study: Any, options: SimulationOptions) -> tuple[float, list[tuple[float, Remaining]]]:
    """Returns when it ended, and the estimates at given times before."""
    told: list[tuple[float, Remaining]] = []

    class Watched(Engine):
        def handle(self, event: Event, now: float) -> list[Command]:
            commands = super().handle(event, now)
            told.append((now, estimate_remaining(self)))
            return commands

    simulation = Simulation([study], synthetic(study), options, create_engine=Watched).run()
    return simulation.now, told


@pytest.mark.slow
@pytest.mark.parametrize("space", [SHORT, LATE], ids=["apart", "forked late"])
@pytest.mark.parametrize(("workers", "parallelism"), [(2, None), (8, None), (8, 2), (2, 8)])
def test_short_trials_take_as_long_as_was_said(
    space: Any, workers: int, parallelism: int | None
) -> None:
    study = build_study(space=space, steps=6, parallelism=parallelism)
    end, told = watch(study, SimulationOptions(workers, Pace(0.01), OVERHEADS))
    for now, remaining in told:
        if 0 < now < 0.8 * end:
            assert remaining.seconds is not None
            assert remaining.seconds == pytest.approx(end - now, rel=0.25, abs=4.0), now
    assert told[-1][1] == Remaining(0, 0.0, False)


@pytest.mark.slow
def test_trials_that_are_not_made_yet_are_told_of() -> None:
    algorithm = {"name": "asha", "minSteps": 2, "eta": 2}
    study = build_study(space=SHORT, steps=8, algorithm=algorithm, maxTrials=20)
    _, told = watch(study, SimulationOptions(2, Pace(1.0), OVERHEADS))
    assert told[1][1].may_grow
    grid = build_study(space=SHORT, steps=8)
    _, told = watch(grid, SimulationOptions(2, Pace(1.0), OVERHEADS))
    assert not told[-1][1].may_grow
