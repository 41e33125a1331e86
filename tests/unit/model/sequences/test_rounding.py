"""Correct rounding, against exact fractions and mpmath at high precision."""

from __future__ import annotations

import random
from fractions import Fraction

import mpmath
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hippo.model.sequences.rounding import nearest_cosine, nearest_power, nearest_ratio, pi_times

decimals = st.floats(min_value=1e-12, max_value=1e6, allow_nan=False, allow_infinity=False).map(
    lambda x: Fraction(repr(x))
)


def power(c: Fraction, g: Fraction, k: int) -> float:
    return nearest_power(c.numerator, c.denominator, g.numerator, g.denominator, k)


@given(
    decimals,
    st.sampled_from(["0.5", "0.95", "-0.9", "2", "1.0001", "0.999", "3", "-0.1"]),
    st.integers(-400, 1200),
)
@example(Fraction(1), "0.5", 1075)  # half of the least subnormal: a tie, to even
@example(Fraction(3), "0.5", 1075)
@example(Fraction(1), "0.5", 1076)
@example(Fraction(-1), "0.5", 1080)
def test_powers_are_rounded_once(c: Fraction, base: str, k: int) -> None:
    g = Fraction(base)
    exactly = c * g**k
    assert power(c, g, k) == nearest_ratio(exactly.numerator, exactly.denominator)


def test_ties_of_large_powers_go_to_even() -> None:
    half = Fraction(1, 2)
    assert power(Fraction(1), half, 1075) == 0.0
    assert power(Fraction(3), half, 1075) == 2 * 5e-324
    assert power(Fraction(5), half, 1075) == 2 * 5e-324


def test_a_million_steps_of_decay_are_exact() -> None:
    for k in range(1_000_000, 1_000_100):
        assert power(Fraction(1, 10), Fraction("0.95"), k) == 0.0
        assert 4e-6 < power(Fraction(1, 10), Fraction("0.99999"), k) < 5e-6
    with mpmath.workdps(60):
        expected = mpmath.mpf(1) / 10 * (1 - mpmath.mpf(10) ** -5) ** 1_000_000
        assert power(Fraction(1, 10), Fraction("0.99999"), 1_000_000) == float(expected)


def test_zero_has_no_sign() -> None:
    assert str(nearest_ratio(-1, 10**400)) == "0.0"
    assert str(power(Fraction(-1), Fraction(1, 2), 5000)) == "0.0"
    assert str(nearest_cosine(0, -1, 10**400, 1, 5)) == "0.0"


def test_overflow_is_infinite() -> None:
    assert power(Fraction(1), Fraction(2), 5000) == float("inf")
    assert power(Fraction(-1), Fraction(2), 5000) == float("-inf")


@pytest.mark.parametrize("steps", [2, 3, 7, 115, 120, 1000, 10**6, 10**9])
def test_cosines_are_rounded_once(steps: int) -> None:
    rng = random.Random(steps)
    with mpmath.workdps(90):
        for _ in range(60):
            t = rng.choice([rng.randint(-3 * steps, 3 * steps), rng.randint(0, 3), steps - 1])
            middle, swing = rng.choice([(1, 1), (1, -1), (3, 2), (0, 1), (10**6, 1)])
            cosine = mpmath.cospi(mpmath.mpf(t) / steps)
            expected = float((middle + swing * cosine) / mpmath.mpf(20))
            if 2 * t % steps and 3 * t % steps:  # mpmath is not exact where the cosine is
                assert nearest_cosine(middle, swing, 20, t, steps) == expected


def test_rational_cosines_are_exact() -> None:
    for t, cosine in [(0, 2), (20, 1), (30, 0), (40, -1), (60, -2), (80, -1), (90, 0), (100, 1)]:
        for turns in (-120, 0, 1200):
            expected = (2 * 7 + 3 * cosine) / 20
            assert nearest_cosine(7, 3, 10, t + turns, 60) == expected


def test_pi() -> None:
    for bits in (128, 256, 512, 1024):
        with mpmath.workprec(bits + 64):
            assert abs(mpmath.mpf(pi_times(bits)) - mpmath.pi * 2**bits) < 1
