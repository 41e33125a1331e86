"""Other ways to schedule, to hold the engine's own against. They live here only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from hippo.engine import Engine
from hippo.engine.scheduling.scheduler import Dispatcher
from hippo.plan import Frontier, Head, Pool, Turn


class NeverYielding(Dispatcher):
    """The longest path first, but whoever has begun goes on to the end of its path."""

    def _consider_yielding(self) -> None:
        pass


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


class CriticalPathEngine(Engine):
    dispatcher_type = NeverYielding


class FifoEngine(Engine):
    dispatcher_type = NeverYielding
    frontier_type = OldestFirst


POLICIES: dict[str, type[Engine]] = {
    "least laxity": Engine,
    "critical path": CriticalPathEngine,
    "first in, first out": FifoEngine,
}
