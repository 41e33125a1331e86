"""The simulated driver compared with the engine tests' world, which trains step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hippo.lifecycles import StudyState
from hippo.model import InvalidSpec, Sequence, Study
from hippo.plan import Overheads
from hippo.protocol.decisions import Decision
from hippo.simulate import Pace, Simulation, SimulationOptions, SyntheticCurves, find_bounds
from tests.unit.engine.test_properties import BATCH_SIZES, DEPEND_ON_ORDER, LRS, studies
from tests.world import Costs, World, build_study, train_alone

COSTS = st.builds(
    Costs,
    step=st.sampled_from([1.0, 0.75]),
    start=st.sampled_from([0.0, 2.0]),
    load=st.sampled_from([0.0, 0.5]),
    save=st.sampled_from([0.0, 0.375]),
    evaluate=st.sampled_from([0.0, 0.125]),
)
"""Eighths of a second, which floating-point numbers add up exactly. The world adds step by step,
the simulation leg by leg; if the sums were rounded differently, so would the measured rates be, and
two trials that are equally long would change places."""

EQUALLY_LONG = [
    build_study(
        "s0",
        space={"lr": {"choices": LRS}, "bs": {"choices": BATCH_SIZES}},
        algorithm={"name": "median", "every": 2, "minSteps": 2, "minTrials": 1},
        maxTrials=3,
    )
]
"""Two of its trials are equally long, but in rate classes of which one is measured first."""


@dataclass(frozen=True)
class TrainedAlone:
    """Curves of the world's model."""

    def metrics(self, sequence: Sequence, step: int, seed: int) -> dict[str, float]:
        return train_alone(dict(sequence.hyperparameters), sequence.steps, step, seed)[1]


def simulate(world: World, curves: Any = None) -> Simulation:
    """The same studies, workers and costs."""
    costs = world.costs
    overheads = Overheads(costs.start, costs.load, costs.save, costs.evaluate)
    options = SimulationOptions(
        world.workers,
        Pace(costs.step),
        overheads,
        merge=world.merge,
        linger=costs.linger,
    )
    return Simulation(world.studies, curves or TrainedAlone(), options).run()


def synthetic(*made: Study) -> SyntheticCurves:
    return SyntheticCurves(
        tuple(study.spec.objective for study in made), max(study.spec.steps for study in made)
    )


def verdicts(decisions: list[Decision]) -> set[Any]:
    """Returns the decisions, ignoring order and wording."""
    return {(d.kind, d.trial, d.steps, str(d.hyperparameters), d.parent, d.seed) for d in decisions}


@pytest.mark.slow
@given(studies(most=2), COSTS, st.booleans())
@example(EQUALLY_LONG, Costs(step=0.75), False)
@settings(max_examples=30)
def test_one_worker_does_the_same_at_the_same_moments(
    made: list[Study], costs: Costs, merge: bool
) -> None:
    world = World(made, workers=1, costs=costs, merge=merge).run()
    simulation = simulate(world)
    assert simulation.now == world.now
    assert simulation.decisions == world.decisions
    assert simulation.tally.steps_trained == sum(world.trained.values())
    assert [d.chain for d in world.launches] == [
        f"c-{number:05d}".replace("c-", "g1-") for number in range(1, simulation.tally.chains + 1)
    ]


@pytest.mark.slow
@given(studies(most=1), COSTS, st.integers(2, 4), st.booleans())
@settings(max_examples=30)
def test_many_workers_decide_the_same_and_train_the_same(
    made: list[Study], costs: Costs, workers: int, merge: bool
) -> None:
    world = World(made, workers=workers, costs=costs, merge=merge).run()
    simulation = simulate(world)
    assert {run.state for run in simulation.engine.studies.values()} == {StudyState.SUCCEEDED}
    if made[0].spec.algorithm.name in DEPEND_ON_ORDER:
        return
    name = made[0].name
    assert verdicts(simulation.decisions[name]) == verdicts(world.decisions[name])
    assert simulation.tally.steps_trained == sum(world.trained.values())


def grid(*choices: Any, **spec: Any) -> Study:
    return build_study(space={"lr": {"choices": list(choices)}}, **spec)


