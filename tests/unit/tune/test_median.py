"""The median stopping rule, against a literal reading of its paper (Golovin et al., KDD 2017)."""

from __future__ import annotations

import statistics
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import InvalidSpec, Study
from hippo.protocol.decisions import Decision
from hippo.tune import Result, Tuner, create_tuner
from hippo.tune.median import median_of
from tests.unit.tune.simulation import CONTINUOUS, Simulation, make_study

STEPS = 20


def median(**settings: int) -> dict[str, Any]:
    return {"name": "median", "every": 5, "minTrials": 2, **settings}


def study_of(trials: int, *, goal: str = "maximize", **settings: int) -> Study:
    return make_study(
        median(**settings), max_trials=trials, steps=STEPS, space=CONTINUOUS, goal=goal
    )


def begun(study: Study) -> Tuner:
    tuner = create_tuner(study)
    for decision in tuner.decide(1):
        tuner.apply(decision)
    return tuner


def report(tuner: Tuner, trial: int, *values: float | None) -> None:
    """The first reports of a trial: at 5, 10, 15 and 20."""
    for step, value in zip((5, 10, 15, 20), values, strict=False):
        tuner.tell(Result(trial, step, value))


def stops(tuner: Tuner) -> list[tuple[int, int]]:
    return [(decision.trial, decision.steps) for decision in tuner.decide(0)]


def test_all_trials_are_suggested_at_once_with_marks() -> None:
    decisions = create_tuner(study_of(3, every=6)).decide(0)
    assert [(d.kind, d.steps, d.marks) for d in decisions] == [("suggest", 20, (6, 12, 18))] * 3
    assert create_tuner(study_of(1, every=10)).decide(0)[0].marks == (10,)


def test_a_median_is_a_real_one() -> None:
    assert median_of([Fraction(1), Fraction(2), Fraction(9)]) == 2
    assert median_of([Fraction(1), Fraction(2), Fraction(5), Fraction(9)]) == Fraction(7, 2)
    tuner = begun(study_of(6))
    report(tuner, 0, 0.25, 0.25, 0.25, 0.25)
    report(tuner, 1, 0.75, 0.75, 0.75, 0.75)
    # The median of 0.25 and 0.75 is 0.5: neither of the two.
    for trial, value in ((2, 0.4), (3, 0.5), (4, 0.6)):
        report(tuner, trial, value)
    assert stops(tuner) == [(2, 5)]


def test_compares_the_best_so_far_with_running_averages_strictly() -> None:
    tuner = begun(study_of(5))
    for trial in (0, 1):
        report(tuner, trial, 0.0, 0.5, 1.0, 1.0)  # running averages 0, 0.25, 0.5
    report(tuner, 2, 0.25, 0.1)
    report(tuner, 3, 0.2, 0.24)
    report(tuner, 4, 0.0)
    assert stops(tuner) == [(3, 10)]
    (stop,) = tuner.decide(0)
    assert stop.reason == (
        "0.24 at best by step 10, behind 0.25, the median of the averages of 2 completed trials"
        " by then"
    )


def test_nobody_is_stopped_too_early() -> None:
    tuner = begun(study_of(5, minSteps=6, minTrials=3))
    report(tuner, 3, 0.1)
    report(tuner, 4, 0.1, 0.1)
    for trial in (0, 1, 2):
        assert stops(tuner) == []
        report(tuner, trial, 1.0, 1.0, 1.0, 1.0)
    assert stops(tuner) == [(4, 10)]


def test_failed_trials_count_as_worst_and_stopped_ones_not_at_all() -> None:
    tuner = begun(study_of(6, minTrials=3))
    report(tuner, 0, 1.0, 1.0, 1.0, 1.0)
    report(tuner, 1, 0.9, 0.9, None)
    report(tuner, 2, 0.9, None)
    report(tuner, 3, 0.1)
    assert stops(tuner) == []  # the median of 1, worst and worst
    report(tuner, 4, 1.0, 1.0, 1.0, 1.0)
    assert stops(tuner) == []  # the mean of 1 and worst
    report(tuner, 5, 1.0, 1.0, 1.0, 1.0)
    assert stops(tuner) == [(3, 5)]
    tuner.apply(tuner.decide(0)[0])
    assert tuner.finished


def test_a_completed_trial_may_make_others_fall_behind_where_they_are() -> None:
    tuner = begun(study_of(4))
    report(tuner, 3, 0.5, 0.5)
    report(tuner, 0, 0.7, 0.7, 0.7, 0.7)
    assert stops(tuner) == []
    report(tuner, 1, 0.6, 0.6, 0.6, 0.6)
    assert stops(tuner) == [(3, 10)]


