"""The canonical form of one hyper-parameter: runs that depend on its values, not on its writing.

Pieces are cut again, from step 0 on. At step s, if a function that holds nearby gives the values on
at least nine steps from s, then a *long run* of that function begins at s and goes on for as long
as the function gives the values. Otherwise the value at s is a run of its own, a *literal*. The
functions are tried in this order: a constant, a triangle wave whose last two periods have been
seen, then the pieces' own functions by family and name. All this looks at values only, so two ways
to write the same values give the same runs; and at nothing before s but the wave's two periods, so
that runs of sequences that part later are equal before.

``digest(t)`` is a chained hash over the runs below t. The last one is cut at t; if eight steps or
fewer are left of it, they count as literals. So a cosine and a constant that both begin at 0.1 have
equal digests at 1, and sequences of which one is about to leave the other do until it has left.

Equal digests always mean equal values. The converse ends where rounding makes different functions
agree on more than eight steps without being constant there, and where more than eight steps in a
row are written one by one although a formula would give them.
"""

from __future__ import annotations

from bisect import bisect_left
from hashlib import sha256
from typing import Final

from hippo.model.sequences.functions import Constant, Cyclic, Function, constant_until
from hippo.model.sequences.numbers import Cell, cell_text
from hippo.model.sequences.pieces import Pieces

SHORT: Final = 8
"""Runs up to this length are written as literals."""

MAX_FOUND_CONSTANTS: Final = 1_000
"""Constant runs up to which a function so slow that it rounds to a constant is seen as one. Bounds
the runs of a function that changes less than once in nine steps."""

MAX_COINCIDENCES: Final = 64
"""Values of two different functions that are compared one by one before a run is ended."""

_EMPTY: Final = sha256(b"hippo runs 1").digest()


_RUNS_BYTES, _RUN_BYTES, _FUNCTION_BYTES = 2000, 120, 200
"""Memory of a hyper-parameter, of each run, and of each function beside its token."""

MAX_ASKED = 64
"""So many digests within runs are remembered for each schedule."""


class Runs:
    """Canonical runs of one hyper-parameter on [0, horizon), with its pieces; immutable."""

    __slots__ = ("__weakref__", "_asked", "digests", "ends", "functions", "horizon", "pieces")

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        self.horizon = pieces.horizon
        self.ends: tuple[int, ...]
        self.functions: tuple[Function | None, ...]
        """By run; None: a literal."""
        if (
            pieces.horizon > SHORT
            and type(pieces.functions[0]) is Constant
            and len(pieces.ends) == 1
        ):
            self.ends, self.functions = pieces.ends, pieces.functions
        else:
            cutter = _Cutter(pieces)
            self.ends, self.functions = tuple(cutter.ends), tuple(cutter.functions)
        digests = [_EMPTY]
        start = 0
        for end, function in zip(self.ends, self.functions, strict=True):
            digests.append(self._extend(digests[-1], function, start, end))
            start = end
        self.digests = tuple(digests)
        """By number of runs hashed."""
        self._asked: dict[int, bytes] = {}  # digests at steps within a run: plans ask at few steps

    @property
    def size(self) -> int:
        """Bytes that it takes, or a bit more."""
        functions = sum(_FUNCTION_BYTES + 2 * len(f.token) for f in self.pieces.functions)
        return _RUNS_BYTES + functions + _RUN_BYTES * len(self.ends)

    def at(self, step: int) -> Cell:
        """The value at a step."""
        return self.pieces.at(step)

    def digest(self, step: int) -> bytes:
        """Names the values on [0, step); 0 <= step <= horizon. Logarithmic in the runs."""
        known = self._asked.get(step)
        if known is not None:
            return known
        index = bisect_left(self.ends, step)
        start = self.ends[index - 1] if index else 0
        if step == self.ends[index]:
            return self.digests[index + 1]
        digest = self._extend(self.digests[index], self.functions[index], start, step)
        if len(self._asked) < MAX_ASKED:
            self._asked[step] = digest
        return digest

    def _extend(self, digest: bytes, function: Function | None, start: int, end: int) -> bytes:
        if function is None or end - start <= SHORT:
            for step in range(start, end):
                cell = self.at(step) if function is None else function.at(step)
                digest = sha256(digest + b"=" + cell_text(cell).encode()).digest()
            return digest
        return sha256(digest + f"{start} {end} {function.token}".encode()).digest()

    def agreement(self, other: Runs) -> int:
        """The greatest t up to which all digests are equal. Logarithmic in the runs."""
        limit = min(self.horizon, other.horizon)
        if self is other or self.digests[-1] == other.digests[-1]:
            return limit
        low, high = 0, min(len(self.ends), len(other.ends))  # the first run that differs
        while low < high:
            middle = (low + high) // 2
            if self.digests[middle + 1] == other.digests[middle + 1]:
                low = middle + 1
            else:
                high = middle
        if low == min(len(self.ends), len(other.ends)):
            return limit
        start = self.ends[low - 1] if low else 0
        mine, theirs = self.functions[low], other.functions[low]
        if mine is not None and theirs is not None and mine.token == theirs.token:
            return min(self.ends[low], other.ends[low])
        for step in range(start, min(start + SHORT, limit)):
            if self.at(step) != other.at(step):
                return step
        return min(start + SHORT, limit)


