"""The cost of reading a space, counted from its text before anything is expanded.

The unit is a piece with one value. A formula costs FORMULA units; a piece so short that its values
are written one by one costs SHORT_PIECE. Counts are upper bounds: equal pieces are counted even if
they are merged later.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hippo.model.bounds import (
    MAX_DIMENSIONS,
    MAX_OPTIONS,
    MAX_PIECES,
    MAX_SEQUENCE_PIECES,
    MAX_SPACE_PIECES,
)
from hippo.model.errors import Problems
from hippo.model.sequences.canonical import SHORT
from hippo.model.sequences.schedule_reader import DOMAIN_KEYS
from hippo.model.spaces.domains import (
    MAX_NEIGHBOURS,
    MAX_REPRESENTATIVES,
    Assembly,
    Choices,
    Fixed,
    Integers,
    Template,
    Uniform,
    template_of,
)

FORMULA = 30
SHORT_PIECE = 4

_UNDERFLOW = 760.0
"""Natural logarithm of the largest double divided by the smallest: e^-745 / 2 rounds to zero."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of one hyper-parameter."""

    pieces: int
    """Pieces of all representatives of the domain and of their neighbours."""
    own_pieces: int
    """Pieces of one trial: those of the longest schedule that contains domains, else 1."""
    longest: int
    """Most pieces in one trial, a formula counted as one."""


@dataclass(slots=True)
class Counts:
    """Options and dimensions of domains, counted as written."""

    options: int = 0
    dimensions: int = 0

    def add(self, written: Any) -> None:
        if isinstance(written, list | tuple):
            for item in written:
                self.add(item)
        elif isinstance(written, Mapping):
            choices = written.get("choices")
            if isinstance(choices, list | tuple):
                self.options += len(choices)
                self.dimensions += len(choices) > 1
                self.add(choices)
            elif DOMAIN_KEYS & written.keys():
                self.dimensions += 1
            else:
                self.add(list(written.values()))


