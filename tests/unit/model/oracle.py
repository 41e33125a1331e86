"""Values step by step, straight from the table of schedules: slow, simple, and independent."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import mpmath


def decimal(number: float) -> Fraction:
    return Fraction(repr(number)) if isinstance(number, float) else Fraction(number)


def half_cosine(t: int, steps: int) -> Fraction:
    """(1 + cos(pi t / steps)) / 2, exact where rational, otherwise to 80 digits."""
    for ratio, cosine in (
        (Fraction(0), 1),
        (Fraction(1, 2), 0),
        (Fraction(1, 3), Fraction(1, 2)),
        (Fraction(2, 3), Fraction(-1, 2)),
    ):
        if Fraction(t, steps) == ratio:
            return (1 + Fraction(cosine)) / 2
    with mpmath.workdps(80):
        x = mpmath.cospi(mpmath.mpf(t) / steps)
        sign, mantissa, exponent, _ = x._mpf_
        irrational: Fraction = (-1) ** sign * mantissa * Fraction(2) ** exponent
        return (1 + irrational) / 2


def exact_value(written: Any, t: int) -> Any:
    """The value at a step: a Fraction, or a constant that is no number."""
    if not isinstance(written, dict):
        number = isinstance(written, int | float) and not isinstance(written, bool)
        return decimal(written) if number else written
    ((kind, body),) = written.items()
    if kind == "piecewise":
        start, item = [entry for entry in body if entry[0] <= t][-1]
        return exact_value(item, t - start)
    n = {key: decimal(item) for key, item in body.items() if isinstance(item, int | float)}
    if kind == "step":
        return n["initial"] * n["gamma"] ** (t // body["every"])
    if kind == "multistep":
        return n["initial"] * n["gamma"] ** sum(1 for m in body["milestones"] if m <= t)
    if kind == "exponential":
        return n["initial"] * n["gamma"] ** t
    if kind == "cyclic":
        phase = t % (body["up"] + body["down"])
        rise = n["high"] - n["low"]
        if phase <= body["up"]:
            return n["low"] + rise * phase / body["up"]
        return n["high"] - rise * (phase - body["up"]) / body["down"]
    if kind == "warmup":
        if t >= body["steps"]:
            return exact_value(body["then"], t - body["steps"])
        return n["from"] + (n["to"] - n["from"]) * t / body["steps"]
    initial, final, steps = n["initial"], n["final"], body["steps"]
    if t >= steps:
        return final
    if kind == "linear":
        return initial + (final - initial) * t / steps
    if kind == "cosine":
        return final + (initial - final) * half_cosine(t, steps)
    assert kind == "polynomial"
    return final + (initial - final) * (1 - Fraction(t, steps)) ** body["power"]


def value(written: Any, t: int) -> Any:
    """Returns the values that the trainer must see at a step."""
    exactly = exact_value(written, t)
    if not isinstance(exactly, Fraction):
        return exactly
    rounded = exactly.numerator / exactly.denominator
    return int(rounded) if rounded == int(rounded) else rounded


def values(written: Any, steps: int) -> list[Any]:
    return [value(written, t) for t in range(steps)]


def same(one: Any, other: Any) -> bool:
    """Compares values; unlike ``==``, it distinguishes True from 1."""
    return repr(one) == repr(other)


def first_difference(one: list[Any], other: list[Any]) -> int:
    """The number of leading steps on which values are the same."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if not same(mine, theirs):
            break
        count += 1
    return count
