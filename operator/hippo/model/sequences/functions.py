"""The functions of the step that schedules are made of, each with a canonical name.

Every function is defined for all integers t, so it can be followed beyond its own piece. ``token``
names it canonically: two functions have equal tokens exactly if they are equal as functions of real
numbers, before rounding. Among the functions that users can write, two with different tokens agree
on a handful of consecutive steps at most: they satisfy linear recurrences of small orders p and q,
and two such functions that agree on p + q steps agree everywhere. Only rounding can extend the
agreement (see ``canonical``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from fractions import Fraction
from hashlib import sha256
from typing import Final

from hippo.model.sequences.numbers import Cell, cell_text
from hippo.model.sequences.rounding import nearest_cosine, nearest_power, nearest_ratio

MAX_DIGITS: Final = 4300
"""Decimal digits of an integer in a token; longer integers are replaced by a hash. Python refuses
to format longer integers by default."""


class Function(ABC):
    """A function of the step. Immutable."""

    __slots__ = ("token",)
    token: str
    rank = 0
    """Precedence of the family if several functions give the same values; lower goes first."""

    @abstractmethod
    def at(self, step: int) -> Cell:
        """Returns the value at a step, rounded once."""

    def monotone_until(self, step: int) -> int | None:
        """Returns a later step up to which (inclusive) values are monotone; None for ever."""
        return None

    def part(self, step: int) -> tuple[Function, int | None]:
        """Returns an elementary function equal to this from ``step`` to an end (None for ever)."""
        return self, None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Function) and self.token == other.token

    def __hash__(self) -> int:
        return hash(self.token)

    def __repr__(self) -> str:
        return f"<{self.token}>"


class Constant(Function):
    __slots__ = ("cell",)

    def __init__(self, cell: Cell) -> None:
        self.cell = cell
        self.token = "constant " + cell_text(cell)

    def at(self, step: int) -> Cell:
        return self.cell


class Affine(Function):
    """a + b t, with b not 0."""

    __slots__ = ("bottom", "constant", "slope")
    rank = 2

    def __init__(self, a: Fraction, b: Fraction) -> None:
        self.bottom = a.denominator * b.denominator
        self.constant = a.numerator * b.denominator
        self.slope = b.numerator * a.denominator
        self.token = f"affine {a} {b}"

    def at(self, step: int) -> float:
        return nearest_ratio(self.constant + self.slope * step, self.bottom)


class Power(Function):
    """a + b (t - vertex)^power, with b not 0 and power at least 2."""

    __slots__ = ("bottom", "constant", "factor", "power", "vertex")
    rank = 3

    def __init__(self, a: Fraction, b: Fraction, vertex: int, power: int) -> None:
        self.bottom = a.denominator * b.denominator
        self.constant = a.numerator * b.denominator
        self.factor = b.numerator * a.denominator
        self.vertex = vertex
        self.power = power
        self.token = f"power {power} {vertex} {a} {b}"

    def at(self, step: int) -> float:
        raised = (step - self.vertex) ** self.power
        return nearest_ratio(self.constant + self.factor * raised, self.bottom)

    def monotone_until(self, step: int) -> int | None:
        return self.vertex if self.power % 2 == 0 and step < self.vertex else None


class Geometric(Function):
    """c g^(t - origin), with c not 0 and g not 0 or 1; both have finite decimals."""

    __slots__ = ("base", "factor", "origin")
    rank = 4

    def __init__(self, c: Fraction, g: Fraction, origin: int) -> None:
        self.factor, self.base, self.origin = c, g, origin
        # Moving the origin by one multiplies c by g. The valuation at a prime of g picks one (c,
        # origin) of all pairs that describe the same function.
        shift = 0
        if abs(g) != 1:
            prime = _prime_of(g)
            shift = _valuation(c, prime) // _valuation(g, prime)
        elif g == -1:
            shift = origin
        self.token = f"geometric {g} {_text_of(c / g**shift)} {origin - shift}"

    def at(self, step: int) -> float:
        c, g = self.factor, self.base
        return nearest_power(
            c.numerator, c.denominator, g.numerator, g.denominator, step - self.origin
        )

    def monotone_until(self, step: int) -> int | None:
        if self.base > 0 or (self.base > -1 and self.at(step) == 0.0):
            return None
        return step + 1


def _text_of(number: Fraction) -> str:
    """Returns a unique text of bounded length for a number: str() if that is short enough."""
    parts = (number.numerator, number.denominator)
    texts = [str(part) if abs(part) < _TOO_LONG else _hash_of(part) for part in parts]
    return "/".join(texts if number.denominator != 1 else texts[:1])


_TOO_LONG = 10**MAX_DIGITS


def _hash_of(integer: int) -> str:
    return f"sha256:{sha256(f'{integer:x}'.encode()).hexdigest()}"


def _prime_of(g: Fraction) -> int:
    """Returns a prime that divides a decimal number's numerator or denominator."""
    if g.denominator != 1:
        return 2 if g.denominator % 2 == 0 else 5
    n = abs(g.numerator)
    for candidate in range(2, 1 << 12):
        if candidate * candidate > n:
            break
        if n % candidate == 0:
            return candidate
    # It may be composite, but none of its primes divides a decimal's denominator, which suffices.
    return n