def check_counts(written: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Adds a problem if there are too many choices, hyper-parameters or nested domains to read."""
    if len(written) > MAX_DIMENSIONS:
        message = f"has {len(written):,} hyper-parameters, more than {MAX_DIMENSIONS:,}"
        problems.add(path, f"{message}: put what never varies into trainer.config")
        return
    counts = Counts()
    for domain in written.values():
        counts.add(domain)
    if counts.options > MAX_OPTIONS:
        message = f"has {counts.options:,} choices in all, more than {MAX_OPTIONS:,}"
        problems.add(path, f"{message}: write ranges (int, uniform) in their place")
    if counts.dimensions > MAX_DIMENSIONS:
        message = f"has {counts.dimensions:,} domains with a choice, more than {MAX_DIMENSIONS:,}"
        problems.add(path, f"{message}: leave less open")


def cost_of(domain: Mapping[str, Any], steps: int) -> Cost:
    """Returns the cost of a valid domain over ``steps`` steps."""
    template = template_of(domain)
    if not isinstance(template, Choices):
        return Cost(1, 1, 1)
    pieces, most = 0, 1
    for option, written in zip(template.options, domain["choices"], strict=True):
        each = count_pieces(written, steps)
        points, near = _points(option)
        if isinstance(option, Fixed):
            pieces += each
        else:
            pieces += each * (points + near)
            most = max(most, each)
    longest = max(count_pieces(written, steps, formula=1, short=1) for written in domain["choices"])
    return Cost(pieces, most, longest)


def check_costs(costs: Mapping[str, Cost], path: str, problems: Problems) -> None:
    """Adds a problem if all hyper-parameters together are too expensive to expand."""
    longest = sum(cost.longest for cost in costs.values())
    if longest > MAX_SEQUENCE_PIECES:
        problems.add(
            path,
            f"has up to {longest:,} pieces in one trial, more than {MAX_SEQUENCE_PIECES:,}: let"
            " hyper-parameters change less often",
        )
    pieces = sum(cost.pieces for cost in costs.values())
    if pieces > MAX_SPACE_PIECES:
        worst = max(costs, key=lambda name: costs[name].pieces)
        problems.add(
            f"{path}.{worst}",
            f"has most of the {pieces:,} pieces of the space (a formula counts as {FORMULA}), which"
            f" may be {MAX_SPACE_PIECES:,} in all: list fewer choices, or let them change less"
            " often",
        )


def count_pieces(
    written: Any, steps: int, *, formula: int = FORMULA, short: int = SHORT_PIECE
) -> int:
    """Upper bound of the cost of any point of a valid value, schedule or domain on [0, steps).

    With ``formula`` and ``short`` 1: an upper bound of its pieces, capped at MAX_PIECES + 1.
    """
    most = (MAX_PIECES + 1) * formula

    def count(written: Any, steps: int) -> int:
        if not isinstance(written, Mapping) or steps < 1:
            return 1
        if DOMAIN_KEYS & written.keys():
            options = written.get("choices", ())
            return max((count(option, steps) for option in options), default=1)
        ((kind, body),) = written.items()
        match kind:
            case "step":
                long = not isinstance(body["every"], Mapping) and body["every"] > SHORT
                values = _count_values(body, steps) * (1 if long else short)
                return min(max(values, formula + 1), most)
            case "multistep":
                return min((_count_milestones(body["milestones"]) + 1) * short, most)
            case "cyclic":
                return formula
            case "warmup":
                return min(formula + count(body["then"], steps), most)
            case "piecewise":
                total = 0
                for node, length in _entries(body, steps):
                    each = count(node, length)
                    total += max(each, short) if length <= SHORT else each
                return min(total, most)
            case _:
                return formula + 1

    return count(written, steps)


def _entries(entries: Any, steps: int) -> Iterator[tuple[Any, int]]:
    """Yields each entry that begins before ``steps``, with its length in steps."""
    for index, (start, node) in enumerate(entries):
        if start >= steps:
            return
        last = index + 1 == len(entries)
        yield node, (steps if last else min(int(entries[index + 1][0]), steps)) - int(start)


def _count_values(body: Mapping[str, Any], steps: int) -> int:
    """Number of values of a step schedule; 1 if it is one formula."""
    every = _least_count(body["every"])
    count = -(-steps // every)
    gamma, initial = body["gamma"], body["initial"]
    if isinstance(gamma, Mapping) or isinstance(initial, Mapping):
        return count
    if every == 1 or not initial or gamma in (0, 1):
        return 1
    if abs(gamma) < 1:  # it underflows to zero and stays there
        before = max(math.log(abs(initial)), -_UNDERFLOW) + _UNDERFLOW
        count = min(count, math.ceil(before / -math.log(abs(gamma))) + 2)
    return count


def _least_count(written: Any) -> int:
    """Lower bound of a step count; at least 2 for a domain, since 1 makes a step one formula."""
    if not isinstance(written, Mapping):
        return int(written)
    if "int" in written:
        return max(int(written["int"]["low"]), 2)
    return max(min(map(_least_count, written["choices"])), 2)


def _count_milestones(written: Any) -> int:
    if not isinstance(written, Mapping):
        return len(written)
    return max(map(_count_milestones, written["choices"]))


def _points(template: Template) -> tuple[int, int]:
    """Counts a template's representatives and neighbours without making them."""
    match template:
        case Uniform():
            return 3, 3
        case Integers(size=size):
            return min(3, size), size if size <= MAX_NEIGHBOURS else 3
        case Choices(options=options):
            each = [_points(option) for option in options]
            points = sum(one for one, _ in each)
            return points, points + max(near for _, near in each)
        case Assembly(parts=parts):
            each = [_points(part) for _, part in parts]
            points = math.prod(one for one, _ in each)
            if points > MAX_REPRESENTATIVES:
                points = 1 + sum(one - 1 for one, _ in each)
            return points, sum(near for _, near in each)
        case _:
            return 1, 1
