"""The bound within limits, compared with every schedule of tiny instances."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.engine import Engine
from hippo.model import Study
from hippo.plan import Overheads
from hippo.simulate import Pace, Simulation, SimulationOptions, find_bounds
from tests.unit.engine.test_properties import studies
from tests.unit.simulate.test_simulation import synthetic
from tests.world import build_study, with_spec

LRS = [
    0.1,
    0.2,
    {"piecewise": [[0, 0.1], [1, 0.3]]},
    {"piecewise": [[0, 0.1], [2, 0.4]]},
    {"piecewise": [[0, 0.2], [1, 0.5]]},
]


@st.composite
def tiny(draw: st.DrawFn, *, most: int = 3) -> list[Study]:
    """Overlapping studies of two trials of two or three steps, each within a limit."""
    return [
        build_study(
            f"s{index}",
            space={
                "lr": {
                    "choices": draw(
                        st.lists(st.sampled_from(LRS), min_size=1, max_size=2, unique_by=str)
                    )
                }
            },
            steps=draw(st.integers(2, 3)),
            parallelism=draw(st.sampled_from([None, 1, 1, 2])),
        )
        for index in range(draw(st.integers(1, most)))
    ]


Tasks = dict[str, tuple[str | None, set[str]]]
"""By content key after a step: that of the step before, and who asks for it or what follows."""


def find_tasks(engine: Engine) -> Tasks:
    tasks: Tasks = {}
    for run in engine.studies.values():
        for trial in run.trials:
            before = None
            for step in range(1, trial.target + 1):
                key = trial.sequence.key(step, "any")
                tasks.setdefault(key, (before, set()))[1].add(run.name)
                before = key
    return tasks


def can_be_lent(asked: list[set[str]], limits: dict[str, int]) -> bool:
    """Whether each of these concurrent steps can have a worker of a study that wants it."""
    if not asked:
        return True
    for study in asked[0]:
        if limits[study] and can_be_lent(asked[1:], {**limits, study: limits[study] - 1}):
            return True
    return False


def moves(tasks: Tasks, done: frozenset[str], m: int, limits: dict[str, int]) -> Iterator[set[str]]:
    """Yields the maximal sets of steps that may be trained at once; fewer is never better."""
    open_ = [k for k, (before, _) in tasks.items() if k not in done and before in {None, *done}]
    for count in range(min(m, len(open_)), 0, -1):
        found = [
            set(chosen)
            for chosen in combinations(open_, count)
            if can_be_lent([tasks[key][1] for key in chosen], limits)
        ]
        if found:
            yield from found
            return


def find_shortest(tasks: Tasks, m: int, limits: dict[str, int]) -> int:
    """Returns the makespan of the best schedule."""
    layer, time = {frozenset[str]()}, 0
    while frozenset(tasks) not in layer:
        layer = {done | move for done in layer for move in moves(tasks, done, m, limits)}
        time += 1
    return time


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(tiny(), st.integers(1, 4))
def test_no_schedule_within_limits_ends_before_the_bound(made: list[Study], m: int) -> None:
    simulation = Simulation(made, synthetic(*made), SimulationOptions(m)).run()
    bounds = find_bounds(simulation.engine, m, Pace(), Overheads())
    limits = {study.name: study.spec.parallelism or m for study in made}
    shortest = find_shortest(find_tasks(simulation.engine), m, limits)
    assert bounds.lower_bound <= shortest <= simulation.now
    in_seconds = find_bounds(simulation.engine, m, Pace(by_values=lambda _: 1.0), Overheads())
    assert in_seconds.lower_bound <= bounds.lower_bound
    if len(made) == 1:
        assert bounds.lower_bound == shortest


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(studies(), st.integers(1, 4))
def test_no_simulation_of_whatever_algorithm_ends_before_the_bound(
    made: list[Study], m: int
) -> None:
    simulation = Simulation(made, synthetic(*made), SimulationOptions(m)).run()
    bounds = find_bounds(simulation.engine, m, Pace(), Overheads())
    assert bounds.lower_bound <= simulation.now


def test_trials_that_were_stopped_before_their_first_result_are_no_trouble() -> None:
    made = [
        build_study("a", space={"lr": {"choices": [0.1, 0.2]}}, parallelism=1, replicates=0),
        build_study("b", space={"lr": {"choices": [0.2, 0.3]}}, parallelism=1),
    ]
    goal = made[0].spec.objective.model_copy(update={"target": 0.0})
    made[0] = with_spec(made[0], objective=goal)
    simulation = Simulation(made, synthetic(*made), SimulationOptions(2)).run()
    assert any(not trial.results for trial in simulation.engine.studies["a"].trials)
    bounds = find_bounds(simulation.engine, 2, Pace(), Overheads())
    assert 0 < bounds.lower_bound <= simulation.now


def test_limits_are_in_the_bound() -> None:
    """Two studies with one worker each: either may train the work that both want."""
    made = [
        build_study("a", space={"lr": {"choices": [0.1, 0.2, 0.3]}}, steps=10, parallelism=1),
        build_study("b", space={"lr": {"choices": [0.3, 0.4]}}, steps=10, parallelism=1),
    ]
    simulation = Simulation(made, synthetic(*made), SimulationOptions(8)).run()
    bounds = find_bounds(simulation.engine, 8, Pace(), Overheads())
    assert bounds.lower_bound == bounds.work_over_workers == simulation.now == 20


def test_a_study_s_own_limit_counts_where_others_have_more() -> None:
    made = [
        build_study("a", space={"lr": {"choices": [0.1, 0.2, 0.3]}}, steps=10, parallelism=1),
        build_study("b", space={"lr": {"choices": [0.4]}}, steps=10),
    ]
    simulation = Simulation(made, synthetic(*made), SimulationOptions(8)).run()
    bounds = find_bounds(simulation.engine, 8, Pace(), Overheads())
    assert bounds.lower_bound == simulation.now == 30