def _valuation(x: Fraction, prime: int) -> int:
    top, bottom, count = x.numerator, x.denominator, 0
    while top % prime == 0:
        top //= prime
        count += 1
    while bottom % prime == 0:
        bottom //= prime
        count -= 1
    return count


class Cosine(Function):
    """middle + swing cos(pi (t - origin) / half), with swing not 0."""

    __slots__ = ("bottom", "half", "middle", "origin", "swing")
    rank = 5

    def __init__(self, middle: Fraction, swing: Fraction, half: int, origin: int) -> None:
        if swing < 0:
            swing, origin = -swing, origin + half
        origin %= 2 * half
        self.half, self.origin = half, origin
        self.bottom = middle.denominator * swing.denominator
        self.middle = middle.numerator * swing.denominator
        self.swing = swing.numerator * middle.denominator
        self.token = f"cosine {half} {origin} {middle} {swing}"

    def at(self, step: int) -> float:
        return nearest_cosine(self.middle, self.swing, self.bottom, step - self.origin, self.half)

    def monotone_until(self, step: int) -> int | None:
        return step + self.half - (step - self.origin) % self.half


class Cyclic(Function):
    """A triangle wave: from low (at ``origin``) to high in ``up`` steps, and back in ``down``."""

    __slots__ = ("_parts", "down", "high", "low", "origin", "up")
    rank = 1

    def __init__(self, low: Fraction, high: Fraction, up: int, down: int, origin: int) -> None:
        if low > high:
            low, high, up, down, origin = high, low, down, up, origin + up
        origin %= up + down
        self.low, self.high, self.up, self.down, self.origin = low, high, up, down, origin
        self._parts: dict[int, Affine] = {}
        self.token = f"cyclic {up} {down} {origin} {low} {high}"

    @property
    def period(self) -> int:
        return self.up + self.down

    def at(self, step: int) -> float:
        low, high = self.low, self.high
        phase = (step - self.origin) % self.period
        if phase <= self.up:
            top, bottom = phase, self.up
        else:
            top, bottom = self.period - phase, self.down
        bottom_low, bottom_high = low.denominator, high.denominator
        # low + (high - low) * top / bottom, over one denominator
        return nearest_ratio(
            low.numerator * bottom_high * (bottom - top) + high.numerator * bottom_low * top,
            bottom_low * bottom_high * bottom,
        )

    def monotone_until(self, step: int) -> int | None:
        phase = (step - self.origin) % self.period
        return step - phase + (self.up if phase < self.up else self.period)

    def part(self, step: int) -> tuple[Function, int | None]:
        phase = (step - self.origin) % self.period
        begin = step - phase
        if phase < self.up:
            start, slope, end = begin, (self.high - self.low) / self.up, begin + self.up
        else:
            start = begin + self.period
            slope, end = (self.low - self.high) / self.down, start
        affine = self._parts.get(end)
        if affine is None:
            affine = Affine(self.low - slope * start, slope)
            if len(self._parts) > 16:
                self._parts.clear()
            self._parts[end] = affine
        return affine, end


def constant_until(function: Function, step: int, limit: int) -> int:
    """Returns the first step after ``step`` with a value that differs, at most ``limit``.

    Takes logarithmic time within a monotone stretch.
    """
    if type(function) is Constant:
        return limit
    value = function.at(step)
    while step + 1 < limit:
        if function.at(step + 1) != value:
            return step + 1
        turn = function.monotone_until(step)
        last = limit - 1 if turn is None else min(turn, limit - 1)
        if function.at(last) == value:
            step = last
            continue
        equal, other = step + 1, last
        while other - equal > 1:
            middle = (equal + other) // 2
            if function.at(middle) == value:
                equal = middle
            else:
                other = middle
        return other
    return limit
