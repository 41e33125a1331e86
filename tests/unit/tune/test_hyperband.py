"""Hyperband, against algorithm 1 and table 1 of its paper (L. Li et al., JMLR 18, 2018)."""

from __future__ import annotations

from fractions import Fraction
from math import ceil
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import InvalidSpec
from hippo.protocol.decisions import Decision
from hippo.tune import Result, create_tuner
from hippo.tune.hyperband import bracket_sizes
from tests.unit.tune.simulation import CONTINUOUS, Simulation, distinct, make_study


def hyperband(**settings: int) -> dict[str, Any]:
    return {"name": "hyperband", "eta": 3, "minSteps": 1, **settings}


def brackets(simulation: Simulation) -> dict[str, list[tuple[int, int]]]:
    """Returns [(n_i, r_i)] of each rung reached, by the bracket's name in the reasons."""
    names = {
        decision.trial: decision.reason.partition(", draw")[0]
        for decision in simulation.decisions
        if decision.kind == "suggest"
    }
    counts: dict[str, dict[int, int]] = {}
    for trial, asked in simulation.asked().items():
        for step in asked:
            rungs = counts.setdefault(names[trial], {})
            rungs[step] = rungs.get(step, 0) + 1
    return {name: [(n, r) for r, n in sorted(rungs.items())] for name, rungs in counts.items()}


def test_the_table_for_81_steps() -> None:
    """Algorithm 1's n = ceil(B / R * eta^s / (s + 1)); r_i are those of table 1.

    The table prints 27, 9, 6 instead of 34, 15, 8: there B / R / (s + 1) is rounded down first.
    """
    study = make_study(hyperband(), steps=81, space=CONTINUOUS)
    assert brackets(Simulation(study, workers=9).run()) == {
        "bracket 1 of 5": [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        "bracket 2 of 5": [(34, 3), (11, 9), (3, 27), (1, 81)],
        "bracket 3 of 5": [(15, 9), (5, 27), (1, 81)],
        "bracket 4 of 5": [(8, 27), (2, 81)],
        "bracket 5 of 5": [(5, 81)],
    }


@given(st.integers(2, 12), st.integers(1, 12))
def test_sizes_are_those_of_the_algorithm(eta: int, rungs: int) -> None:
    s_max = rungs - 1
    assert bracket_sizes(rungs, eta) == tuple(
        ceil(Fraction(s_max + 1, s + 1) * eta**s) for s in range(s_max, -1, -1)
    )


def algorithm_1(study_steps: int, eta: int, sign: float) -> dict[int, set[tuple[int, int]]]:
    """The paper's pseudocode, word for word, for minSteps 1 and steps a power of eta.

    Trials are numbered as they are drawn. Returns by bracket s the (trial, r_i) that were run.
    """
    s_max = 0
    while eta ** (s_max + 1) <= study_steps:
        s_max += 1
    budget = (s_max + 1) * study_steps
    ran: dict[int, set[tuple[int, int]]] = {}
    drawn = 0
    for s in range(s_max, -1, -1):
        n = ceil(Fraction(budget, study_steps) * Fraction(eta**s, s + 1))
        r = Fraction(study_steps, eta**s)
        chosen = list(range(drawn, drawn + n))
        drawn += n
        ran[s] = set()
        for i in range(s + 1):
            n_i = n // eta**i
            r_i = int(r * eta**i)
            ran[s] |= {(trial, r_i) for trial in chosen}
            losses = {trial: sign * distinct(trial, r_i) for trial in chosen}
            chosen = sorted(chosen, key=losses.__getitem__)[: n_i // eta]
    return ran


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "eta"), [(81, 3), (243, 3), (64, 2), (64, 4), (25, 5)])
@pytest.mark.parametrize("goal", ["minimize", "maximize"])
def test_runs_what_algorithm_1_runs(steps: int, eta: int, goal: str) -> None:
    study = make_study(hyperband(eta=eta), steps=steps, space=CONTINUOUS, goal=goal)
    simulation = Simulation(study, workers=7).run()
    expected = algorithm_1(steps, eta, 1.0 if goal == "minimize" else -1.0)
    assert {
        (trial, step) for trial, asked in simulation.asked().items() for step in asked
    } == set().union(*expected.values())


