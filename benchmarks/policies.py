"""Other ways to schedule, to hold the engine's own against. They live here only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from hippo.engine.options import LEAST_LAXITY, SchedulingPolicy
from hippo.plan import Frontier, Head, Pool, Turn


@dataclass(slots=True)
class OldestFirst(Frontier):
    """Whatever has been waiting for longest."""

    _waiting: dict[tuple[int, int], int] = field(default_factory=dict)
    _came: count[int] = field(default_factory=count)

    def best(
        self,
        turn: Callable[[str], Turn | None],
        weigh: Callable[[Pool], tuple[float, ...]] = lambda pool: (),
    ) -> tuple[Head, str] | None:
        for place in self.ready:
            self._waiting.setdefault(place, next(self._came))
        ready = [(self._waiting[place], head) for place, head in self.ready.items()]
        for _, head in sorted(ready, key=lambda entry: entry[0]):
            for _, _, study in sorted(head.demand.leads, reverse=True):
                if turn(study) is not None:
                    return head, study
        return None


POLICIES: dict[str, SchedulingPolicy] = {
    "least laxity": LEAST_LAXITY,
    "critical path": SchedulingPolicy(yields=False),
    "first in, first out": SchedulingPolicy(create_frontier=OldestFirst, yields=False),
}
"""Without yielding, a chain that has begun goes on to the end of its path."""
