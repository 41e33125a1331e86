"""A hyper-parameter as consecutive pieces, each one function of the step."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

from hippo.model.bounds import MAX_PIECES
from hippo.model.sequences.functions import Function
from hippo.model.sequences.numbers import Cell


class TooManyPiecesError(ValueError):
    """A schedule has more than MAX_PIECES pieces."""


class PieceBuilder:
    """Collects pieces from left to right, merging neighbours with the same function."""

    __slots__ = ("ends", "functions")

    def __init__(self) -> None:
        self.ends: list[int] = []
        self.functions: list[Function] = []

    def append(self, function: Function, end: int) -> None:
        """Appends a function that holds from the end of the previous piece up to ``end``."""
        if self.ends and self.ends[-1] >= end:
            return
        if self.functions and self.functions[-1].token == function.token:
            self.ends[-1] = end
            return
        if len(self.ends) == MAX_PIECES:
            raise TooManyPiecesError
        self.ends.append(end)
        self.functions.append(function)


class Pieces:
    """The pieces of one hyper-parameter on [0, horizon). Immutable."""

    __slots__ = ("ends", "functions", "horizon")

    def __init__(self, ends: tuple[int, ...], functions: tuple[Function, ...]) -> None:
        self.ends = ends
        self.functions = functions
        self.horizon = ends[-1]

    def index_at(self, step: int) -> int:
        """Returns the index of the piece at a step."""
        return bisect_right(self.ends, step)

    def start(self, index: int) -> int:
        return self.ends[index - 1] if index else 0

    def at(self, step: int) -> Cell:
        """Returns the value at a step."""
        return self.functions[bisect_right(self.ends, step)].at(step)

    def __iter__(self) -> Iterator[tuple[int, int, Function]]:
        start = 0
        for end, function in zip(self.ends, self.functions, strict=True):
            yield start, end, function
            start = end
