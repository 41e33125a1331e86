"""The comparison with Ray Tune: what it compares, when it refuses to, and how it is shown."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from benchmarks.side_by_side.equality import Agreement, NotTheSameError
from benchmarks.side_by_side.report import table
from benchmarks.side_by_side.studies import Work, build_works
from benchmarks.side_by_side.systems import System, read_metrics
from hippo.model import Sequence, parse_study

ONE = {"s: {}": {"loss": 0.1}}


def unique_steps(work: Work) -> tuple[int, int]:
    """(steps asked for, distinct prefixes among them)."""
    sequences = [
        Sequence.of(point, study.spec.steps)
        for study in map(parse_study, work.studies)
        for point in study.search_space().enumerate()
    ]
    prefixes = {s.key(step, "") for s in sequences for step in range(1, s.steps + 1)}
    return sum(s.steps for s in sequences), len(prefixes)


@pytest.mark.parametrize("quick", [False, True])
def test_the_first_work_shares_nothing_and_the_others_do(quick: bool) -> None:
    first, *others = build_works(quick=quick)
    asked, unique = unique_steps(first)
    assert asked == unique
    for work in others:
        asked, unique = unique_steps(work)
        assert unique < 0.8 * asked


def test_equal_metrics_agree() -> None:
    agreement = Agreement()
    agreement.check("late", "hippo (1)", ONE)
    agreement.check("late", "ray tune (1)", {"s: {}": {"loss": 0.1}})
    agreement.check("apart", "hippo (1)", {"s: {}": {"loss": 0.3}})  # works are held apart


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        (
            {"s: {}": {"loss": 0.1 + 2**-56}},
            r"s: \{\} has \{'loss': 0.1\} in hippo \(1\), .* in ray",
        ),
        ({"s: {}": {"loss": 0.1, "accuracy": 1.0}}, "in ray"),
        ({}, "ray has no results"),
        ({**ONE, "t: {}": {"loss": 0.1}}, r"hippo \(1\) has no result for t: \{\}"),
        ({"t: {}": {"loss": 0.1}}, r"ray has no result for s: \{\}"),
    ],
)
def test_whatever_differs_is_named(metrics: dict[str, dict[str, float | None]], said: str) -> None:
    agreement = Agreement()
    agreement.check("late", "hippo (1)", ONE)
    with pytest.raises(NotTheSameError, match=f"late: .*{said}"):
        agreement.check("late", "ray", metrics)


def test_a_diverged_trial_proves_nothing() -> None:
    with pytest.raises(NotTheSameError):
        Agreement().check("late", "hippo", {"s: {}": {"loss": None}})


def test_configurations_are_told_apart_by_study_and_by_value_not_by_order() -> None:
    trials: list[dict[str, Any]] = [
        {"study": "a", "hyperparameters": {"x": 1, "y": 2}, "metrics": {"loss": 1.0}},
        {"study": "b", "hyperparameters": {"y": 2, "x": 1}, "metrics": {"loss": 2.0}},
    ]
    found = read_metrics({"trials": trials})
    assert [key.partition(": ")[2] for key in found] == ['{"x":1,"y":2}'] * 2
    assert list(found.values()) == [{"loss": 1.0}, {"loss": 2.0}]


def runs(system: System, steps: int, cold: list[float]) -> Iterator[dict[str, Any]]:
    for repetition, seconds in zip(count(), cold, strict=False):
        yield {
            "work": "late",
            "system": str(system),
            "repetition": repetition,
            "stepsTrained": steps,
            "coldSeconds": seconds,
            "warmSeconds": seconds - 1,
            "workerSeconds": 2 * seconds,
            "cpuSecondsCold": 3 * seconds,
            "cpuSecondsWarm": 2 * seconds,
            "cpuSecondsOfDaemons": 0.0,
        }


def test_the_table_has_medians_spread_and_ratios_within_repetitions() -> None:
    document = {
        "works": [{"name": "late", "title": "schedules that part late", "stepsRequested": 200}],
        "runs": [
            *runs(System.RAY, 200, [30.0, 50.0, 40.0]),
            *runs(System.NO_MERGE, 200, [20.0, 25.0, 20.0]),
            *runs(System.HIPPO, 80, [10.0, 5.0, 8.0]),
        ],
    }
    lines = table(document).splitlines()
    assert "- late: schedules that part late" in lines
    assert any(
        line.startswith("| late | ray tune | 200 | 40.0 (30.0–50.0) | 39.0 (29.0–49.0) | 80.0")
        for line in lines
    )
    assert (
        "| late | 200 : 80 = 2.50 | runner: ray / no-merge | 2.00 (1.50–2.00) | 2.04 (1.53–2.05)"
        " | 2.00 (1.50–2.00) |"
    ) in lines
    assert any("both: ray / hippo | 5.0 (3.0–10.0) |" in line for line in lines)
