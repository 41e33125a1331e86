"""Canonical names of functions, and how long a value lasts."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model.sequences.functions import (
    Affine,
    Constant,
    Cosine,
    Cyclic,
    Function,
    Geometric,
    Power,
    constant_until,
)


def test_a_geometric_function_has_one_name_wherever_it_begins() -> None:
    one = Geometric(Fraction("0.1"), Fraction("0.5"), 0)
    assert one == Geometric(Fraction("0.0125"), Fraction("0.5"), 3)
    assert one == Geometric(Fraction("0.4"), Fraction("0.5"), -2)
    assert one != Geometric(Fraction("0.0125"), Fraction("0.5"), 2)
    assert Geometric(Fraction(12), Fraction(6), 1) == Geometric(Fraction(2), Fraction(6), 0)
    assert Geometric(Fraction("0.1"), Fraction(-1), 0) == Geometric(
        Fraction("-0.1"), Fraction(-1), 5
    )
    assert Geometric(Fraction("0.1"), Fraction(-1), 0) != Geometric(
        Fraction("-0.1"), Fraction(-1), 4
    )
    for t in range(-5, 30):
        assert one.at(t) == Geometric(Fraction("0.0125"), Fraction("0.5"), 3).at(t)


def test_a_large_prime_factor_is_no_obstacle() -> None:
    g = Fraction(2**31 - 1)
    assert Geometric(Fraction(1), g, 0) == Geometric(g, g, 1)


def test_a_cosine_has_one_name_whichever_way_it_runs() -> None:
    assert Cosine(Fraction(1), Fraction(2), 10, 0) == Cosine(Fraction(1), Fraction(-2), 10, 10)
    assert Cosine(Fraction(1), Fraction(2), 10, 3) == Cosine(Fraction(1), Fraction(2), 10, 43)
    assert Cosine(Fraction(1), Fraction(2), 10, 0) != Cosine(Fraction(1), Fraction(2), 10, 10)


def test_a_wave_has_one_name_in_every_period() -> None:
    assert Cyclic(Fraction(0), Fraction(1), 3, 4, 0) == Cyclic(Fraction(0), Fraction(1), 3, 4, 14)
    assert Cyclic(Fraction(0), Fraction(1), 3, 4, 0) == Cyclic(Fraction(1), Fraction(0), 4, 3, 3)


def test_the_parts_of_a_wave_are_the_wave() -> None:
    wave = Cyclic(Fraction(1), Fraction(3), 3, 4, 2)
    step = -20
    while step < 40:
        part, end = wave.part(step)
        assert end is not None
        assert end > step
        for t in range(step, end + 1):
            assert part.at(t) == wave.at(t)
        step = end


FUNCTIONS: list[Function] = [
    Constant(1.0),
    Affine(Fraction(1), Fraction("1e-17")),
    Affine(Fraction(1), Fraction("-1e-18")),
    Power(Fraction(1), Fraction("1e-18"), 60, 2),
    Power(Fraction(1), Fraction("1e-20"), 60, 3),
    Power(Fraction(1), Fraction("-1e-22"), 60, 4),
    Geometric(Fraction(1), Fraction("0.5"), -1000),
    Geometric(Fraction(1), Fraction("-0.5"), -1020),
    Geometric(Fraction("1e-323"), Fraction("0.97"), 0),
    Geometric(Fraction("1e-323"), Fraction("1.5"), 0),
    Cosine(Fraction(1), Fraction("1e-15"), 70, 13),
    Cyclic(Fraction(1), Fraction("1.000000000000001"), 50, 31, 7),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.token)
def test_how_long_a_value_lasts(function: Function) -> None:
    limit = 160
    values = [function.at(t) for t in range(limit)]
    for step in range(limit):
        end = step + 1
        while end < limit and values[end] == values[step]:
            end += 1
        assert constant_until(function, step, limit) == end


# A power of two times a number with fifteen digits: the origin moves by hundreds of steps.
LONG = (Fraction("1e300"), Fraction("123456789012345.5"))


def test_names_are_of_bounded_length_and_still_one_for_each_function() -> None:
    c, g = LONG
    function, moved = Geometric(c, g, 3), Geometric(c * g**2, g, 5)
    assert function.token == moved.token
    assert len(function.token) < 1000
    others = [Geometric(c + 1, g, 3), Geometric(-c, g, 3), Geometric(c, g, 4), Geometric(c, -g, 3)]
    assert len({function.token, *(other.token for other in others)}) == 5


@pytest.mark.slow
@given(
    st.fractions(max_denominator=10**6).filter(bool),
    st.integers(-4400, 4400).filter(lambda digits: abs(digits) < 4290),
)
def test_names_that_there_were_before_stay(number: Fraction, digits: int) -> None:
    """Tokens are part of content keys, so they must never change."""
    number *= Fraction(10) ** digits
    prime_to_two = Fraction(3, 2)  # its origin stays where it is, if c has no power of two
    shift = Geometric(number, prime_to_two, 0).token.split()[-1]
    expected = number / prime_to_two ** -int(shift)
    if max(expected.numerator.bit_length(), expected.denominator.bit_length()) < 14_000:
        assert Geometric(number, prime_to_two, 0).token == f"geometric 3/2 {expected} {shift}"