def test_a_stopped_trial_has_ended() -> None:
    simulation = Simulation(study_of(12), workers=3, seed=1).run()
    assert simulation.stopped()
    for trial in simulation.stopped():
        (stop,) = [d for d in simulation.decisions if d.kind == "stop" and d.trial == trial]
        latest = max(result.step for result in simulation.results if result.trial == trial)
        assert stop.steps == latest < STEPS
        assert not simulation.tuner.may_continue(trial)
    assert simulation.tuner.request_ends == (simulation.study.spec.steps,)


def naive(
    results: dict[int, dict[int, float | None]], stopped: set[int], goal: str, *, least: int
) -> list[tuple[int, int]]:
    """Section 3.2.2, word for word: who is to be stopped, and at which step."""
    sign = 1 if goal == "maximize" else -1
    worst = Fraction(-(10**400))
    failed = {trial for trial, values in results.items() if None in values.values()}
    completed = {trial for trial, values in results.items() if STEPS in values} | failed
    found = []
    for trial, values in sorted(results.items()):
        if trial in completed or trial in stopped:
            continue
        s = max(values)
        best = max(sign * Fraction(value) for value in values.values() if value is not None)
        averages = []
        for other in completed - stopped:
            curve = [
                sign * Fraction(value)
                for step, value in results[other].items()
                if step <= s and value is not None
            ]
            averages.append(worst if other in failed else sum(curve, Fraction(0)) / len(curve))
        if len(averages) >= least and best < statistics.median(averages):
            found.append((trial, s))
    return found


VALUES = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1),
)


@pytest.mark.slow
@given(
    st.lists(st.tuples(*[VALUES] * 4), min_size=2, max_size=9),
    st.sets(st.tuples(st.integers(0, 8), st.sampled_from([5, 10, 15, 20])), max_size=3),
    st.sampled_from(["maximize", "minimize"]),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_decides_as_a_literal_reading_does(
    curves: list[tuple[float, ...]],
    failures: set[tuple[int, int]],
    goal: str,
    least: int,
    randomness: Any,
) -> None:
    tuner = begun(study_of(len(curves), goal=goal, minTrials=least))
    results: dict[int, dict[int, float | None]] = {}
    left = {
        trial: list(zip((5, 10, 15, 20), curve, strict=True)) for trial, curve in enumerate(curves)
    }
    stopped: set[int] = set()
    while left:
        trial = randomness.choice(sorted(left))
        step, value = left[trial].pop(0)
        measured = None if (trial, step) in failures else value
        results.setdefault(trial, {})[step] = measured
        tuner.tell(Result(trial, step, measured))
        if measured is None or not left[trial]:
            del left[trial]
        expected = naive(results, stopped, goal, least=least)
        decisions = tuner.decide(2)
        assert [(d.trial, d.steps) for d in decisions] == expected
        # Now and then a worker goes on before it hears of the verdict.
        if randomness.random() < 0.7:
            for decision in decisions:
                tuner.apply(decision)
                stopped.add(decision.trial)
                left.pop(decision.trial, None)
    assert tuner.finished == (not naive(results, stopped, goal, least=least))


def test_equal_trials_count_each() -> None:
    tuner = begun(study_of(5, minTrials=3))
    for trial in (0, 1):
        report(tuner, trial, 0.9, 0.9, 0.9, 0.9)
    report(tuner, 2, 0.1, 0.1, 0.1, 0.1)
    report(tuner, 3, 0.8)
    assert stops(tuner) == [(3, 5)]  # 0.9 twice and 0.1: the median is 0.9


def test_a_verdict_of_the_engine_counts_as_a_failure() -> None:
    tuner = begun(study_of(3, minTrials=1))
    tuner.apply(Decision(index=3, kind="fail", trial=0, steps=20, reason="it broke"))
    report(tuner, 1, 0.1)
    assert stops(tuner) == []


@pytest.mark.parametrize(
    ("settings", "path", "message"),
    [
        ({"every": 20}, "spec.algorithm.every", "must be less than spec.steps (20), not 20"),
        ({"every": 0}, "spec.algorithm.every", "must be at least 1"),
        ({"minSteps": 21}, "spec.algorithm.minSteps", "must be at most spec.steps (20), not 21"),
        ({"minTrials": 0}, "spec.algorithm.minTrials", "must be at least 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, int], path: str, message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        study_of(3, **settings)
    assert caught.value.errors == ((path, message),)


def test_reports_are_bounded() -> None:
    with pytest.raises(InvalidSpec, match=r"every: must be at least 1,000, so that") as caught:
        make_study(median(every=1), max_trials=3, steps=10**6)
    assert caught.value.errors[0][0] == "spec.algorithm.every"
    study = make_study(median(every=1000), max_trials=3, steps=10**6)
    assert len(create_tuner(study).decide(0)[0].marks) == 999
    with pytest.raises(InvalidSpec):
        make_study(median(every=998), max_trials=3, steps=10**6)
