"""Derived points: quantized, or with one place drawn again."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import Sequence, Space, canonical_json
from hippo.model.spaces.domains import template_of
from tests.strategies import spaces

LOG = {"uniform": {"low": 1e-4, "high": 1.0, "log": True}}
RICH: dict[str, Any] = {
    "lr": {
        "choices": [
            0.1,
            {"multistep": {"initial": LOG, "gamma": {"uniform": {"low": 0.1, "high": 0.5}},
                           "milestones": {"choices": [[30], [40, 60]]}}},
            {"warmup": {"from": 0.0, "steps": {"int": {"low": 1, "high": 40}}, "to": 0.1,
                        "then": {"choices": [0.1, {"step": {"initial": LOG, "gamma": 0.9,
                                                            "every": 9}}]}}},
        ]
    },
    "momentum": {"uniform": {"low": 0.5, "high": 0.99}},
    "optimizer": {"choices": ["sgd", "adam"], "static": True},
    "units": {"int": {"low": 16, "high": 4096, "step": 16, "log": True}},
    "width": {"int": {"low": 1, "high": 5}},
}  # fmt: skip


def is_in(space: dict[str, Any], point: dict[str, Any]) -> bool:
    return point.keys() == space.keys() and all(
        template_of(space[name]).has(value) for name, value in point.items()
    )


def leaves(written: Any, path: str = "") -> dict[str, Any]:
    """The plain values of a point by their place."""
    if isinstance(written, dict):
        items: Any = written.items()
    elif isinstance(written, list):
        items = enumerate(written)
    else:
        return {path: written}
    return {
        place: leaf for key, item in items for place, leaf in leaves(item, f"{path}.{key}").items()
    }


@pytest.mark.slow
@given(st.integers(0, 10**6), st.integers(2, 12))
def test_points_stay_in_the_space(index: int, levels: int) -> None:
    space = Space.of(RICH, 90)
    point = space.draw(7, index)
    coarse = space.quantized(point, levels)
    other = space.redraw(coarse, 7, index, levels=levels)
    for made in (point, coarse, other):
        assert is_in(RICH, made)
    assert space.quantized(coarse, levels) == coarse
    assert space.quantized(other, levels) == other
    changed = {name for name in RICH if other[name] != coarse[name]}
    assert len(changed) <= 1


@pytest.mark.slow
@given(spaces(), st.integers(0, 1000))
def test_finite_spaces_are_left_by_neither(written: dict[str, Any], index: int) -> None:
    space = Space.of(written, 60)
    texts = {canonical_json(point) for point in space.enumerate()}
    point = space.draw(3, index)
    assert space.quantized(point, 4) == point
    assert canonical_json(space.redraw(point, 3, index, levels=4)) in texts


def test_a_redraw_changes_one_place_within_a_schedule() -> None:
    schedule = {
        "linear": {"initial": LOG, "final": {"uniform": {"low": 0, "high": 1e-5}}, "steps": 9}
    }
    space = Space.of({"a": {"choices": [schedule]}}, 90)
    point = space.quantized(space.draw(1, 1), 8)
    changes = Counter[tuple[str, ...]]()
    for index in range(200):
        other = leaves(space.redraw(point, 2, index, levels=8))
        changes[tuple(sorted(k for k, v in leaves(point).items() if other[k] != v))] += 1
    assert set(changes) == {(), (".a.linear.initial",), (".a.linear.final",)}
    assert min(changes[key] for key in changes if key) > 20


def test_a_range_has_so_many_levels_at_equal_distances() -> None:
    space = Space.of({"a": LOG, "b": {"uniform": {"low": -1, "high": 1}}}, 10)
    points = [space.quantized(space.draw(0, index), 4) for index in range(200)]
    assert {point["a"] for point in points} == {0.000316228, 0.00316228, 0.0316228, 0.316228}
    assert {point["b"] for point in points} == {-0.75, -0.25, 0.25, 0.75}


@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ({"low": 1, "high": 4}, {1, 2, 3, 4}),
        ({"low": 1, "high": 40}, {5, 15, 25, 35}),
        ({"low": 10, "high": 100, "step": 10}, {20, 40, 70, 90}),
        ({"low": 1, "high": 10_000, "log": True}, {2, 21, 244, 2900}),
    ],
)
def test_so_have_integers(domain: dict[str, Any], expected: set[int]) -> None:
    space = Space.of({"a": {"int": domain}}, 10)
    points = {space.quantized(space.draw(0, index), 4)["a"] for index in range(300)}
    assert points == expected


@pytest.mark.slow
@pytest.mark.parametrize("is_finite", [True, False])
def test_a_redrawn_draw_is_distributed_like_a_draw(is_finite: bool) -> None:
    """A step of Gibbs sampling; or else weight 0 would not be unbiased.

    Plain draws take all points of a finite space alike, but all choices of one that is not.
    """
    written: dict[str, Any] = {
        "a": {"choices": [1, {"linear": {"initial": {"choices": [2, 3]}, "final": 0, "steps": 4}}]},
        "b": {"choices": [1, 2]},
    }
    if not is_finite:
        written["c"] = LOG
    space = Space.of(written, 10)
    total = 6000
    redrawn = Counter[str]()
    for index in range(total):
        point = space.pick(index % 6) if is_finite else space.draw(5, index)
        for again in range(3):
            point = space.redraw(point, again, index, levels=8)
        redrawn[canonical_json(point["a"])] += 1
    constant = redrawn.pop("1")
    expected = total / 3 if is_finite else total / 2
    assert abs(constant - expected) < 5 * expected**0.5
    for times in redrawn.values():
        assert abs(times - (total - expected) / 2) < 5 * expected**0.5


def test_forks_of_a_small_range_of_integers_are_all_known() -> None:
    """Otherwise states from which later draws branch would not be kept."""
    every = {"int": {"low": 10, "high": 20}}
    space = Space.of(
        {"a": {"choices": [{"step": {"initial": 1, "gamma": 0.5, "every": every}}]}}, 90
    )
    sequence = Sequence.of({"a": {"step": {"initial": 1, "gamma": 0.5, "every": 13}}}, 90)
    assert space.fork_steps(sequence) == (10, 11, 12, 13)
