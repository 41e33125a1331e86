"""The scheduler's results where the optimum is known."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.model import Study
from hippo.plan import Overheads
from hippo.simulate import Pace, Simulation, SimulationOptions, find_bounds
from tests.unit.simulate.test_simulation import synthetic
from tests.world import build_study


def constants(name: str, count: int, **spec: Any) -> Study:
    """A study of this many trials that share nothing."""
    choices = [round(0.1 + 0.01 * k, 2) for k in range(count)]
    return build_study(name, space={f"of_{name}": {"choices": choices}}, **spec)


def run(*studies: Study, **options: Any) -> Simulation:
    return Simulation(list(studies), synthetic(*studies), SimulationOptions(**options)).run()


@pytest.mark.slow
def test_free_switches_come_to_an_end() -> None:
    """A chain told to stop as it began trained nothing, and two of them did so for ever."""
    seconds = {32: 2.6, 64: 1.6, 96: 1.2, 128: 1.0, 192: 0.8, 256: 0.7}
    space = {
        "lr": {"choices": [0.01 * k for k in range(1, 37)]},
        "batch_size": {"choices": list(seconds)},
    }
    pace = Pace(by_values=lambda values: seconds[int(str(values["batch_size"]))])
    simulation = run(build_study(space=space, steps=160), workers=40, pace=pace)
    bounds = find_bounds(simulation.engine, 40, pace, Overheads())
    assert bounds.lower_bound / simulation.now > 0.99


@pytest.mark.parametrize("order", [1, -1])
def test_a_path_that_cannot_wait_goes_before_fair_shares(order: int) -> None:
    """One of the two long paths can wait for a while, but not for all short ones."""
    studies = [constants("long", 2, steps=12), constants("short", 12, steps=1)]
    simulation = run(*studies[::order], workers=2)
    assert simulation.now <= (2 * 12 + 12) / 2 + 1


def test_what_can_wait_is_divided_fairly() -> None:
    """A study's ten trials do not wait for all twenty of one that came first."""
    studies = [constants("first", 20, steps=4), constants("second", 10, steps=4)]
    simulation = Simulation(studies, synthetic(*studies), SimulationOptions(2))
    half: list[int] = []

    def note(event: Any, now: float, handle: Any = simulation.engine.handle) -> Any:
        commands = handle(event, now)
        if now >= 40 and not half:
            runs = simulation.engine.studies
            half.extend(sum(map(bool, (t.results for t in run.trials))) for run in runs.values())
        return commands

    simulation.engine.handle = note  # type: ignore[method-assign]
    simulation.run()
    assert simulation.now == 60
    assert half == [9, 9]  # and the last of each is about to report


def test_trial_by_trial_nobody_is_set_aside() -> None:
    """Schedulers of whole trials take three rounds for five trials on two workers."""
    study = constants("s", 5, steps=10)
    assert run(study, workers=2, merge=False).now == 30
    assert run(study, workers=2).now < 27


def test_what_others_could_do_is_left_to_them() -> None:
    """Whichever of two studies starts, both have work to the end, half of it shared."""
    rates = [round(0.1 + 0.01 * k, 2) for k in range(12)]
    studies = [
        build_study(name, space={"lr": {"choices": choices}}, steps=10, parallelism=1)
        for name, choices in (("a", rates[:8]), ("b", rates[4:]))
    ]
    simulation = run(*studies, workers=2)
    bounds = find_bounds(simulation.engine, 2, Pace(), Overheads())
    assert simulation.now == bounds.lower_bound == 60


LATE = [
    {"multistep": {"initial": rate, "gamma": gamma, "milestones": [milestone]}}
    for rate in (0.1, 0.2, 0.3)
    for gamma in (0.1, 0.5)
    for milestone in (60, 80, 100)
]


@pytest.mark.slow
@pytest.mark.parametrize("shift", [4, 14])
@pytest.mark.parametrize("limit", [1, 2])
def test_studies_at_their_limits_end_when_their_work_does(shift: int, limit: int) -> None:
    """As on a cluster, there are as many workers as the limits allow; few chains yield."""
    studies = [
        build_study(name, space={"lr": {"choices": choices}}, steps=120, parallelism=limit)
        for name, choices in (("a", LATE[:-shift]), ("b", LATE[shift:]))
    ]
    simulation = run(*studies, workers=2 * limit)
    bounds = find_bounds(simulation.engine, 2 * limit, Pace(), Overheads())
    assert bounds.lower_bound / simulation.now > 0.97
    assert simulation.tally.stopped < 2 * len(LATE)