class _Cutter:
    """Cuts pieces into runs."""

    def __init__(self, pieces: Pieces) -> None:
        self._pieces = pieces
        self.ends: list[int] = []
        self.functions: list[Function | None] = []
        self._waves = any(isinstance(function, Cyclic) for function in pieces.functions)
        self._constants = 0
        step = 0
        while step < pieces.horizon:
            function, end = self._run(step)
            self.ends.append(end)
            self.functions.append(function)
            step = end

    def _run(self, step: int) -> tuple[Function | None, int]:
        pieces = self._pieces
        needed = step + SHORT + 1
        if needed > pieces.horizon:
            return None, step + 1
        index = pieces.index_at(step)
        own = pieces.functions[index]
        constant = own if type(own) is Constant else self._found_constant(own, step, index)
        if constant is not None:
            end = self._follow(constant, step, index)
            if end >= needed:
                self._constants += 1
                return constant, end
        candidates, waves = self._candidates(step, index, needed)
        for wave in waves:
            if step >= 2 * wave.period:
                end = self._follow(wave, step - 2 * wave.period)
                if end >= needed:
                    return wave, end
        last = pieces.at(needed - 1)
        for function in candidates:
            if function.at(needed - 1) != last:
                continue
            end = self._follow(function, step, index)
            if end >= needed:
                return function, end
        return None, step + 1

    def _found_constant(self, own: Function, step: int, index: int) -> Constant | None:
        """A constant that a function may look like once rounded."""
        if self._constants >= MAX_FOUND_CONSTANTS:
            return None
        cell = own.at(step)
        if step + 1 < self._pieces.ends[index] and own.at(step + 1) != cell:
            return None
        return Constant(cell)

    def _candidates(self, step: int, index: int, until: int) -> tuple[list[Function], list[Cyclic]]:
        """Elementary functions and waves that hold somewhere on [step, until), in order."""
        pieces = self._pieces
        found: dict[str, Function] = {}
        waves: dict[str, Cyclic] = {}
        while step < until:
            function = pieces.functions[index]
            if type(function) is Cyclic:
                waves[function.token] = function
            part, end = function.part(step)
            if type(part) is not Constant:
                found[part.token] = part
            step = pieces.ends[index] if end is None else min(end, pieces.ends[index])
            if step == pieces.ends[index]:
                index += 1

        def order(function: Function) -> tuple[int, str]:
            return function.rank, function.token

        return sorted(found.values(), key=order), sorted(waves.values(), key=order)

    def _follow(self, function: Function, step: int, index: int | None = None) -> int:
        """The first step from ``step`` on at which the function does not give the value."""
        pieces = self._pieces
        if index is None:
            index = pieces.index_at(step)
        coincidences = MAX_COINCIDENCES
        while index < len(pieces.ends):
            own, piece_end = pieces.functions[index], pieces.ends[index]
            if own.token == function.token:
                step = piece_end
            while step < piece_end:
                mine, my_end = function.part(step)
                theirs, their_end = own.part(step)
                end = min(e for e in (my_end, their_end, piece_end) if e is not None)
                if mine.token == theirs.token:
                    step = end
                    continue
                if coincidences == 0 or mine.at(step) != theirs.at(step):
                    return step
                coincidences -= 1
                step = min(constant_until(mine, step, end), constant_until(theirs, step, end))
            index += 1
        return pieces.horizon