def test_does_not_depend_on_the_order_of_results() -> None:
    study = make_study(hyperband(), space=CONTINUOUS)

    def verdicts(seed: int) -> set[tuple[str, int, int, str]]:
        simulation = Simulation(study, workers=1 + 5 * seed, seed=seed).run()
        return {(d.kind, d.trial, d.steps, d.reason) for d in simulation.decisions}

    assert all(verdicts(seed) == verdicts(0) for seed in range(1, 12))


def test_all_brackets_are_suggested_at_once() -> None:
    decisions = create_tuner(make_study(hyperband(), space=CONTINUOUS)).decide(1)
    assert [decision.steps for decision in decisions] == [1] * 27 + [3] * 12 + [9] * 6 + [27] * 4
    assert decisions[27].reason == "bracket 2 of 4, draw 28 of 49 from the space (seed 0)"


def test_max_trials_cuts_off_and_passes_repeat() -> None:
    def starts(most: int) -> list[int]:
        study = make_study(hyperband(minSteps=3), space=CONTINUOUS, max_trials=most)
        return [decision.steps for decision in create_tuner(study).decide(1)]

    one_pass = [3] * 9 + [9] * 5 + [27] * 3
    assert starts(12) == one_pass[:12]
    assert starts(40) == (one_pass * 3)[:40]
    study = make_study(hyperband(minSteps=3), space=CONTINUOUS, max_trials=40)
    found = brackets(Simulation(study).run())
    assert found["pass 2, bracket 2 of 3"] == [(5, 9), (1, 27)]
    assert found["pass 3, bracket 1 of 3"] == [(6, 3), (2, 9), (1, 27)]


def test_trials_added_to_a_bracket_after_its_first_verdict_form_their_own() -> None:
    study = make_study(hyperband(minSteps=3), space=CONTINUOUS, max_trials=6)
    simulation = Simulation(study).run()
    simulation.tuner.resize(12)
    simulation.run()
    assert simulation.count_at(3) == 9
    promoted = [trial for trial, asked in simulation.asked().items() if asked[:2] == [3, 9]]
    assert len([trial for trial in promoted if trial < 6]) == 2
    assert len([trial for trial in promoted if trial >= 6]) == 1


def test_a_failure_before_its_first_rung_counts_there() -> None:
    study = make_study(hyperband(minSteps=3), space=CONTINUOUS)
    tuner = create_tuner(study)
    for decision in tuner.decide(1):
        tuner.apply(decision)
    for trial in range(9, 13):
        tuner.tell(Result(trial, 9, float(trial)))
    tuner.tell(Result(13, 2, None))
    (best, *rest) = tuner.decide(0)
    assert (best.kind, best.trial, best.steps) == ("promote", 12, 27)
    assert best.reason == "bracket 2 of 3, rung 1 (9 steps): 1st of 5, the best one goes on to 27"
    assert [(d.kind, d.trial, d.steps) for d in rest] == [("stop", t, 9) for t in (11, 10, 9)]
    assert rest[0].reason == "bracket 2 of 3, not the best of 5 at step 9 (2nd)"


def test_a_failure_verdict_of_the_engine_closes_a_rung() -> None:
    study = make_study(hyperband(minSteps=9), space=CONTINUOUS)  # brackets of 3 and of 2
    tuner = create_tuner(study)
    decisions = tuner.decide(1)
    assert [decision.steps for decision in decisions] == [9, 9, 9, 27, 27]
    for decision in decisions:
        tuner.apply(decision)
    for index, trial in enumerate(range(5), start=5):
        steps = decisions[trial].steps
        tuner.apply(Decision(index=index, kind="fail", trial=trial, steps=steps, reason="broke"))
    assert tuner.decide(1) == []
    assert tuner.finished


def test_needs_no_max_trials_and_checks_its_settings() -> None:
    assert make_study(hyperband(), space=CONTINUOUS).spec.max_trials is None
    for settings, path in (
        ({"eta": 1}, "spec.algorithm.eta"),
        ({"minSteps": 28}, "spec.algorithm.minSteps"),
        ({"every": 3}, "spec.algorithm.every"),
    ):
        with pytest.raises(InvalidSpec) as caught:
            make_study(hyperband(**settings), space=CONTINUOUS)
        assert [error[0] for error in caught.value.errors] == [path]
