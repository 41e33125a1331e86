"""Population-based training, against the rules of its paper (M. Jaderberg et al., 2017)."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import Explorer, InvalidSpec, Pbt, Sequence, Study, canonical_json
from hippo.protocol.decisions import Decision
from hippo.tune import Result, create_tuner
from hippo.tune.ordering import tie
from tests.unit.model.spaces.test_perturbing import MIXED
from tests.unit.tune.simulation import (
    CONTINUOUS,
    Simulation,
    Values,
    distinct,
    make_study,
    replay,
)

STEPS = 50


def pbt(**settings: Any) -> dict[str, Any]:
    return {"name": "pbt", "population": 8, "interval": 10, **settings}


def study_of(space: dict[str, Any] = CONTINUOUS, *, goal: str = "maximize", **settings: Any) -> Any:
    return make_study(pbt(**settings), steps=STEPS, space=space, goal=goal)


def fragile(trial: int, step: int) -> float | None:
    draw = random.Random(trial * 77 + step).random()
    return None if draw < 0.4 else round(draw, 1)


def sequences(simulation: Simulation) -> dict[int, Sequence]:
    return {
        decision.trial: Sequence.of(decision.hyperparameters or {}, STEPS)
        for decision in simulation.decisions
        if decision.kind == "suggest"
    }


def children(simulation: Simulation) -> list[Decision]:
    return [decision for decision in simulation.decisions if decision.parent is not None]


def check_truncation_selection(simulation: Simulation, study: Study) -> None:
    """Round by round: "we rank all agents in the population; if the current agent is in the bottom
    20 % of the population, we sample another agent uniformly from the top 20 %, and copy its
    weights and hyperparameters." (The paper, section 4.1.1; here the quantile is a setting.)
    """
    settings = study.spec.algorithm
    assert isinstance(settings, Pbt)
    size = settings.population
    share = int(size * settings.quantile)
    sign = -1 if study.spec.objective.goal == "maximize" else 1
    rungs = [*range(settings.interval, STEPS, settings.interval), STEPS]
    members = set(range(size))
    values = {(result.trial, result.step): result.value for result in simulation.results}
    for here, following in pairwise(rungs):
        failed = {trial for trial in members if values[trial, here] is None}
        alive = sorted(
            members - failed,
            key=lambda trial: (sign * values[trial, here], tie(settings.seed, trial)),
        )
        born = {child.trial: child for child in children(simulation) if child.steps == following}
        if not alive:
            assert not born
            return
        top = alive[:share]
        bottom = set(alive[len(alive) - max(0, share - len(failed)) :]) | failed
        assert not bottom & set(top)
        stopped = {
            decision.trial
            for decision in simulation.decisions
            if decision.kind == "stop" and decision.steps == here
        }
        assert stopped == bottom - failed
        promoted = {
            decision.trial
            for decision in simulation.decisions
            if decision.kind == "promote" and decision.steps == following
        }
        assert promoted == members - bottom
        assert len(born) == len(bottom)
        for child in born.values():
            assert child.parent in top
            assert values[child.parent, here] is not None
        members = promoted | set(born)
        assert len(members) == size


@pytest.mark.slow
@pytest.mark.parametrize("values", [distinct, fragile, lambda trial, step: 0.5])
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
@pytest.mark.parametrize(("population", "quantile"), [(8, 0.25), (5, 0.2), (4, 0.5), (9, 0.34)])
def test_selects_by_truncation(values: Values, goal: str, population: int, quantile: float) -> None:
    for seed in range(4):
        study = study_of(goal=goal, population=population, quantile=quantile, seed=seed)
        check_truncation_selection(Simulation(study, values, workers=3, seed=seed).run(), study)


def test_donors_are_chosen_by_chance_among_the_best() -> None:
    chosen = set()
    for seed in range(20):
        study = study_of(seed=seed)
        simulation = Simulation(study, lambda trial, step: float(trial)).run()
        chosen |= {child.parent for child in children(simulation) if child.steps == 20}
    assert chosen == {6, 7}


def test_the_worst_are_replaced_first_and_it_is_told_why() -> None:
    space = {"lr": {"uniform": {"low": 0.0, "high": 1.0}}}
    study = study_of(space, resample=0, quantile=0.25)
    tuner = create_tuner(study)
    for decision in tuner.decide(0):
        tuner.apply(decision.model_copy(update={"hyperparameters": {"lr": 0.5}}))
    for trial in range(7):
        tuner.tell(Result(trial, 10, float(trial)))
        assert tuner.decide(8) == []
    tuner.apply(Decision(index=8, kind="fail", trial=7, steps=10, reason="it broke"))
    decisions = tuner.decide(0)
    assert [(d.kind, d.trial, d.steps) for d in decisions] == [
        *[("promote", trial, 20) for trial in (6, 5, 4, 3, 2, 1)],
        ("suggest", 8, 20),
        ("stop", 0, 10),
        ("suggest", 9, 20),
    ]
    assert decisions[0].reason == "rung 0 (10 steps): 1st of 8, the best 6 go on to 20"
    assert decisions[-2].reason == "among the worst 2 of 8 at step 10 (7th)"
    first, second = decisions[-3], decisions[-1]
    assert first.hyperparameters is not None
    assert second.hyperparameters is not None
    new = {d.hyperparameters["lr"]["piecewise"][1][1] for d in (first, second)}
    assert new == {0.4, 0.6}
    assert first.hyperparameters["lr"]["piecewise"][0] == [0, 0.5]
    value = first.hyperparameters["lr"]["piecewise"][1][1]
    place = {6: "1st", 5: "2nd"}[first.parent or 0]
    assert first.reason == (
        f"in place of trial 7, which failed; goes on from trial {first.parent}"
        f" ({place} of 8 at step 10): lr 0.5 -> {value}"
    )


@pytest.mark.parametrize("space", [CONTINUOUS, MIXED])
@pytest.mark.parametrize("values", [distinct, fragile])
def test_children_begin_as_their_donors_and_differ_from_all_others(
    space: dict[str, Any], values: Values
) -> None:
    simulation = Simulation(study_of(space), values).run()
    found = sequences(simulation)
    assert children(simulation)
    for child in children(simulation):
        assert child.parent is not None
        here, following = child.steps - 10, child.steps
        assert here <= found[child.trial].agreement(found[child.parent]) < following
        assert found[child.trial].key(here, "s") == found[child.parent].key(here, "s")
        for other, asked in simulation.asked().items():
            if other != child.trial and following in asked:
                assert found[child.trial].agreement(found[other]) < following


@pytest.mark.parametrize("space", [CONTINUOUS, MIXED])
def test_hyperparameters_stay_in_their_domains(space: dict[str, Any]) -> None:
    study = study_of(space, factors=[0.1, 10], resample=0.1)
    simulation = Simulation(study).run()
    explorer = Explorer(study.search_space(), 0, 0.0, (2.0,))
    first = {d.trial: d.hyperparameters for d in simulation.decisions if d.kind == "suggest"}
    for child in children(simulation):
        assert child.hyperparameters is not None
        for name, point in explorer.in_force(child.hyperparameters).items():
            assert explorer.space.domain(name).has(point)
        if "layers" in space:
            donor = first[child.parent or 0]
            assert donor is not None
            assert child.hyperparameters["layers"] == donor["layers"]


@pytest.mark.slow
@given(st.integers(0, 2**16), st.integers(1, 12), st.sampled_from([distinct, fragile]))
def test_does_not_depend_on_the_order_of_results(seed: int, workers: int, values: Values) -> None:
    study = study_of(MIXED)
    simulation = Simulation(study, values, workers=workers, seed=seed).run()
    assert simulation.decisions == Simulation(study, values, workers=1).run().decisions


@pytest.mark.parametrize("values", [distinct, fragile])
def test_a_restart_amid_a_round_goes_on_with_what_is_left_of_it(values: Values) -> None:
    study = study_of(MIXED)
    history = Simulation(study, values).run().history
    for cut, entry in enumerate(history):
        if isinstance(entry, Decision):
            restarted = replay(study, history[:cut])
            rest = restarted.decide(0)
            assert rest
            assert rest == history[cut : cut + len(rest)]


def test_a_child_is_new_before_the_next_round() -> None:
    # From 1 to the multistep at step 10 is a move, but nothing comes of it before step 25.
    late = {"multistep": {"initial": 1, "gamma": 2, "milestones": [15]}}
    study = study_of({"x": {"choices": [1, late, 7, 8]}}, population=4, quantile=0.25, resample=0)
    tuner = create_tuner(study)
    for decision in tuner.decide(0):
        tuner.apply(decision.model_copy(update={"hyperparameters": {"x": 1}}))
    for trial in range(4):
        tuner.tell(Result(trial, 10, 0.5))
    child = next(decision for decision in tuner.decide(0) if decision.kind == "suggest")
    assert child.hyperparameters in (
        {"x": {"piecewise": [[0, 1], [10, 7]]}},
        {"x": {"piecewise": [[0, 1], [10, 8]]}},
    )


def test_where_nothing_is_new_a_child_is_its_donors_double() -> None:
    # Four points: the members that go on and the new ones soon hold them all.
    space = {"x": {"choices": [1, 2, 3, 4]}}
    study = study_of(space, population=4, quantile=0.5)
    simulation = Simulation(study, lambda trial, step: -float(trial)).run()
    assert len(simulation.asked()) == 4 + 2 * 4
    found = sequences(simulation)
    # Trial 0 keeps its place, so that after one round all are descendants of 0 and 1.
    doubles = [child for child in children(simulation) if "nothing new" in child.reason]
    for child in children(simulation):
        parent = found[child.parent or 0]
        assert (found[child.trial] == parent) == (child in doubles)
    narrow = study_of({"x": {"choices": [1, 2]}}, population=2, quantile=0.5)
    simulation = Simulation(narrow, lambda trial, step: -float(trial)).run()
    assert len(simulation.asked()) == 2 + 4
    values = {canonical_json(d.hyperparameters) for d in children(simulation)}
    assert values == {
        canonical_json({"x": {"piecewise": [[0, x], [s, 3 - x]]}})
        for x in {(simulation.decisions[0].hyperparameters or {})["x"]}
        for s in (10, 20, 30, 40)
    }


def test_a_population_of_doubles_is_possible_and_said() -> None:
    # Both points are taken by those who go on, so a child has nothing left to be.
    space = {"x": {"choices": [1, 2]}, "fixed": {"choices": [1, 2], "static": True}}
    study = study_of(space, population=4, quantile=0.5)
    simulation = Simulation(study, lambda trial, step: 0.5).run()
    found = sequences(simulation)
    doubles = [child for child in children(simulation) if "nothing new" in child.reason]
    assert doubles
    for child in doubles:
        assert found[child.trial] == found[child.parent or 0]


def test_space_is_drawn_from_for_the_first_population_only() -> None:
    tuner = create_tuner(study_of())
    assert tuner.draws_from_space
    for decision in tuner.decide(0):
        tuner.apply(decision)
    assert not tuner.draws_from_space
    assert not tuner.exhausted


def test_if_all_fail_the_study_ends() -> None:
    simulation = Simulation(study_of(), lambda t, step: None if step == 20 else 1.0).run()
    assert len(simulation.asked()) == 8 + 2
    assert simulation.tuner.finished


def test_a_parent_must_be_known() -> None:
    tuner = create_tuner(study_of())
    first = tuner.decide(0)[0]
    with pytest.raises(ValueError, match="parent 3 of 0"):
        tuner.apply(first.model_copy(update={"parent": 3}))
    tuner.apply(first)


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"population": 1}, "algorithm.population", "must be at least 2"),
        (
            {"population": 3},
            "algorithm.population",
            "must be at least 4, or a quantile of 0.25 replaces no trial",
        ),
        ({"interval": 50}, "algorithm.interval", "must be less than spec.steps (50), not 50"),
        ({"quantile": 0.6}, "algorithm.quantile", "must be at most 0.5"),
        ({"resample": 1.5}, "algorithm.resample", "must be at most 1"),
        ({"factors": []}, "algorithm.factors", "is empty; give at least one"),
        ({"factors": [2, 1]}, "algorithm.factors[1]", "must not be 1, which changes nothing"),
        ({"factors": [-1]}, "algorithm.factors[0]", "must be greater than 0"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], path: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        study_of(**settings)
    assert caught.value.errors == ((f"spec.{path}", message),)


def test_settings_must_suit_the_space_and_leave_max_trials_out() -> None:
    static = {"x": {"choices": list(range(9)), "static": True}}
    few = {"x": {"choices": [1, 2, 3]}}
    for space, most, path in (
        (static, None, "spec.space"),
        (few, None, "spec.algorithm.population"),
        (CONTINUOUS, 20, "spec.maxTrials"),
    ):
        with pytest.raises(InvalidSpec) as caught:
            make_study(pbt(), steps=STEPS, space=space, max_trials=most)
        assert [error[0] for error in caught.value.errors] == [path]


def test_the_quantile_is_counted_exactly() -> None:
    settings = Pbt(population=100, interval=10, quantile=0.29)
    assert int(0.29 * 100) == 28
    assert settings.replaced == 29
