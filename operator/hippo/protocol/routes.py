"""A route as a worker uses it: its sequence, its marks, and which routes may follow."""

from __future__ import annotations

from hippo.model import InvalidSpec, Sequence
from hippo.protocol.assignments import Route


class InvalidRoute(Exception):
    """The route cannot be followed. The message is one line."""


class Course:
    """A parsed route. A mark is a step end at which something must be done."""

    def __init__(self, route: Route) -> None:
        """Raises InvalidRoute."""
        try:
            self.sequence = Sequence.of(route.hyperparameters, route.steps)
        except InvalidSpec as error:
            raise InvalidRoute("; ".join(str(error).splitlines())) from None
        if route.stop_at > route.steps:
            raise InvalidRoute(f"stop_at {route.stop_at} lies beyond the {route.steps} steps")
        self.route = route
        self.saves = frozenset(route.save_at)
        self.evaluations = frozenset(route.evaluate_at)
        self.stop_at = route.stop_at
        self._marks = sorted({*route.save_at, *route.evaluate_at, route.stop_at})

    def next_mark(self, step: int) -> int:
        """Returns the first mark after ``step``, at most the end of the route."""
        return next((mark for mark in self._marks if mark > step), self.stop_at)

    def may_follow(
        self, former: Course, step: int, *, saved: set[int], evaluated: set[int]
    ) -> bool:
        """Whether a chain at ``step`` of the former course may continue along this one."""
        asked = [
            *(self.saves - former.saves - saved),
            *(self.evaluations - former.evaluations - evaluated),
        ]
        if any(mark < step for mark in asked):
            return False
        return self.sequence.agreement(former.sequence) >= step
