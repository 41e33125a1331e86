"""Prefix-first draws: new trials that share their beginning with what is trained or planned.

A new trial *branches late*, with a stated probability: it is an earlier trial with another draw in
one place, so it shares all steps before that place takes effect. Otherwise it is a fresh draw, with
few values for each range so that values coincide. Either way there are several candidates, and one
is chosen with probability proportional to (1 / marginal cost)^weight.

The marginal cost is the steps that a candidate adds to those of the study's earlier trials, each as
far as it was asked to go when it was suggested. So it depends on the points alone: not on what is
measured or stored, on results, or on whether trials are merged, and a study draws alike wherever
and however it is trained.

This biases the draw, on purpose: what takes effect late is explored more than what matters from
step 0 on. The share of fresh draws bounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

from hippo.model import PrefixFirst, Sequence, Space, canonical_json
from hippo.model.spaces.sampling import below, unit
from hippo.model.words import counted
from hippo.plan import SearchPlan

Point = dict[str, Any]
Draw = Callable[[int], Point]
"""The attempt-th fresh draw for the trial at hand; IndexError if there are no more."""

PATIENCE = 8
"""Draws per candidate that may turn out to be known, before fewer candidates will do."""


class PrefixFirstDraws:
    """Knows the points that were suggested, and chooses among candidates for the next one.

    A choice is a function of the settings and of what was suggested so far; it changes nothing.
    """

    def __init__(self, settings: PrefixFirst, space: Space, seed: int, steps: int) -> None:
        """``steps``: the study's."""
        self._settings = settings
        self._space = space
        self._seed = seed
        self._steps = steps
        self._asked = SearchPlan("prefix-first")  # every point, as far as it was first asked to go
        self._points: list[Point] = []
        self._known: set[str] = set()
        self.passed = 0
        """So many of a finite space's plain draws, from the first on, were suggested already."""

    def suggested(self, point: Point, steps: int) -> None:
        """The next trial has this point, and is to go so far at first."""
        self._asked.insert(Sequence.of(point, steps))
        self._points.append(point)
        self._known.add(canonical_json(point))
        size = self._space.size
        while size is not None and self.passed < size and self._is_known(self.passed):
            self.passed += 1

    def choose(self, draw: Draw) -> tuple[Point, str]:
        """The next point, and how it came to be chosen. Never one that was suggested before, unless
        draws yield nothing else.
        """
        candidates = self._candidates(draw)
        costs = [self.marginal_steps(point) for point, _ in candidates]
        chosen = _pick(costs, self._settings.weight, self._position)
        point, origin = candidates[chosen]
        among = f"one of {len(costs)} candidates" if len(costs) > 1 else "the only candidate"
        adding = counted(costs[chosen], "step")
        return point, f"{origin}; {among}, adding {adding} (the least: {min(costs):,})"

    def marginal_steps(self, point: Point) -> int:
        """Steps that a trial of this point, trained in full, adds to what was asked for so far."""
        return self._steps - self._asked.find(Sequence.of(point, self._steps))[1]

    @property
    def _position(self) -> float:
        return unit(self._seed, len(self._points), "prefix-first")

    def _is_known(self, index: int) -> bool:
        return canonical_json(self._space.sample(self._seed, index)) in self._known

    def _candidates(self, draw: Draw) -> list[tuple[Point, str]]:
        """Different points with their origins, none of them suggested; at least one."""
        branches_late = unit(self._seed, len(self._points), "late") < self._settings.late
        found = self._branches() if branches_late else {}
        return list((found or self._fresh(draw)).values())

    def _fresh(self, draw: Draw) -> dict[str, tuple[Point, str]]:
        """Plain draws with the numbers of ranges brought to a few levels, unless these are used up.

        Goes on in a finite space until it finds something; elsewhere it may have to repeat a point.
        """
        settings = self._settings
        found: dict[str, tuple[Point, str]] = {}
        last: Point = {}
        for attempt, last in enumerate(_draws(draw)):
            for point in (self._space.quantized(last, settings.levels), last):
                text = canonical_json(point)
                if text not in self._known and text not in found:
                    found[text] = point, "a fresh draw"
                    break
            is_enough = found or self._space.size is None
            if len(found) == settings.candidates or (
                is_enough and attempt >= PATIENCE * settings.candidates
            ):
                break
        return found or {"": (last, "a repeated draw")}

    def _branches(self) -> dict[str, tuple[Point, str]]:
        """Points of earlier trials with another draw in one place."""
        settings, trial = self._settings, len(self._points)
        found: dict[str, tuple[Point, str]] = {}
        for attempt in range(PATIENCE * settings.candidates if trial else 0):
            index = trial + (attempt << 40)
            base = below(self._seed, index, "base", trial)
            point = self._space.redraw(
                self._points[base], self._seed, index, levels=settings.levels
            )
            text = canonical_json(point)
            if text not in self._known:
                found.setdefault(text, (point, f"trial {base} with another value in one place"))
            if len(found) == settings.candidates:
                break
        return found


def _draws(draw: Draw) -> Iterator[Point]:
    for attempt in count():
        try:
            yield draw(attempt)
        except IndexError:
            return


def _pick(costs: list[int], weight: float, position: float) -> int:
    """The index of a candidate, by weight.

    A candidate that adds nothing would tell nothing new; it is taken only if all are like that.
    """
    least = min((cost for cost in costs if cost > 0), default=0)
    if weight == 0 or not least:
        return min(int(position * len(costs)), len(costs) - 1)
    shares = [(least / cost) ** weight if cost > 0 else 0.0 for cost in costs]
    rest = position * sum(shares)
    for index, share in enumerate(shares):
        rest -= share
        if rest < 0:
            return index
    return max(range(len(costs)), key=shares.__getitem__)
