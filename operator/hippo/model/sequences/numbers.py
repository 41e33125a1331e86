"""Numbers as users mean them: the decimals they wrote, not the nearest binary fractions.

A number is a JSON double. Its *decimal* is the shortest one that reads back as that double, so 0.1
is exactly one tenth here. Schedules are computed from decimals, exactly, and rounded once.

The value of a sequence at one step is a *cell*: a float, or a ``Tagged`` constant. Cells compare as
keys require: ``Tagged(True)`` is not 1.0, although Python's ``True`` equals ``1``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from hippo.model.bounds import LARGEST_INTEGER
from hippo.model.words import with_article

Value = int | float | str | bool | list[Any]
"""Value that a trainer sees; an int exactly if the number is integral."""


class Tagged:
    """A bool, string or list: a constant without arithmetic, compared by its canonical JSON."""

    __slots__ = ("text", "value")

    def __init__(self, value: str | bool | list[Any]) -> None:
        self.value: Value = normalise(value)
        self.text = canonical_json(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Tagged({self.text})"


Cell = float | Tagged

_HUGE_INTEGER = 10**100
"""Integers from here on are described by their bits in messages."""


def exact(number: int | float) -> Fraction:
    """Returns the number's decimal as an exact fraction."""
    return Fraction(number) if isinstance(number, int) else Fraction(repr(float(number)))


def to_value(cell: Cell) -> Value:
    """Converts a cell to the value that a trainer sees."""
    if isinstance(cell, float):
        return int(cell) if cell.is_integer() else cell
    return cell.value


def cell_text(cell: Cell) -> str:
    """Returns a text that is unique to the cell."""
    return repr(cell) if isinstance(cell, float) else "json " + cell.text


def normalise(value: Any) -> Any:
    """Turns integral floats in JSON into ints, at any depth, as the API server does."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list | tuple):
        return [normalise(item) for item in value]
    if isinstance(value, Mapping):
        return {key: normalise(item) for key, item in value.items()}
    return value


def plain(value: Any) -> Any:
    """Returns a deep copy made of dicts and lists."""
    if type(value) in (float, int, str, bool):
        return value
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def canonical_json(value: Any) -> str:
    """Returns the same text for equal JSON documents: sorted keys, no spaces, 1.0 written as 1."""
    return json.dumps(
        normalise(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False
    )


def number_problem(value: Any) -> str | None:
    """Returns why a written value is not a usable number, or None if it is one."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"must be finite, not {value}"
    if isinstance(value, bool) or not isinstance(value, int):
        return f"must be a number, not {describe(value)}"
    if abs(value) > LARGEST_INTEGER:
        return "is beyond 2^53 (9007199254740992), where integers are no longer exact"
    return None


def whole_problem(written: Any, least: int | None, most: int | None = None) -> str | None:
    """Returns why a written value is not an integer within bounds, or None if it is one."""
    problem = number_problem(written)
    if problem is not None:
        return problem
    if written != int(written):
        return f"must be an integer, not {written!r}"
    if least is not None and written < least:
        return f"must be at least {least}"
    if most is not None and written > most:
        return f"must be at most {most}"
    return number_problem(int(written))


def describe(value: Any) -> str:
    """Describes a written value in a few words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {shorten(json.dumps(value, ensure_ascii=False))}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, int) and abs(value) >= _HUGE_INTEGER:
        return f"an integer of {value.bit_length():,} bits"
    if isinstance(value, int | float):
        return shorten(repr(value))
    return with_article(type(value).__name__)


def shorten(text: str, width: int = 40) -> str:
    """Cuts a text to ``width`` characters, for messages."""
    return text if len(text) <= width else text[: width - 3] + "..."
