"""The canonical form of a hyper-parameter: runs that depend only on its values.

Pieces are recut from step 0. At step s, if a function that occurs nearby gives the values on at
least nine steps from s, a *long run* of that function begins at s and extends for as long as the
function gives the values. Otherwise the value at s is a run of its own, a *literal*. The functions
are tried in this order: a constant, a triangle wave whose last two periods lie before s, then the
pieces' own functions by family and name. The cut depends only on values, so two notations of the
same values give the same runs. Apart from the wave's two periods it does not depend on anything
before s, so sequences that diverge later have equal runs until then.

``digest(t)`` is a chained hash over the runs below t. The last run is cut at t; if eight steps or
fewer of it remain, they count as literals. Hence a cosine and a constant that both begin at 0.1
have equal digests at 1, and digests of two sequences are equal up to the step at which their values
diverge.

Equal digests always mean equal values. The converse fails in two cases: if rounding makes different
functions agree on more than eight steps without being constant there, and if more than eight
consecutive values are written one by one although a formula would give them.
"""

from __future__ import annotations

from bisect import bisect_left
from hashlib import sha256
from typing import Final

from hippo.model.sequences.functions import Constant, Cyclic, Function, constant_until
from hippo.model.sequences.numbers import Cell, cell_text
from hippo.model.sequences.pieces import Pieces

SHORT: Final = 8
"""Runs up to this length are hashed as literals."""

MAX_FOUND_CONSTANTS: Final = 1_000
"""Number of constant runs after which a function that changes so slowly that it rounds to a
constant is no longer recognised as constant. Bounds the runs of a function that changes less than
once in nine steps."""

MAX_COINCIDENCES: Final = 64
"""Values of two different functions that are compared one by one before a run is ended."""

_EMPTY: Final = sha256(b"hippo runs 1").digest()


_RUNS_BYTES, _RUN_BYTES, _FUNCTION_BYTES = 2000, 120, 200
"""Memory of a hyper-parameter, of each run, and of each function without its token."""

MAX_ASKED = 64
"""Digests within runs that are remembered per schedule."""


class Runs:
    """Canonical runs of one hyper-parameter on [0, horizon), with its pieces. Immutable."""

    __slots__ = ("__weakref__", "_asked", "digests", "ends", "functions", "horizon", "pieces")

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces
        self.horizon = pieces.horizon
        self.ends: tuple[int, ...]
        self.functions: tuple[Function | None, ...]
        """Function of each run; None for a literal."""
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
        """Digest by number of runs hashed."""
        self._asked: dict[int, bytes] = {}  # digests at steps within a run: plans ask for few steps

    @property
    def size(self) -> int:
        """Upper estimate of its memory in bytes."""
        functions = sum(_FUNCTION_BYTES + 2 * len(f.token) for f in self.pieces.functions)
        return _RUNS_BYTES + functions + _RUN_BYTES * len(self.ends)

    def at(self, step: int) -> Cell:
        """Returns the value at a step."""
        return self.pieces.at(step)

    def digest(self, step: int) -> bytes:
        """Returns the digest of the values on [0, step); 0 <= step <= horizon.

        Takes logarithmic time.
        """
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
        """Returns the greatest t up to which all digests are equal, in logarithmic time."""
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
        """Returns a constant if the function looks constant at ``step`` once rounded, else None."""
        if self._constants >= MAX_FOUND_CONSTANTS:
            return None
        cell = own.at(step)
        if step + 1 < self._pieces.ends[index] and own.at(step + 1) != cell:
            return None
        return Constant(cell)

    def _candidates(self, step: int, index: int, until: int) -> tuple[list[Function], list[Cyclic]]:
        """Returns elementary functions and waves that occur on [step, until), in order."""
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
        """Returns the first step from ``step`` on at which the function does not give the value."""
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
