"""Formats values for people: with as many digits as distinguish different values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

DIGITS = 5
MOST_DIGITS = 17
NOISE = 1e-12
"""Relative tolerance within which a float counts as an integer with a rounding error."""

_PLAIN_TEXT = re.compile(r"[A-Za-z_][\w./:+-]*")
_WORDS = {"true", "false", "null", "nan", "inf", "infinity"}


def number(value: float | None, among: Iterable[float | None] = ()) -> str:
    """Format a metric with 5 significant digits, or as many as distinguish it from different
    values.
    """
    if value is None:
        return "-"
    return _format(value, digits_for([value, *among]))


def digits_for(values: Iterable[Any], least: int = DIGITS) -> int:
    """Return how many significant digits, at least ``least``, make different numbers look
    different.
    """
    different = {value for value in values if value is not None and math.isfinite(value)}
    digits = least
    while digits < MOST_DIGITS and len({f"{v:.{digits}g}" for v in different}) < len(different):
        digits += 1
    return digits


def _format(value: float, digits: int) -> str:
    text = f"{value:.{digits}g}"
    while digits < MOST_DIGITS and _seems_whole(value, text):
        digits += 1
        text = f"{value:.{digits}g}"
    return text


def _seems_whole(value: float, text: str) -> bool:
    """Return whether a number would be shown as whole without being so: 0.9999999 is not shown
    as 1.
    """
    return (
        math.isfinite(value)
        and value != float(text)
        and float(text).is_integer()
        and abs(value) < 10**DIGITS
        and abs(value - float(text)) > NOISE * abs(value)
    )


def describe_values(hyperparameters: dict[str, Any]) -> str:
    """Format a trial's hyper-parameters as written, on one line."""
    return "  ".join(
        f"{name}={describe_value(value)}" for name, value in sorted(hyperparameters.items())
    )


def describe_value(value: Any, *, is_within: bool = False) -> str:
    """A value or schedule on one line: ``0.1``, ``cosine(initial 0.1, final 0, steps 20)``.

    Pieces stand with the steps at which they begin, ``0.1@0|0.01@12``; within another schedule in
    parentheses.
    """
    if isinstance(value, dict) and len(value) == 1:
        ((name, settings),) = value.items()
        if name == "piecewise":
            pieces = "|".join(
                f"{describe_value(piece, is_within=True)}@{describe_value(start)}"
                for start, piece in settings
            )
            return f"({pieces})" if is_within else pieces
        if isinstance(settings, dict):
            inner = ", ".join(
                f"{key} {describe_value(item, is_within=True)}" for key, item in settings.items()
            )
            return f"{name}({inner})"
    if isinstance(value, list | tuple):
        return f"[{', '.join(describe_value(item, is_within=True) for item in value)}]"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    if isinstance(value, str):
        is_plain = _PLAIN_TEXT.fullmatch(value) and value.lower() not in _WORDS
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    return json.dumps(value)


def describe_briefly(value: Any, digits: int) -> str:
    """Format one step's value, perhaps of a schedule, without insignificant digits."""
    if isinstance(value, float):
        return f"{value:.{digits}g}"
    return describe_value(value)
