"""Prefix-first draws: what is shared, what is chosen, and what stays as it was."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest

from hippo.cli.analysis import analyse
from hippo.model import InvalidSpec, PrefixFirst, Space, canonical_json
from hippo.tune import create_tuner
from hippo.tune.prefix_first import PrefixFirstDraws
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


@pytest.mark.parametrize("seed", range(6))
def test_random_trials_share_more(seed: int) -> None:
    plain = merge_rate(None, seed)
    assert plain < 1.1
    assert merge_rate({}, seed) > 1.7 * plain
    assert merge_rate({"weight": 3}, seed) > 2.0 * plain


def test_the_more_weight_the_more_is_shared() -> None:
    rates = [sum(merge_rate({"weight": weight}, seed) for seed in range(3)) for weight in (0, 6)]
    assert rates == sorted(rates)
    assert rates[0] < rates[-1] / 1.2


def suggest(draws: PrefixFirstDraws, space: Space, count: int, price: Any) -> list[dict[str, Any]]:
    points = []
    for trial in range(count):
        point, why = draws.choose(lambda a, t=trial: space.draw(0, t + (a << 40)), price, 10)  # type: ignore[misc]
        assert why
        draws.suggested(point)
        points.append(point)
    return points


@pytest.mark.parametrize("late", [0, 0.3, 1])
def test_a_stated_share_of_trials_branches_off_earlier_ones(late: float) -> None:
    names = "abcdef"
    space = Space.of(dict.fromkeys(names, INITIAL), 10)
    draws = PrefixFirstDraws(PrefixFirst(candidates=2, late=late), space, seed=0)
    points = suggest(draws, space, 101, lambda point, steps: 1.0)
    near = sum(
        any(sum(point[name] != old[name] for name in names) == 1 for old in points[:number])
        for number, point in enumerate(points)
    )
    assert abs(near - 100 * late) <= 4 * math.sqrt(100 * late * (1 - late))


@pytest.mark.parametrize(("weight", "ratio"), [(0, 1.0), (1, 3.0), (2, 9.0)])
def test_candidates_are_chosen_by_their_price_to_a_power(weight: float, ratio: float) -> None:
    """Prices of 1 and 3: the cheaper half is chosen 3^weight times as often."""
    space = Space.of({"a": {"uniform": {"low": 0, "high": 1}}, "b": INITIAL}, 10)
    settings = PrefixFirst(candidates=20, weight=weight, levels=1000, late=0)
    chosen = Counter(
        point["a"] < 0.5
        for seed in range(600)
        for point, _ in [
            PrefixFirstDraws(settings, space, seed).choose(
                lambda attempt, seed=seed: space.draw(seed, attempt),  # type: ignore[misc]
                lambda point, _: 1.0 if point["a"] < 0.5 else 3.0,
                10,
            )
        ]
    )
    share = ratio / (1 + ratio)
    assert abs(chosen[True] / 600 - share) < 5 * math.sqrt(share * (1 - share) / 600)


def test_what_adds_nothing_is_taken_last() -> None:
    space = Space.of({"a": {"choices": list(range(20))}}, 10)
    draws = PrefixFirstDraws(PrefixFirst(candidates=20), space, seed=1)
    free = {3, 7, 11}
    order = []
    for _ in range(20):
        point, _why = draws.choose(
            lambda attempt: space.sample(1, draws.passed + attempt),
            lambda point, _: 0.0 if point["a"] in free else 1.0,
            10,
        )
        draws.suggested(point)
        order.append(point["a"])
    assert sorted(order) == list(range(20))
    assert set(order[-3:]) == free


def test_a_finite_space_is_used_up_without_repeats() -> None:
    space = {
        "a": {"int": {"low": 1, "high": 30}},
        "b": {"choices": [1, {"int": {"low": 5, "high": 6}}]},
    }
    simulation = Simulation(study({"levels": 3}, space=space, max_trials=None)).run()
    points = {canonical_json(d.hyperparameters) for d in simulation.decisions}
    assert len(points) == len(simulation.decisions) == 90


def test_a_range_of_few_numbers_may_be_drawn_again() -> None:
    """Two numbers of six digits, five trials: plain draws repeat as well."""
    space = {"a": {"uniform": {"low": 1, "high": 1.00001}}}
    simulation = Simulation(study({}, space=space, max_trials=5)).run()
    assert len(simulation.decisions) == 5


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
        tuner.decided(decision)


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


@pytest.mark.parametrize("algorithm", [{}, {"name": "asha", "eta": 2, "minSteps": 3}])
def test_the_engine_prices_trials_by_its_plan(algorithm: dict[str, Any]) -> None:
    trained = {}
    for weight in (0, 8):
        worlds = [run({"weight": weight}, seed=seed, **algorithm) for seed in range(4)]
        for world in worlds:
            assert "adding" in world.decisions["s"][1].reason
            assert max(world.trained.values()) == 1
        trained[weight] = sum(sum(world.trained.values()) for world in worlds)
    assert trained[8] < 0.8 * trained[0]


def test_trial_by_trial_has_no_price() -> None:
    world = run({}, merge=False)
    assert "adding" not in world.decisions["s"][1].reason


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
        ({"late": 1.5}, "spec.algorithm.prefixFirst.late: must be between 0 and 1"),
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
