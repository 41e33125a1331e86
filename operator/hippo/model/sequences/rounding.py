"""Correct rounding: the double nearest to an exactly known number, ties to even.

Ratios of integers are left to Python, whose true division of ints rounds correctly. Powers and
cosines are first enclosed in an interval; if both ends round to the same double, it is the result,
otherwise the interval is narrowed. (Ziv's strategy: A. Ziv, "Fast evaluation of elementary
mathematical functions with correctly rounded last bit", ACM TOMS 17(3), 1991.)

Results are never -0.0. Overflow gives an infinity; the caller must exclude it beforehand.
"""

from __future__ import annotations

import decimal
from functools import lru_cache

_SMALL_POWER = 48
"""Exponent up to which exact integers are as fast as an enclosure."""

_CONTEXTS = tuple(
    decimal.Context(
        prec=digits,
        Emin=decimal.MIN_EMIN,
        Emax=decimal.MAX_EMAX,
        rounding=decimal.ROUND_HALF_EVEN,
        traps=[],
    )
    for digits in (50, 120)
)
"""Precisions of successive enclosures of a power; exact integers are used after the last one."""

_GUARD = 4
"""Trailing decimal digits of an enclosure that are not trusted."""


def nearest_ratio(numerator: int, denominator: int) -> float:
    """Returns numerator / denominator, with denominator > 0."""
    try:
        return numerator / denominator + 0.0  # -0.0 + 0.0 is 0.0
    except OverflowError:
        return float("inf") if numerator > 0 else float("-inf")


def nearest_power(top: int, bottom: int, base_top: int, base_bottom: int, exponent: int) -> float:
    """Returns (top / bottom) * (base_top / base_bottom) ** exponent, with positive denominators.

    The base is not 0 and has at most 50 decimal digits. The time hardly grows with the exponent.
    """
    if abs(exponent) > _SMALL_POWER:
        for context in _CONTEXTS:
            raised = context.power(_decimal(base_top, base_bottom), abs(exponent))
            if exponent > 0:
                value = context.divide(context.multiply(raised, top), bottom)
            else:
                value = context.divide(top, context.multiply(raised, bottom))
            slack = value.scaleb(_GUARD - context.prec, context)
            low = float(context.subtract(value, slack))
            if low == float(context.add(value, slack)):
                return low + 0.0
    # An exact tie has few bits and thus a small power; everything else was settled above.
    if exponent < 0:
        base_top, base_bottom, exponent = base_bottom, base_top, -exponent
    top, bottom = top * base_top**exponent, bottom * base_bottom**exponent
    return nearest_ratio(top, bottom) if bottom > 0 else nearest_ratio(-top, -bottom)


@lru_cache(maxsize=1 << 10)
def _decimal(top: int, bottom: int) -> decimal.Decimal:
    return _CONTEXTS[0].divide(decimal.Decimal(top), decimal.Decimal(bottom))


def nearest_cosine(middle: int, swing: int, bottom: int, top: int, half: int) -> float:
    """Returns (middle + swing * cos(pi * top / half)) / bottom, with half > 0 and bottom > 0.

    For rational q, cos(pi q) is rational only if it is 0, 1/2 or 1 up to sign (Niven). Those values
    are computed as ratios; every other value is irrational, so narrowing terminates.
    """
    angle = top % (2 * half)
    if angle > half:
        angle = 2 * half - angle
    if 2 * angle > half:
        angle, swing = half - angle, -swing
    if angle == 0 or swing == 0:
        return nearest_ratio(middle + swing, bottom)
    if 2 * angle == half:
        return nearest_ratio(middle, bottom)
    if 3 * angle == half:
        return nearest_ratio(2 * middle + swing, 2 * bottom)
    bits = 128
    while True:
        cosine = _cosine(angle, half, bits)
        scaled = middle << bits
        low = nearest_ratio(scaled + swing * (cosine - bits), bottom << bits)
        high = nearest_ratio(scaled + swing * (cosine + bits), bottom << bits)
        if low == high:
            return low
        bits *= 2


def _cosine(top: int, half: int, bits: int) -> int:
    """Returns cos(pi * top / half) * 2 ** bits for 0 < top / half < 1/2, off by less than ``bits``.

    The Taylor series has fewer than bits / 3 terms, each off by less than two.
    """
    angle = pi_times(bits) * top // half
    square = angle * angle >> bits
    term = total = 1 << bits
    n, sign = 0, 1
    while term:
        n += 2
        sign = -sign
        term = (term * square >> bits) // (n * (n - 1))
        total += sign * term
    return total


@lru_cache(maxsize=16)
def pi_times(bits: int) -> int:
    """Returns pi * 2 ** bits, off by less than one (Machin, 1706: 16 atan(1/5) - 4 atan(1/239))."""
    spare = bits + 16

    def arctangent_of_inverse(x: int) -> int:
        power = (1 << spare) // x
        total, n, sign = power, 1, 1
        while power:
            power //= x * x
            n += 2
            sign = -sign
            total += sign * (power // n)
        return total

    return (16 * arctangent_of_inverse(5) - 4 * arctangent_of_inverse(239)) >> 16
