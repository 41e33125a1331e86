"""No study starves: with any algorithm, it ends within a bound beside urgent ones."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.engine.events import Requested, Tick
from hippo.lifecycles import StudyState
from hippo.protocol.requests import Suggest
from tests.unit.engine.test_sharing import rates
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


def beside(urgent: dict[str, Any], steps: int, patience: float) -> World:
    """One worker, held by an urgent study."""
    study = build_study("urgent", space=urgent, steps=steps, priority=5)
    return World([study], workers=1, patience=patience)


def test_who_is_overdue_asks_for_one_trial_not_for_all() -> None:
    """Its work is promised by a running chain, so it never waits itself."""
    alike = [
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [n]}} for n in range(31, 39)
    ]
    world = beside(rates(0.1), 40, 5.0)
    low = {"name": "asha", "eta": 2, "minSteps": 30}
    world.add(build_study("low", space={"lr": {"choices": alike}}, algorithm=low, steps=40))
    while world.now < 10.0:
        assert world.advance()
        world.feed(Tick())
    assert len(world.decisions["low"]) == 1
    world.run()


def test_of_those_that_are_overdue_the_one_that_has_waited_longest_goes_first() -> None:
    """Otherwise a short study would wait for ever beside an endless row of longer ones."""
    world = beside(rates(0.1), 60, PATIENCE)
    world.add(build_study("short", space=rates(0.2), steps=2))
    while world.now < 1.0:
        assert world.advance()
    world.add(build_study("long", space=rates(0.3), steps=30, priority=1))
    while world.engine.studies["short"].state is not StudyState.SUCCEEDED:
        assert world.engine.studies["long"].steps_trained == 0
        assert world.advance()


def test_patience_ends_by_itself_though_nothing_else_happens() -> None:
    """A chain of urgent work may report nothing for hours."""
    world = beside(rates(0.1), 10_000, 50.0)
    world.add(build_study("low", space=rates(0.2), steps=2))
    while world.engine.studies["low"].state is not StudyState.SUCCEEDED:
        assert world.now < 60.0
        assert world.advance()


def test_a_program_that_asks_for_nothing_does_not_wait() -> None:
    """An external study that has been idle does not go before urgent ones once it asks."""
    world = beside(rates(*(n / 50 for n in range(1, 9))), 10, 5.0)
    outside = {"name": "external"}
    world.add(build_study("outside", space=rates(0.2), algorithm=outside, steps=20))
    while world.now < 20.5:
        assert world.advance()
    world.feed(Requested("outside", 0, Suggest(hyperparameters={"lr": 0.3}, steps=20)))
    while world.now < 24.0:
        assert world.advance()
        assert not any("outside" in chain.studies for chain in world.engine.chains.values())
