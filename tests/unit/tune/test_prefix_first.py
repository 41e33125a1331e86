"""Prefix-first draws: shared prefixes, choices, and reproducibility."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.model import InvalidSpec, PrefixFirst, Sequence, Space, canonical_json
from hippo.tune import create_tuner
from hippo.tune.prefix_first import PrefixFirstDraws
from hippo.views.plan_preview import analyse
from tests.unit.plan.test_search_plan import hyperparameters
from tests.unit.tune.simulation import Simulation, make_study
from tests.world import World, build_study

INITIAL = {"uniform": {"low": 1e-3, "high": 1.0, "log": True}}
LATE: dict[str, Any] = {
    "lr": {
        "choices": [
            {
                "multistep": {
                    "initial": INITIAL,
                    "gamma": {"uniform": {"low": 0.05, "high": 0.5}},
                    "milestones": {"choices": [[45], [55], [65], [75], [85]]},
                }
            }
        ]
    },
    "momentum": {"choices": [0.9, {"piecewise": [[0, 0.9], [60, 0.95]]}]},
}


def study(prefix_first: dict[str, Any] | None, seed: int = 0, **changes: Any) -> Any:
    algorithm: dict[str, Any] = {"name": "random", "seed": seed}
    if prefix_first is not None:
        algorithm["prefixFirst"] = prefix_first
    return make_study(algorithm, **{"max_trials": 50, "steps": 90, "space": LATE, **changes})


def merge_rate(prefix_first: dict[str, Any] | None, seed: int) -> float:
    return analyse([study(prefix_first, seed)]).merge_rate


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_trials_share_more(seed: int) -> None:
    plain = merge_rate(None, seed)
    assert plain < 1.1
    assert merge_rate({}, seed) > 1.7 * plain
    assert merge_rate({"weight": 3}, seed) > 2.0 * plain


@pytest.mark.slow
def test_the_more_weight_the_more_is_shared() -> None:
    rates = [sum(merge_rate({"weight": weight}, seed) for seed in range(3)) for weight in (0, 6)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] / 1.2


def suggest(draws: PrefixFirstDraws, space: Space, count: int) -> list[dict[str, Any]]:
    points = []
    for trial in range(count):
        point, why = draws.choose(lambda a, t=trial: space.draw(0, t + (a << 40)))  # type: ignore[misc]
        assert why
        draws.suggested(point, 10)
        points.append(point)
    return points


@pytest.mark.parametrize("late", [0, 0.3, 1])
def test_a_stated_share_of_trials_branches_off_earlier_ones(late: float) -> None:
    names = "abcdef"
    space = Space.of(dict.fromkeys(names, INITIAL), 10)
    draws = PrefixFirstDraws(PrefixFirst(candidates=2, late=late, weight=0), space, 0, 10)
    points = suggest(draws, space, 101)
    near = sum(
        any(sum(point[name] != old[name] for name in names) == 1 for old in points[:number])
        for number, point in enumerate(points)
    )
    assert abs(near - 100 * late) <= 4 * math.sqrt(100 * late * (1 - late))


def switched(after: int, to: float) -> dict[str, Any]:
    return {"piecewise": [[0, 0.5], [after, to]]}


@pytest.mark.slow
@pytest.mark.parametrize(("weight", "ratio"), [(0, 1.0), (1, 3.0), (2, 9.0)])
def test_candidates_are_chosen_by_their_cost_to_a_power(weight: float, ratio: float) -> None:
    """Half of the candidates add 3 steps, half 9: the former are chosen 3^weight times as often."""
    late = [switched(6, 1 + k) for k in range(10)]
    space = Space.of({"a": {"choices": [0.5, *late, *range(1, 11)]}}, 9)
    prefix_first = PrefixFirst(candidates=20, weight=weight, late=0)
    chosen = Counter[int]()
    for seed in range(600):
        draws = PrefixFirstDraws(prefix_first, space, seed, 9)
        draws.suggested({"a": 0.5}, 9)
        point, _ = draws.choose(lambda attempt: space.pick(1 + attempt))
        chosen[draws.marginal_steps(point)] += 1
    assert set(chosen) == {3, 9}
    share = ratio / (1 + ratio)
    assert abs(chosen[3] / 600 - share) < 5 * math.sqrt(share * (1 - share) / 600)


def test_what_adds_nothing_is_taken_last() -> None:
    """Values after the last step distinguish points, but add no steps."""
    values = [0.5, *(switched(10, to) for to in (1, 2, 3)), *range(1, 17)]
    space = Space.of({"a": {"choices": values}}, 10)
    draws = PrefixFirstDraws(PrefixFirst(candidates=20), space, 1, 10)
    draws.suggested({"a": 0.5}, 10)
    order = []
    for _ in range(19):
        point, _why = draws.choose(lambda attempt: space.sample(1, draws.passed + attempt))
        draws.suggested(point, 10)
        order.append(str(point["a"]))
    assert sorted([*order, "0.5"]) == sorted(map(str, values))
    assert set(order[-3:]) == set(map(str, values[1:4]))


@pytest.mark.slow
@given(st.lists(st.tuples(hyperparameters(), st.integers(1, 12)), max_size=6), hyperparameters())
@settings(max_examples=200)
def test_a_point_costs_the_steps_that_it_shares_with_no_trial_so_far(
    trials: list[tuple[dict[str, Any], int]], written: dict[str, Any]
) -> None:
    space = Space.of({"a": {"choices": [1]}}, 12)
    draws = PrefixFirstDraws(PrefixFirst(), space, 0, 12)
    for point, steps in trials:
        draws.suggested(point, steps)
    keys = {
        (step, Sequence.of(point, 12).key(step, "s"))
        for point, asked in trials
        for step in range(1, asked + 1)
    }
    sequence = Sequence.of(written, 12)
    new = [step for step in range(1, 13) if (step, sequence.key(step, "s")) not in keys]
    assert draws.marginal_steps(written) == len(new)


def test_a_finite_space_is_used_up_without_repeats() -> None:
    space = {
        "a": {"int": {"low": 1, "high": 30}},
        "b": {"choices": [1, {"int": {"low": 5, "high": 6}}]},
    }
    simulation = Simulation(study({"levels": 3}, space=space, max_trials=None)).run()
    points = {canonical_json(d.hyperparameters) for d in simulation.decisions}
    assert len(points) == len(simulation.decisions) == 90


def test_a_range_of_few_numbers_may_be_drawn_again() -> None:
    """Two numbers of six digits, five trials: plain draws repeat too."""
    space = {"a": {"uniform": {"low": 1, "high": 1.00001}}}
    simulation = Simulation(study({}, space=space, max_trials=5)).run()
    assert len(simulation.decisions) == 5


@pytest.mark.slow
def test_weight_0_draws_like_random_search() -> None:
    """Every place of a point is distributed as in plain draws, though points come in families."""
    space = {"a": {"choices": [1, {"choices": [2, 3]}]}, **dict.fromkeys("bcd", INITIAL)}
    counts = Counter[Any]()
    low = 0
    for seed in range(40):
        simulation = Simulation(study({"weight": 0}, seed, space=space, max_trials=20)).run()
        for decision in simulation.decisions:
            assert decision.hyperparameters is not None
            counts[decision.hyperparameters["a"]] += 1
            low += decision.hyperparameters["b"] < 10**-1.5
    total = 40 * 20
    # Trials of a family are alike, so that the spread is that of fewer independent draws.
    tolerance = 4 * math.sqrt(total * 3)
    assert abs(counts[1] - total / 2) < tolerance
    assert abs(counts[2] - total / 4) < tolerance
    assert abs(low - total / 2) < tolerance


def test_trials_are_suggested_one_by_one_and_say_why() -> None:
    tuner = create_tuner(study({}))
    for trial in range(3):
        (decision,) = tuner.decide(8)
        assert decision.trial == trial
        assert decision.reason.startswith(f"draw {trial + 1} of 50 from the space (seed 0): ")
        tuner.apply(decision)


def run(prefix_first: dict[str, Any], *, merge: bool = True, **algorithm: Any) -> World:
    settings = {"name": "random", "prefixFirst": prefix_first, **algorithm}
    space = {
        "lr": {"choices": [{"choices": [0.1, 0.2, 0.3]}, *late(0.1), *late(0.2), *late(0.3)]},
        "momentum": {"choices": [0.5, 0.7, 0.9]},
    }
    return World([build_study(space=space, algorithm=settings, maxTrials=18)], merge=merge).run()


def late(initial: float) -> list[Any]:
    return [
        {"multistep": {"initial": initial, "gamma": 0.1, "milestones": [step]}}
        for step in range(6, 12)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [{}, {"name": "asha", "eta": 2, "minSteps": 3}])
def test_weight_saves_training(algorithm: dict[str, Any]) -> None:
    trained = {}
    for weight in (0, 8):
        worlds = [run({"weight": weight}, seed=seed, **algorithm) for seed in range(8)]
        for world in worlds:
            assert "adding" in world.decisions["s"][1].reason
            assert max(world.trained.values()) == 1
        trained[weight] = sum(sum(world.trained.values()) for world in worlds)
    assert trained[8] < 0.8 * trained[0]


def test_a_restart_repeats_no_draw() -> None:
    world = run({})
    decisions = list(world.decisions["s"])
    world.ended.clear()
    world.start_engine()
    world.run()
    assert world.decisions["s"] == decisions


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"candidates": 1}, "spec.algorithm.prefixFirst.candidates: must be at least 2"),
        ({"late": 1.5}, "spec.algorithm.prefixFirst.late: must be at most 1"),
        ({"weight": -1}, "spec.algorithm.prefixFirst.weight: must be at least 0"),
        ({"levels": 1.5}, "spec.algorithm.prefixFirst.levels: must be an integer"),
        ({"level": 8}, "spec.algorithm.prefixFirst.level: unknown field"),
        (True, "spec.algorithm.prefixFirst: must be a mapping, not true"),
    ],
)
def test_wrong_settings_are_named(written: Any, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        study(written)
    assert message in str(caught.value)