def multistep(*milestones: int) -> dict[str, Any]:
    return {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": list(milestones)}}


def run(study: Study, workers: int, **options: Any) -> Simulation:
    return Simulation([study], synthetic(study), SimulationOptions(workers, **options)).run()


def test_time_and_worker_time_of_a_fork() -> None:
    simulation = run(grid(0.1, multistep(6)), 2)
    assert simulation.now == 12
    assert simulation.tally.worker_seconds == 18
    alone = run(grid(0.1, multistep(6)), 1, merge=False)
    assert (alone.now, alone.tally.worker_seconds) == (24, 24)


def test_overheads_are_charged_where_they_are_due() -> None:
    overheads = Overheads(start=10, load=3, save=0.5, evaluate=0.25)
    simulation = run(grid(0.1, multistep(6)), 2, overheads=overheads)
    kept = 10 + 6 + 0.5 + 6 + 0.5 + 0.25
    forked = 10 + 3 + 6 + 0.5 + 0.25
    assert simulation.now == 10 + 6 + 0.5 + forked
    assert simulation.tally.worker_seconds == kept + forked
    assert (simulation.tally.chains, simulation.tally.saves) == (2, 3)


def test_steps_take_longer_where_the_batch_size_says_so() -> None:
    study = grid(0.1, steps=10)
    study = build_study(
        space={"lr": {"choices": [0.1]}, "bs": {"choices": [{"piecewise": [[0, 64], [4, 128]]}]}},
        steps=10,
    )
    pace = Pace(by_values=lambda values: 1.0 if values["bs"] == 64 else 0.5)
    simulation = run(study, 1, pace=pace)
    assert simulation.now == 4 * 1.0 + 6 * 0.5
    bounds = find_bounds(simulation.engine, 1, pace, Overheads())
    assert bounds.lower_bound == simulation.now


def test_noise_is_the_same_each_time_and_mean_one() -> None:
    study = grid(0.1, steps=4000)
    first, second = (run(study, 1, pace=Pace(noise=0.3)).now for _ in range(2))
    assert first == second != 4000
    assert first == pytest.approx(4000, rel=0.02)


def test_a_study_that_comes_later_joins_what_runs() -> None:
    early, late = grid(0.1, multistep(6)), build_study("late", space={"lr": {"choices": [0.1]}})
    options = SimulationOptions(2, arrivals={"late": 3.5})
    simulation = Simulation([early, late], synthetic(early, late), options).run()
    assert simulation.tally.steps_trained == 18
    simulation = Simulation([early], synthetic(early), SimulationOptions(2)).run()
    assert simulation.now == 12


def test_a_study_that_comes_when_all_is_done_is_waited_for() -> None:
    early, late = grid(0.1), build_study("late", space={"lr": {"choices": [0.2]}})
    options = SimulationOptions(1, arrivals={"late": 30.0})
    assert Simulation([early, late], synthetic(early, late), options).run().now == 42


def test_a_budget_ends_a_study_in_virtual_time() -> None:
    simulation = run(grid(0.1, multistep(6), budget={"wallTime": "15s"}), 1)
    assert simulation.now == 15
    assert "wall time is spent" in simulation.engine.studies["s"].message


def test_a_suspended_study_is_refused() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.suspend: s is suspended"):
        run(grid(0.1, suspend=True), 1)


@pytest.mark.slow
@given(studies(most=1), st.integers(1, 5))
@settings(max_examples=30)
def test_no_run_beats_its_bounds(made: list[Study], workers: int) -> None:
    simulation = Simulation(made, synthetic(*made), SimulationOptions(workers)).run()
    bounds = find_bounds(simulation.engine, workers, Pace(), Overheads())
    assert simulation.now >= bounds.lower_bound
    assert bounds.lower_bound >= max(bounds.work_over_workers, bounds.critical_path_steps)


def test_synthetic_curves_depend_on_the_prefix_only() -> None:
    objective = {"metric": "loss", "goal": "minimize", "testMetric": "test"}
    study = grid(0.1, objective=objective)
    curves = synthetic(study)
    one, other = Sequence.of({"lr": 0.1}, 12), Sequence.of({"lr": multistep(6)}, 12)
    assert curves.metrics(one, 6, 0) == curves.metrics(other, 6, 0)
    assert curves.metrics(one, 7, 0) != curves.metrics(other, 7, 0)
    assert curves.metrics(one, 6, 0) != curves.metrics(one, 6, 1)
    assert curves.metrics(one, 9, 0)["loss"] < curves.metrics(one, 3, 0)["loss"] <= 1
    assert curves.metrics(one, 9, 0).keys() == {"loss", "test"}
