"""Several studies in one plan: which get the workers, and which pay."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings

from hippo.engine.events import StudyChanged
from hippo.lifecycles import StudyState
from hippo.model import Sequence
from hippo.protocol.reports import Outcome
from tests.unit.engine.test_properties import check_results, worlds
from tests.world import SIGNATURE, Costs, World, build_study, train_alone


def rates(*values: float) -> dict[str, Any]:
    """A space of trials that share nothing."""
    return {"lr": {"choices": list(values)}}


def held(world: World) -> dict[str, float]:
    """Returns the workers by the study they train for; a shared one counts as a fraction."""
    workers = dict.fromkeys(world.engine.studies, 0.0)
    for chain in world.engine.chains.values():
        for study in chain.studies:
            workers[study] += 1 / len(chain.studies)
    return workers


def run_until(world: World, moment: float) -> None:
    while world.now < moment:
        assert world.advance()


MANY = rates(*(0.1 + n / 100 for n in range(20)))
OTHERS = rates(*(0.5 + n / 100 for n in range(20)))


def test_equal_studies_get_equal_shares() -> None:
    world = World([build_study("a", space=MANY), build_study("b", space=OTHERS)], workers=4)
    for _ in range(200):
        assert world.advance()
        assert held(world) == {"a": 2.0, "b": 2.0}


@pytest.mark.parametrize("linger", [0.0, 1.0])
def test_a_study_that_comes_late_gets_its_share_at_a_step_end(linger: float) -> None:
    costs = Costs(linger=linger)
    world = World([build_study("a", space=MANY, steps=1000)], workers=4, costs=costs)
    run_until(world, 5.0)
    assert held(world) == {"a": 4.0}
    world.add(build_study("b", space=OTHERS, steps=1000))
    run_until(world, 10.0)
    assert held(world) == {"a": 2.0, "b": 2.0}


def test_no_chain_leaves_for_fairness_if_it_is_soon_done() -> None:
    costs = Costs(start=20.0, save=5.0)
    world = World([build_study("a", space=rates(0.1, 0.2), steps=50)], workers=2, costs=costs)
    run_until(world, 25.0)
    world.add(build_study("b", space=rates(0.3), steps=20))
    world.run()
    assert len(world.launches) == 3


def test_a_study_of_higher_priority_takes_the_workers_at_the_next_step_end() -> None:
    world = World([build_study("a", space=MANY, steps=1000)], workers=4)
    run_until(world, 5.0)
    world.add(build_study("b", space=rates(0.5, 0.6, 0.7), steps=30, priority=1))
    run_until(world, 10.0)
    assert held(world) == {"a": 1.0, "b": 3.0}
    run_until(world, 45.0)
    assert world.engine.studies["b"].state is StudyState.SUCCEEDED
    assert held(world)["a"] == 4.0
    assert set(world.trained.values()) == {1}, "what gave way was saved first"


def test_a_small_study_does_not_wait_for_a_large_one() -> None:
    large = build_study("large", space=MANY, steps=100)
    world = World([large, build_study("small", space=rates(0.5, 0.6), steps=10)], workers=2)
    run_until(world, 25.0)
    assert world.engine.studies["small"].state is StudyState.SUCCEEDED


def test_the_limit_of_one_study_does_not_bind_another_that_wants_the_same() -> None:
    studies = [build_study("a", space=MANY, parallelism=1), build_study("b", space=MANY)]
    world = World(studies, workers=4)
    run_until(world, 3.0)
    assert len(world.engine.chains) == 4


def test_a_shared_stage_is_split_evenly_and_the_rest_paid_by_who_wants_it() -> None:
    late = {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}}
    later = {"multistep": {"initial": 0.1, "gamma": 0.5, "milestones": [6]}}
    studies = [
        build_study("a", space={"lr": {"choices": [0.1, late]}}),
        build_study("b", space={"lr": {"choices": [0.1, later]}}),
    ]
    for workers in (1, 2, 3):
        world = World(studies, workers=workers).run()
        # Steps 0 to 6 and the constant's 6 to 12 are wanted by both, 6 more by each alone.
        assert world.engine.studies["a"].worker_seconds == pytest.approx(3 + 3 + 6)
        assert world.engine.studies["b"].worker_seconds == pytest.approx(3 + 3 + 6)
        assert world.engine.studies["a"].steps_trained == pytest.approx(12)


def test_one_alone_pays_for_what_lies_beyond_the_other() -> None:
    studies = [
        build_study("short", space=rates(0.1), steps=4),
        build_study("long", space=rates(0.1), steps=12),
    ]
    world = World(studies, workers=1).run()
    assert world.engine.studies["short"].worker_seconds == pytest.approx(2)
    assert world.engine.studies["long"].worker_seconds == pytest.approx(10)


def test_who_asks_while_a_stage_is_trained_shares_its_cost_from_then_on() -> None:
    world = World([build_study("a", space=rates(0.1))], workers=1)
    run_until(world, 5.0)
    world.add(build_study("b", space=rates(0.1)))
    world.run()
    first, second = (world.engine.studies[name].worker_seconds for name in "ab")
    assert first + second == pytest.approx(12)
    assert second > 0


def test_later_reuse_costs_nothing() -> None:
    world = World([build_study("a", space=MANY)], workers=2).run()
    paid = world.engine.studies["a"].worker_seconds
    world.add(build_study("b", space=MANY))
    world.run()
    assert world.engine.studies["b"].state is StudyState.SUCCEEDED
    assert world.engine.studies["b"].worker_seconds == 0
    assert world.engine.studies["a"].worker_seconds == paid


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds())
def test_every_second_is_paid_once(world: World) -> None:
    world.run()
    check_results(world)
    runs = world.engine.studies.values()
    assert sum(run.steps_trained for run in runs) == pytest.approx(sum(world.trained.values()))


def test_a_budget_ends_a_study_while_its_chain_is_under_way() -> None:
    study = build_study(
        "a", space=rates(0.1, 0.2), steps=1000, budget={"workerHours": 20 / 3600}, maxTrials=2
    )
    world = World([study], workers=1)
    world.run()
    assert world.now <= 22.0
    assert "budget" in world.ended["a"].message


def test_wall_time_stands_still_while_a_study_is_suspended() -> None:
    spec: dict[str, Any] = {"space": rates(0.1), "steps": 1000, "budget": {"wallTime": "20s"}}
    world = World([build_study("a", **spec), build_study("b", space=rates(0.2), steps=60)])
    run_until(world, 10.0)
    world.feed(StudyChanged(build_study("a", **spec, suspend=True)))
    run_until(world, 40.0)
    assert world.engine.studies["a"].state is StudyState.SUSPENDED
    world.feed(StudyChanged(build_study("a", **spec)))
    world.run()
    assert 48.0 <= world.now <= 62.0
    assert "wall time" in world.ended["a"].message


def test_a_chain_that_only_evaluated_leaves_no_promise_behind() -> None:
    """Its node may be extended later: then the old promise would cover work that no chain does."""
    spec: dict[str, Any] = {"space": rates(0.1), "checkpoints": {"retain": "none"}}
    world = World([build_study("a", steps=9, **spec)], workers=1, costs=Costs(evaluate=1.0))
    while not world.checkpoints:
        assert world.advance()
    world.kill(world.running[0], Outcome.PREEMPTED)
    world.run()
    assert (world.launches[-1].start, world.launches[-1].route.stop_at) == (9, 9)
    assert not any(node.claims for node in world.engine.plan.nodes())
    world.add(build_study("b", steps=12, **spec))
    check_results(world.run())


def test_what_failed_for_one_study_may_be_trained_by_another() -> None:
    """Its verdict stands, even after a restart that finds the result."""
    broken = Sequence.of({"lr": 0.1}, 12).key(5, SIGNATURE)
    world = World(
        [build_study("a", space=rates(0.1, 0.2), retries=0)],
        fail=lambda key, attempt: "broken" if key == broken and attempt == 1 else None,
    ).run()
    world.add(build_study("b", space=rates(0.1, 0.2)))
    world.run()
    for _ in range(2):
        a, b = world.engine.studies.values()
        assert [str(trial.state) for trial in a.trials] == ["Failed", "Completed"]
        assert [str(trial.state) for trial in b.trials] == ["Completed", "Completed"]
        world.start_engine()


@pytest.mark.parametrize("replicates", [0, 2])
def test_what_others_find_out_later_changes_no_finished_study(replicates: int) -> None:
    objective = {"metric": "score", "goal": "maximize", "target": 0.01}
    early = build_study("a", space=rates(0.1, 0.2, 0.3), objective=objective, replicates=replicates)
    # Of these, the first is not the best.
    assert evaluate_alone(0.1) < max(evaluate_alone(0.2), evaluate_alone(0.3))
    world = World([early], workers=1).run()
    world.add(build_study("b", space=rates(0.1, 0.2, 0.3)))
    world.run()

    def seen() -> object:
        run = world.engine.studies["a"]
        assert run.best is not None
        assert run.best.node.key(12) in world.checkpoints
        trials = [(trial.state, trial.reason, trial.results) for trial in run.trials]
        return run.state, run.message, run.best.index, trials

    before = seen()
    decisions = {name: list(made) for name, made in world.decisions.items()}
    world.start_engine()
    assert seen() == before
    assert world.decisions == decisions


def evaluate_alone(lr: float) -> float:
    return train_alone({"lr": lr}, 12, 12)[1]["score"]


def test_what_rounding_leaves_of_a_budget_keeps_nobody_waiting() -> None:
    """Thirds of a chain's seconds do not add up to the last bit of a budget."""
    space, budget = rates(0.1, 0.2, 0.3, 0.4, 0.5), {"workerHours": 0.001}
    studies = [
        build_study("a", space=space, steps=100, budget=budget),
        build_study("b", space=space, steps=50),
        build_study("c", space=rates(0.1, 0.2, 0.3), steps=50),
    ]
    world = World(studies, workers=1, costs=Costs(step=0.1)).run(5_000)
    assert "worker-hours is spent" in world.engine.studies["a"].message
    assert world.engine.studies["a"].worker_seconds == pytest.approx(3.6, abs=0.2)


