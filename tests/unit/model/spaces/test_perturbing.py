"""Varied hyper-parameters stay within their domains and are unchanged before the step."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import Explorer, Sequence, Space

STEPS = 120
MIXED: dict[str, Any] = {
    "batch_size": {"int": {"low": 16, "high": 130, "step": 16}},
    "layers": {"choices": [2, 4, 8], "static": True},
    "lr": {"uniform": {"low": 1e-4, "high": 1.0, "log": True}},
    "momentum": {"choices": [0.7, 0.8, {"piecewise": [[0, 0.7], [40, 0.9]]}, 0.9]},
    "optimizer": {"choices": ["sgd", "adam"]},
    "seeded": {"int": {"low": -3, "high": 3}},
    "warm": {
        "choices": [
            {
                "cosine": {
                    "initial": {"uniform": {"low": 0.1, "high": 0.9}},
                    "final": {"choices": [0, 0.01, 0.02]},
                    "steps": {"int": {"low": 20, "high": 200, "log": True}},
                }
            },
            {"multistep": {"initial": 0.5, "gamma": 0.1, "milestones": [30, 60]}},
        ]
    },
}


def explorer(space: dict[str, Any], **changes: Any) -> Explorer:
    settings = {"seed": 0, "resample": 0.0, "factors": (0.8, 1.2), **changes}
    return Explorer(Space.of(space, STEPS), **settings)


def outcomes(domain: dict[str, Any], written: Any, **changes: Any) -> set[Any]:
    """Returns what a value becomes at step 40, over many trials."""
    varied = explorer({"x": domain}, **changes)
    return {
        Sequence.of(varied.vary({"x": written}, 40, index), STEPS).values(40)["x"]
        for index in range(60)
    }


@pytest.mark.parametrize(
    ("domain", "written", "expected"),
    [
        # Numbers: one of the factors, six digits, clipped.
        ({"uniform": {"low": 0.0, "high": 1.0}}, 0.1, {0.08, 0.12}),
        ({"uniform": {"low": 0.0, "high": 1.0}}, 0.123456, {0.0987648, 0.148147}),
        ({"uniform": {"low": 0.09, "high": 0.11}}, 0.1, {0.09, 0.11}),
        ({"uniform": {"low": -1.0, "high": 1.0}}, -0.5, {-0.4, -0.6}),
        # Integers: the nearest one, at least one away, on the grid, clipped.
        ({"int": {"low": 1, "high": 99}}, 50, {40, 60}),
        ({"int": {"low": 1, "high": 99}}, 2, {1, 3}),
        ({"int": {"low": 1, "high": 99}}, 1, {1, 2}),
        ({"int": {"low": -9, "high": 9}}, 0, {-1, 1}),
        ({"int": {"low": -9, "high": 9}}, -2, {-1, -3}),
        ({"int": {"low": 16, "high": 130, "step": 16}}, 112, {96, 128}),
        ({"int": {"low": 16, "high": 130, "step": 16}}, 128, {96, 128}),
        ({"int": {"low": 16, "high": 130, "step": 16}}, 64, {48, 80}),
        # Choices: a neighbour.
        ({"choices": [64, 128, 256, 512]}, 128, {64, 256}),
        ({"choices": [64, 128, 256, 512]}, 512, {256}),
        ({"choices": ["sgd", "adam", "lamb"]}, "adam", {"sgd", "lamb"}),
        ({"choices": [0.5]}, 0.5, {0.5}),
        # Domains within choices.
        ({"choices": [{"uniform": {"low": 0.0, "high": 1.0}}, 7]}, 0.5, {0.4, 0.6}),
        ({"choices": [7, {"int": {"low": 1, "high": 2}}]}, 7, {1, 2}),
    ],
)
def test_perturbs(domain: dict[str, Any], written: Any, expected: set[Any]) -> None:
    assert outcomes(domain, written) == expected


def test_resamples() -> None:
    drawn = outcomes({"choices": [1, 2, 3, 4, 5]}, 1, resample=1.0)
    assert drawn == {1, 2, 3, 4, 5}
    both = outcomes({"choices": [1, 2, 3, 4, 5]}, 1, resample=0.5)
    assert both == {1, 2, 3, 4, 5}
    assert len(outcomes({"uniform": {"low": 0.0, "high": 1.0}}, 0.5, resample=1.0)) == 60


def test_parts_of_a_schedule_are_perturbed_and_it_begins_again() -> None:
    domain = {
        "choices": [
            {"linear": {"initial": {"uniform": {"low": 0, "high": 9}}, "final": 0, "steps": 50}}
        ]
    }
    written = {"linear": {"initial": 1.0, "final": 0, "steps": 50}}
    found = explorer({"x": domain}, factors=(0.5,)).vary({"x": written}, 40, 0)
    again = {"linear": {"initial": 0.5, "final": 0, "steps": 50}}
    assert found == {"x": {"piecewise": [[0, written], [40, again]]}}


def test_lists_stay_flat_and_unchanged_values_add_no_entry() -> None:
    varied = explorer({"x": {"uniform": {"low": 0.0, "high": 1.0}}}, factors=(1.5,))
    written: dict[str, Any] = {"x": 0.4}
    for index, step in enumerate((10, 20, 30, 40)):
        written = varied.vary(written, step, index)
    assert written == {"x": {"piecewise": [[0, 0.4], [10, 0.6], [20, 0.9], [30, 1.0]]}}
    assert varied.in_force(written) == {"x": 1.0}


def test_a_drawn_piecewise_is_a_point_and_not_a_history() -> None:
    drawn = {"piecewise": [[0, 0.7], [40, 0.9]]}
    varied = explorer({"x": {"choices": [0.5, drawn]}})
    assert varied.in_force({"x": drawn}) == {"x": drawn}
    moved = varied.vary({"x": drawn}, 20, 0)
    assert moved == {"x": {"piecewise": [[0, drawn], [20, 0.5]]}}
    back = varied.vary(moved, 30, 1)
    assert back == {"x": {"piecewise": [[0, drawn], [20, 0.5], [30, drawn]]}}
    assert [Sequence.of(back, STEPS).values(t)["x"] for t in (69, 70)] == [0.7, 0.9]


@pytest.mark.slow
@given(
    st.integers(0, 50),
    st.lists(st.integers(1, STEPS - 1), min_size=1, max_size=6, unique=True).map(sorted),
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.booleans(),
)
def test_stays_in_its_domains_and_changes_nothing_before(
    draw: int, steps: list[int], index: int, resample: float, afresh: bool
) -> None:
    varied = explorer(MIXED, resample=resample, seed=draw)
    written = varied.space.sample(draw, index)
    for attempt, step in enumerate(steps):
        before, sequence = written, Sequence.of(written, STEPS)
        written = varied.vary(before, step, index, attempt=attempt, afresh=afresh)
        assert written == varied.vary(before, step, index, attempt=attempt, afresh=afresh)
        assert written["layers"] == before["layers"]
        assert Sequence.of(written, STEPS).agreement(sequence) >= step
        for name, point in varied.in_force(written).items():
            assert varied.space.domain(name).has(point)
            if isinstance(written[name], dict) and not varied.space.domain(name).has(written[name]):
                for _, entry in written[name]["piecewise"]:
                    assert varied.space.domain(name).has(entry)


def test_attempts_and_seeds_differ() -> None:
    varied, other = explorer(MIXED, resample=0.3), explorer(MIXED, resample=0.3, seed=1)
    start = varied.space.sample(0, 0)
    found = [varied.vary(start, 40, 9, attempt=attempt) for attempt in range(8)]
    found += [varied.vary(start, 40, 10), other.vary(start, 40, 9)]
    assert len({str(written) for written in found}) == len(found)
