"""Parsed schedules, and the pieces that each expands to.

Expanding is exact: a node appends the pieces on [begin, end) if its step 0 is ``begin``. It raises
TooManyPiecesError, or OverflowError for a value beyond the largest double.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction
from math import isinf

from hippo.model.bounds import MAX_PIECES
from hippo.model.sequences.functions import (
    Affine,
    Constant,
    Cosine,
    Cyclic,
    Function,
    Geometric,
    Power,
)
from hippo.model.sequences.pieces import PieceBuilder, TooManyPiecesError
from hippo.model.sequences.rounding import nearest_ratio


class Node(ABC):
    """A value or a schedule."""

    __slots__ = ()

    @abstractmethod
    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        """Appends the pieces on [begin, end), which is not empty."""

    def overflows(self, length: int) -> bool:
        """Whether expanding over ``length`` steps (at least one) would raise OverflowError.

        Cheap: only powers grow, and a growing power is largest at its last step.
        """
        return False


@dataclass(frozen=True, slots=True)
class Plain(Node):
    function: Constant

    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        pieces.append(self.function, end)


def _constant(value: Fraction) -> Constant:
    return Constant(nearest_ratio(value.numerator, value.denominator))


def _grows_too_far(c: Fraction, g: Fraction, exponent: int) -> bool:
    return c != 0 and abs(g) > 1 and isinf(Geometric(c, g, 0).at(exponent))


def _geometric(pieces: PieceBuilder, c: Fraction, g: Fraction, begin: int, end: int) -> None:
    if c == 0 or g == 1:
        pieces.append(_constant(c), end)
    elif g == 0:
        pieces.append(_constant(c), min(begin + 1, end))
        pieces.append(_constant(g), end)
    else:
        function = Geometric(c, g, begin)
        if isinf(function.at(end - 1)):
            raise OverflowError
        pieces.append(function, end)


@dataclass(frozen=True, slots=True)
class Step(Node):
    initial: Fraction
    gamma: Fraction
    every: int

    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        c, g, every = self.initial, self.gamma, self.every
        if every == 1 or c == 0 or g in (0, 1):
            if g == 0:
                pieces.append(_constant(c), min(begin + every, end))
                begin += every
                c = g
            if begin < end:
                _geometric(pieces, c, g, begin, end)
            return
        geometric = Geometric(c, g, 0)
        count = -((begin - end) // every)
        if isinf(geometric.at(count - 1)):
            raise OverflowError
        for k in range(count):
            value = geometric.at(k)
            if k > 4 * MAX_PIECES:
                raise TooManyPiecesError
            if value == 0.0:
                pieces.append(Constant(0.0), end)
                return
            pieces.append(Constant(value), min(begin + (k + 1) * every, end))

    def overflows(self, length: int) -> bool:
        return _grows_too_far(self.initial, self.gamma, -(-length // self.every) - 1)


@dataclass(frozen=True, slots=True)
class Multistep(Node):
    initial: Fraction
    gamma: Fraction
    milestones: tuple[int, ...]

    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        value, start = self.initial, 0
        geometric = Geometric(value, self.gamma, 0) if value != 0 and self.gamma != 0 else None
        for k, until in enumerate((*self.milestones, end - begin)):
            if start >= end - begin:
                break
            if geometric is None:
                constant = _constant(Fraction(0) if k else value)
            else:
                cell = geometric.at(k)
                if isinf(cell):
                    raise OverflowError
                constant = Constant(cell)
            if until > 0:
                pieces.append(constant, min(begin + until, end))
            start = until

    def overflows(self, length: int) -> bool:
        taken = bisect_left(self.milestones, length)
        return _grows_too_far(self.initial, self.gamma, taken)


@dataclass(frozen=True, slots=True)
class Exponential(Node):
    initial: Fraction
    gamma: Fraction

    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        _geometric(pieces, self.initial, self.gamma, begin, end)

    def overflows(self, length: int) -> bool:
        return _grows_too_far(self.initial, self.gamma, length - 1)


@dataclass(frozen=True, slots=True)
class Ramp(Node):
    """From ``initial`` to ``final`` in ``steps``, followed by ``then``, or by ``final`` for ever.

    The ramp follows 1 - (1 - t / steps)^power, or half a cosine if power is None.
    """

    initial: Fraction
    final: Fraction
    steps: int
    power: int | None = 1
    then: Node | None = None

    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        arrival = begin + self.steps
        pieces.append(self._ramp(begin), min(arrival, end))
        if arrival >= end:
            return
        if self.then is None:
            pieces.append(_constant(self.final), end)
        else:
            self.then.expand(pieces, arrival, end)

    def overflows(self, length: int) -> bool:
        rest = length - self.steps
        return self.then is not None and rest > 0 and self.then.overflows(rest)

    def _ramp(self, begin: int) -> Function:
        initial, final, steps, power = self.initial, self.final, self.steps, self.power
        if initial == final or steps == 1:
            return _constant(initial)
        if power is None:
            return Cosine((initial + final) / 2, (initial - final) / 2, steps, begin)
        if power == 1:
            slope = (final - initial) / steps
            return Affine(initial - slope * begin, slope)
        return Power(final, (initial - final) / Fraction(-steps) ** power, begin + steps, power)


@dataclass(frozen=True, slots=True)
class Wave(Node):
    low: Fraction
    high: Fraction
    up: int
    down: int

    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        if self.low == self.high:
            pieces.append(_constant(self.low), end)
        else:
            pieces.append(Cyclic(self.low, self.high, self.up, self.down, begin), end)


@dataclass(frozen=True, slots=True)
class Piecewise(Node):
    starts: tuple[int, ...]
    nodes: tuple[Node, ...]

    def expand(self, pieces: PieceBuilder, begin: int, end: int) -> None:
        for index, (start, node) in enumerate(zip(self.starts, self.nodes, strict=True)):
            if begin + start >= end:
                break
            last = index + 1 == len(self.starts)
            until = end if last else min(begin + self.starts[index + 1], end)
            node.expand(pieces, begin + start, until)

    def overflows(self, length: int) -> bool:
        ends = (*self.starts[1:], length)
        return any(
            node.overflows(min(end, length) - start)
            for node, start, end in zip(self.nodes, self.starts, ends, strict=True)
            if start < length
        )