# -- patience --------------------------------------------------------------------------------------


def run_beside_a_stream(patience: float, *, most: float, workers: int = 1) -> float | None:
    """Returns when a low-priority study ends beside an endless stream of urgent ones; None if
    never.
    """
    low = build_study("low", space=rates(0.9, 0.8), steps=6)
    world = World([low], workers=workers, patience=patience, costs=Costs(save=0.2, start=0.5))
    count = 0
    while world.now < most:
        urgent = [run for name, run in world.engine.studies.items() if name != "low"]
        if sum(not run.state.is_final for run in urgent) < 2:
            value = 0.1 + count / 10_000
            world.add(build_study(f"high-{count}", space=rates(value), steps=40, priority=5))
            count += 1
        assert world.advance()
        if world.engine.studies["low"].state is StudyState.SUCCEEDED:
            return world.now
    return None


def test_priorities_are_strict_for_as_long_as_patience_lasts() -> None:
    assert run_beside_a_stream(1e9, most=1500.0) is None


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("patience", [5.0, 30.0, 100.0])
def test_a_study_of_low_priority_always_ends(patience: float, workers: int) -> None:
    # Twelve steps, of which each time it gets at least one.
    bound = 12 * (1.1 * patience + 45.0)
    ended = run_beside_a_stream(patience, most=bound, workers=workers)
    assert ended is not None
    assert workers > 1 or ended > patience
