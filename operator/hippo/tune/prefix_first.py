"""Prefix-first draws: new trials that share a prefix with trained or planned ones.

With a given probability, a new trial *branches late*: it is an earlier trial with one place drawn
again, so it shares all steps before that place takes effect. Otherwise it is a fresh draw, with few
values per range so that values coincide. Either way there are several candidates, and one is chosen
with probability proportional to (1 / marginal cost)^weight.

The marginal cost is the number of steps that a candidate adds to the study's earlier trials, each
counted as far as it was first asked to go. It depends only on the points: not on measurements, the
store, results, or merging. So a study draws the same trials wherever and however it is trained.

This biases the draw on purpose: late changes are explored more than values that matter from step 0.
The share of fresh draws bounds the bias.
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
"""Returns the attempt-th fresh draw for the next trial; IndexError if there are no more."""

PATIENCE = 8
"""Draws per candidate before fewer candidates are accepted."""


class PrefixFirstDraws:
    """Knows the points suggested so far, and chooses the next one among candidates.

    A choice depends only on the settings and on earlier suggestions, and changes nothing.
    """

    def __init__(self, settings: PrefixFirst, space: Space, seed: int, steps: int) -> None:
        """``steps`` is the study's."""
        self._settings = settings
        self._space = space
        self._seed = seed
        self._steps = steps
        self._asked = SearchPlan("prefix-first")  # every point, up to its first target
        self._points: list[Point] = []
        self._known: set[str] = set()
        self.passed = 0
        """Number of leading plain draws of a finite space that were all suggested already."""

    def suggested(self, point: Point, steps: int) -> None:
        """Records that the next trial has this point and is first asked to reach ``steps``."""
        self._asked.insert(Sequence.of(point, steps))
        self._points.append(point)
        self._known.add(canonical_json(point))
        size = self._space.size
        while size is not None and self.passed < size and self._is_known(self.passed):
            self.passed += 1

    def choose(self, draw: Draw) -> tuple[Point, str]:
        """Returns the next point and the reason for its choice.

        The point was not suggested before, unless draws yield nothing else.
        """
        candidates = self._candidates(draw)
        costs = [self.marginal_steps(point) for point, _ in candidates]
        chosen = _pick(costs, self._settings.weight, self._position)
        point, origin = candidates[chosen]
        among = f"one of {len(costs)} candidates" if len(costs) > 1 else "the only candidate"
        adding = counted(costs[chosen], "step")
        return point, f"{origin}; {among}, adding {adding} (the least: {min(costs):,})"

    def marginal_steps(self, point: Point) -> int:
        """Returns the steps that this point, trained in full, adds to what was asked for so far."""
        return self._steps - self._asked.find(Sequence.of(point, self._steps))[1]

    @property
    def _position(self) -> float:
        return unit(self._seed, len(self._points), "prefix-first")

    def _is_known(self, index: int) -> bool:
        return canonical_json(self._space.sample(self._seed, index)) in self._known

    def _candidates(self, draw: Draw) -> list[tuple[Point, str]]:
        """Returns distinct new points with their origins; at least one."""
        branches_late = unit(self._seed, len(self._points), "late") < self._settings.late
        found = self._branches() if branches_late else {}
        return list((found or self._fresh(draw)).values())

    def _fresh(self, draw: Draw) -> dict[str, tuple[Point, str]]:
        """Returns plain draws, with the numbers of ranges quantized unless those are used up.

        In a finite space it continues until it finds a new point; elsewhere it may repeat one.
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
        """Returns points of earlier trials with one place drawn again."""
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
    """Returns the index of a candidate, drawn by weight.

    A candidate that adds no steps yields no information; it is taken only if all are like that.
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
