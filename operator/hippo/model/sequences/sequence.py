"""The hyper-parameter sequence of a trial: every hyper-parameter as a function of the step."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from hashlib import sha256
from types import MappingProxyType
from typing import Any

from hippo.model.bounds import MAX_LABEL, MAX_PIECES, MAX_SEQUENCE_PIECES, MAX_STEPS
from hippo.model.errors import InvalidSpec, Problems
from hippo.model.sequences.canonical import Runs
from hippo.model.sequences.functions import Constant, Function
from hippo.model.sequences.interning import Interned
from hippo.model.sequences.numbers import (
    Value,
    describe,
    number_problem,
    plain,
    shorten,
    to_value,
    whole_problem,
)
from hippo.model.sequences.pieces import PieceBuilder, Pieces, TooManyPiecesError
from hippo.model.sequences.schedule_reader import ScheduleReader
from hippo.model.sequences.schedules import Node

_READER = ScheduleReader()


class Sequence:
    """Values of named hyper-parameters at every step t, 0 <= t < steps. Immutable.

    Two sequences are equal exactly if they have the same names, the same number of steps and the
    same values (as far as ``canonical`` can tell), however they were written.
    """

    __slots__ = ("_runs", "_window", "hyperparameters", "names", "steps")

    names: tuple[str, ...]
    """Names, sorted."""
    steps: int
    hyperparameters: Mapping[str, Any]
    """Hyper-parameters as written."""

    def __init__(
        self, hyperparameters: Mapping[str, Any], steps: int, runs: Mapping[str, Runs]
    ) -> None:
        """Use ``Sequence.of`` instead; ``runs`` must match ``hyperparameters``."""
        self.names = tuple(sorted(runs))
        self.steps = steps
        self.hyperparameters = MappingProxyType(
            {name: plain(written) for name, written in hyperparameters.items()}
        )
        self._runs = tuple(runs[name] for name in self.names)
        self._window: _Window | None = None

    @classmethod
    def of(
        cls, hyperparameters: Mapping[str, Any], steps: int, *, path: str = "hyperparameters"
    ) -> Sequence:
        """Reads what a user or a tuner wrote. Raises InvalidSpec with paths below ``path``."""
        problems = Problems()
        problem = whole_problem(steps, 1, MAX_STEPS)
        if problem is not None:
            raise InvalidSpec.at("steps", problem)
        steps = int(steps)
        if not isinstance(hyperparameters, Mapping):
            raise InvalidSpec.at(path, "must be a mapping of names to values or schedules")
        runs: dict[str, Runs] = {}
        count = 0
        for name, written in hyperparameters.items():
            named = name_problem(name)
            if named is not None:
                problems.add(path, named)
                continue
            if type(written) in (float, int) and number_problem(written) is None:
                runs[name] = _constant_runs(written + 0.0, steps)
                continue
            try:
                runs[name] = runs_of(written, steps, path=f"{path}.{name}")
            except InvalidSpec as error:
                problems.found.extend(error.errors)
                continue
            count += len(runs[name].pieces.ends)
            if count > MAX_SEQUENCE_PIECES:  # checked before more is expanded
                message = f"of a trial have more than {MAX_SEQUENCE_PIECES:,} pieces together"
                raise InvalidSpec.at(path, f"{message}: let them change less often")
        problems.raise_if_any()
        return cls(hyperparameters, steps, runs)

    def runs(self, name: str) -> Runs:
        """Returns the canonical form of one hyper-parameter. Raises KeyError if there is none."""
        if name not in self.names:
            raise KeyError(name)
        return self._runs[self.names.index(name)]

    def values(self, step: int) -> dict[str, Value]:
        """Returns the values that the trainer sees at a step.

        The same dict may be returned for steps with the same values, so callers must not change it.
        Raises IndexError outside 0 <= step < steps.
        """
        window = self._window
        if window is None or not window.start <= step < window.end:
            if not 0 <= step < self.steps:
                raise IndexError(f"step {step} is outside of a sequence of {self.steps} steps")
            window = self._window = _Window(self, step)
        if not window.varying:
            return window.values
        values = window.values.copy()
        for name, at in window.varying:
            values[name] = to_value(at(step))
        return values

    def key(self, step: int, signature: str) -> str:
        """Returns the content key at a step: 40 hex digits that identify everything that training
        up to it depends on.

        ``signature`` is the trainer's. Raises IndexError outside 1 <= step <= steps.
        """
        if not 1 <= step <= self.steps:
            raise IndexError(f"no key at step {step} of a sequence of {self.steps} steps")
        parts = [f"hippo key 1\n{len(signature)} {signature}\n{step}\n".encode()]
        for name, runs in zip(self.names, self._runs, strict=True):
            parts.append(f"{name}\n".encode())
            parts.append(runs.digest(step))
        return sha256(b"".join(parts)).hexdigest()[:40]

    def agreement(self, other: Sequence) -> int:
        """Returns the greatest t, at most both lengths, such that keys are equal up to and at t.

        Returns 0 if they differ from the start or have different hyper-parameters.
        """
        if self.names != other.names:
            return 0
        agreed = min(self.steps, other.steps)
        for mine, theirs in zip(self._runs, other._runs, strict=True):
            if mine is not theirs:
                agreed = min(agreed, mine.agreement(theirs))
                if agreed == 0:
                    break
        return agreed

    def run_starts(self, name: str) -> list[tuple[int, Value]] | None:
        """Returns the (start, value) pairs of a piecewise constant hyper-parameter.

        Returns None if it changes at every step for more than eight steps in a row, as ramps do.
        """
        runs = self.runs(name)
        if any(not isinstance(function, Constant | None) for function in runs.functions):
            return None
        starts: list[tuple[int, Value]] = []
        before = None
        for start in (0, *runs.ends[:-1]):
            cell = runs.at(start)
            if cell != before:
                starts.append((start, to_value(cell)))
            before = cell
        return starts

    def changes(self) -> list[int]:
        """Returns the steps, ascending, at which a hyper-parameter begins another piece: a
        constant, a formula, or a stretch of values that follow neither.
        """
        return sorted({step for runs in self._runs for step in _find_changes(runs)})

    def _identity(self) -> tuple[object, ...]:
        return self.steps, self.names, tuple(runs.digests[-1] for runs in self._runs)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Sequence) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self) -> tuple[Any, ...]:
        return _restored, (dict(self.hyperparameters), self.steps)

    def __repr__(self) -> str:
        return f"Sequence({dict(self.hyperparameters)!r}, steps={self.steps})"


def _restored(hyperparameters: dict[str, Any], steps: int) -> Sequence:
    return Sequence.of(hyperparameters, steps)


def _find_changes(runs: Runs) -> Iterator[int]:
    """Yields changes of one hyper-parameter; equal literals in a row count as a constant."""
    for index, end in enumerate(runs.ends[:-1]):
        if runs.functions[index] is None and runs.functions[index + 1] is None:
            if runs.at(end) == runs.at(end - 1):
                continue
            stood = end > 1 and runs.at(end - 2) == runs.at(end - 1)
            stands = end + 1 < runs.horizon and runs.at(end + 1) == runs.at(end)
            if not (stood or stands):
                continue
        yield end


class _Window:
    """The steps around a given one on which no hyper-parameter begins another piece."""

    __slots__ = ("end", "start", "values", "varying")

    def __init__(self, sequence: Sequence, step: int) -> None:
        self.start, self.end = 0, sequence.steps
        self.values: dict[str, Value] = {}
        self.varying: list[tuple[str, Callable[[int], Any]]] = []
        for name, runs in zip(sequence.names, sequence._runs, strict=True):
            pieces = runs.pieces
            index = bisect_right(pieces.ends, step)
            function: Function = pieces.functions[index]
            self.start = max(self.start, pieces.start(index))
            self.end = min(self.end, pieces.ends[index])
            self.values[name] = to_value(function.at(step))
            if not isinstance(function, Constant):
                self.varying.append((name, function.at))


def name_problem(name: Any) -> str | None:
    """Returns why this cannot name a hyper-parameter, or None if it can."""
    if not isinstance(name, str):
        return f"names of hyper-parameters must be text, not {describe(name)}"
    if len(name) > MAX_LABEL:
        return f"names have at most {MAX_LABEL:,} characters, not {len(name):,}"
    if not (name.isascii() and name.isidentifier()):
        return (
            f"{shorten(repr(name))} cannot name a hyper-parameter; "
            "use letters, digits and underscores, beginning with a letter"
        )
    return None


def runs_of(written: Any, steps: int, *, path: str) -> Runs:
    """Returns the canonical form of one hyper-parameter on [0, steps). Raises InvalidSpec.

    Schedules are interned: equal text gives the identical object.
    """
    if not isinstance(written, Mapping):
        node = read_concrete(written, path)
        return expand(node, steps, path)
    try:
        text = json.dumps(written, sort_keys=True, allow_nan=False)
        return _INTERNED.find(
            text, steps, lambda: expand(read_concrete(json.loads(text), ""), steps, "")
        )
    except (TypeError, ValueError, RecursionError):
        # Not JSON, or invalid: read it again for messages with the right path.
        return expand(read_concrete(written, path), steps, path)


_INTERNED = Interned()


@lru_cache(maxsize=1 << 15)  # each takes about 1 KB
def _constant_runs(cell: float, steps: int) -> Runs:
    return Runs(Pieces((steps,), (Constant(cell),)))


def read_concrete(written: Any, path: str) -> Node:
    """Reads a value or schedule without domains. Raises InvalidSpec."""
    problems = Problems()
    node = _READER.node(written, path, problems)
    problems.raise_if_any()
    assert node is not None
    return node


def grows_beyond(steps: int) -> str:
    """Returns the message for an overflow."""
    return f"grows beyond the largest double within {steps:,} steps"


def expand(node: Node, steps: int, path: str) -> Runs:
    """Expands a node to runs.

    Raises InvalidSpec if there are too many pieces or values overflow.
    """
    builder = PieceBuilder()
    try:
        node.expand(builder, 0, steps)
    except TooManyPiecesError:
        raise InvalidSpec.at(
            path,
            f"has more than {MAX_PIECES:,} pieces within {steps:,} steps; "
            "let it change less often, or use a schedule that changes at every step",
        ) from None
    except OverflowError:
        raise InvalidSpec.at(path, grows_beyond(steps)) from None
    return Runs(Pieces(tuple(builder.ends), tuple(builder.functions)))
