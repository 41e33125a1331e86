"""Keys and agreement, compared with values computed step by step."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings

from hippo.model import Sequence
from tests import strategies
from tests.unit.model import oracle

STEPS = 120


def keys_agree(one: Sequence, other: Sequence) -> int:
    """Returns the greatest t up to which keys are equal, checking each step, and that none is equal
    later.
    """
    steps = range(1, min(one.steps, other.steps) + 1)
    equal = [one.key(t, "s") == other.key(t, "s") for t in steps]
    count = equal.index(False) if False in equal else len(equal)
    assert not any(equal[count:]), "keys are equal again after they differed"
    return count


def check_pair(one: Any, other: Any, steps: int, other_steps: int) -> None:
    mine, theirs = Sequence.of({"x": one}, steps), Sequence.of({"x": other}, other_steps)
    expected = oracle.first_difference(oracle.values(one, steps), oracle.values(other, other_steps))
    assert mine.agreement(theirs) == expected, (one, other)
    assert theirs.agreement(mine) == expected
    assert keys_agree(mine, theirs) == expected
    if steps == other_steps:
        assert (mine == theirs) == (expected == steps)


def check_random_pairs(seed: int, count: int) -> None:
    rng = random.Random(seed)
    writer = strategies.Writer(rng)
    mixed = strategies.Writer(rng, plain=(True, 1, "1", [1], False, 0))
    for _ in range(count):
        by = rng.choice([writer, writer, mixed])
        one = by.written()
        other = by.related(one) if rng.random() < 0.75 else by.written()
        check_pair(one, other, STEPS, rng.choice([STEPS, STEPS, 70]))


@pytest.mark.slow
def test_sequences_agree_as_long_as_their_values_do() -> None:
    check_random_pairs(1, 300)


@pytest.mark.slow
def test_thousands_of_sequences_agree_as_long_as_their_values_do() -> None:
    check_random_pairs(2, 4_000)


@pytest.mark.slow
@settings(max_examples=30)
@given(strategies.related_schedules())
def test_related_schedules(written: list[Any]) -> None:
    for one in written:
        check_pair(written[0], one, STEPS, STEPS)


NEAR = (0.1, 0.10000000000000002, 0.1000000000000001, 5e-324, 1e-323, 1e-320, 0.0, 1e308, -0.1, 1)
SLOW = (0.5, 0.9999999999999999, 1.0000000000000002, -0.5, 0.1, 1e-300, 0.999999999999)


@pytest.mark.slow
def test_rounding_never_makes_different_values_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strategies, "NUMBERS", NEAR)
    monkeypatch.setattr(strategies, "GAMMAS", SLOW)
    monkeypatch.setattr(strategies, "COUNTS", (1, 2, 3, 10, 40, 100, 300, 10**6, 10**9))
    check_random_pairs(3, 120)


def cosine(initial: float, steps: int) -> Any:
    return {"cosine": {"initial": initial, "final": 0.0, "steps": steps}}


def warmup(steps: int, to: float, then: Any) -> Any:
    return {"warmup": {"from": 0.0, "steps": steps, "to": to, "then": then}}


WAVE = {"cyclic": {"low": 0.001, "high": 0.1, "up": 20, "down": 20}}
UP = {"linear": {"initial": 0.001, "final": 0.1, "steps": 20}}
DOWN = {"linear": {"initial": 0.1, "final": 0.001, "steps": 20}}
DECAY = {"exponential": {"initial": 0.1, "gamma": 0.5}}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (0.1, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [60]}}, 60),
        (0.1, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [0]}}, 0),
        (0.1, cosine(0.1, 120), 1),
        (warmup(5, 0.1, 0.1), warmup(5, 0.1, {"piecewise": [[0, 0.1], [30, 1]]}), 35),
        (warmup(5, 0.1, 0.1), warmup(5, 0.1, cosine(0.1, 115)), 6),
        (warmup(5, 0.1, 0.1), warmup(10, 0.2, 0.2), 6),
        (WAVE, UP, 21),
        (WAVE, {"piecewise": [[0, UP], [20, DOWN], [40, WAVE]]}, 5000),
        (WAVE, {"piecewise": [[0, WAVE], [40, WAVE], [80, WAVE], [200, WAVE]]}, 5000),
        (WAVE, {"piecewise": [[0, WAVE], [30, WAVE]]}, 30),
        (WAVE, {"piecewise": [[0, WAVE], [3000, 0.001]]}, 3001),
        (DECAY, {"piecewise": [[0, DECAY], [1500, 0.0]]}, 5000),
        (DECAY, {"piecewise": [[0, DECAY], [1500, 0.0], [4000, 0.1]]}, 4000),
        (
            DECAY,
            {"piecewise": [[0, DECAY], [3, {"exponential": {"initial": 0.0125, "gamma": 0.5}}]]},
            5000,
        ),
        (cosine(0.1, 5000), {"piecewise": [[0, cosine(0.1, 5000)], [4999, 0.7]]}, 4999),
        (
            {"polynomial": {"initial": 1.0, "final": 0.0, "steps": 100, "power": 2}},
            {
                "piecewise": [
                    [0, {"polynomial": {"initial": 1.0, "final": 0, "steps": 100, "power": 2}}],
                    [50, {"polynomial": {"initial": 0.25, "final": 0, "steps": 50, "power": 2}}],
                ]
            },
            5000,
        ),
        # changes by less than a double's spacing at a step: constants for a while
        ({"linear": {"initial": 0.1, "final": 0.10000000000000002, "steps": 4000}}, 0.1, 2499),
        (True, 1, 0),
        ("1", 1, 0),
        ([1], [1.0], 5000),
    ],
)
def test_known_agreements(one: Any, other: Any, expected: int) -> None:
    mine, theirs = Sequence.of({"x": one}, 5000), Sequence.of({"x": other}, 5000)
    assert mine.agreement(theirs) == theirs.agreement(mine) == expected
    values = zip(*[[s.values(t)["x"] for t in range(5000)] for s in (mine, theirs)], strict=True)
    same = [oracle.same(*pair) for pair in values]
    assert (same.index(False) if False in same else 5000) == expected
    for step in {1, 8, 9, expected, expected + 1, 5000} - {0, 5001}:
        assert (mine.key(step, "s") == theirs.key(step, "s")) == (step <= expected)


def test_several_hyperparameters_agree_as_long_as_all_do() -> None:
    one = Sequence.of({"a": 1, "b": {"piecewise": [[0, 1], [30, 2]]}}, 100)
    other = Sequence.of({"a": {"piecewise": [[0, 1], [20, 2]]}, "b": 1}, 100)
    assert one.agreement(other) == 20
    assert keys_agree(one, other) == 20
    assert one.agreement(Sequence.of({"a": 1}, 100)) == 0
    assert one.agreement(Sequence.of({"a": 1, "c": 1}, 100)) == 0


def test_keys_name_signature_step_and_hyperparameter() -> None:
    sequence = Sequence.of({"a": 1, "b": 2}, 100)
    key = sequence.key(50, "s")
    assert len(key) == 40
    assert int(key, 16) >= 0
    assert key == Sequence.of({"b": 2, "a": 1.0}, 70).key(50, "s")
    others = [sequence.key(51, "s"), sequence.key(50, "t"), Sequence.of({"a": 1}, 99).key(50, "s")]
    others.append(Sequence.of({"a": 2, "b": 1}, 100).key(50, "s"))
    assert key not in others


def test_keys_stay_what_they_are() -> None:
    """Stores outlive releases: a change here makes every stored result unreachable."""
    written = {
        "lr": warmup(5, 0.1, cosine(0.1, 115)),
        "momentum": 0.9,
        "nesterov": True,
        "wave": WAVE,
        "decay": DECAY,
        "power": {"polynomial": {"initial": 1, "final": 0.1, "steps": 50, "power": 3}},
    }
    sequence = Sequence.of(written, 120)
    assert [sequence.key(step, "signature") for step in (3, 60, 120)] == KEYS


KEYS = [
    "ef5781df509af175d318cf5b2983f05a7746793d",
    "c74cd1235ec2c647d19f540cb92a241d07213ce8",
    "66319127d49d6295746e8b200d5ac5f108cc8280",
]
