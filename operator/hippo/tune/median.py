"""The median stopping rule (D. Golovin et al., "Google Vizier", KDD 2017, section 3.2.2).

A trial is stopped at step s if its best objective by step s is strictly worse than the median of
the running averages, up to step s, of the objectives of all completed trials. The median of an even
number is the mean of the middle two.

Completed trials are those trained to the end. A failed or diverged trial counts among them, with an
average worse than any number. A stopped trial does not count, because its further course is
unknown.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from fractions import Fraction

from hippo.model import Median, Study
from hippo.protocol.decisions import Decision
from hippo.tune import reasons
from hippo.tune.ordering import Rank
from hippo.tune.tuner import Tuner

Average = Fraction | float
"""An exact fraction, so that it is independent of summation order; or infinity, the worst."""


def median_of(averages: list[Average]) -> Average:
    """Returns the median of ascending numbers; there must be at least one."""
    middle = len(averages) // 2
    if len(averages) % 2:
        return averages[middle]
    return (averages[middle - 1] + averages[middle]) / 2


class MedianTuner(Tuner):
    """Suggests all trials at once, in full, with reports at the multiples of ``every``.

    Each running trial is judged at its latest report whenever anything new is known. Stops depend
    on the order in which results arrive, so decisions are recorded. Costs are objectives with their
    sign changed so that less is better.
    """

    by_order = "which trials are stopped"

    def __init__(self, study: Study, settings: Median) -> None:
        steps = study.spec.steps
        self._marks = tuple(range(settings.every, steps, settings.every))
        super().__init__(study, rungs=(*self._marks, steps), seed=settings.seed)
        self._min_steps, self._min_trials = settings.min_steps, settings.min_trials
        self._costs: dict[int, dict[int, float]] = {}  # by trial, then by rung
        self._averages: list[list[Average]] = [[] for _ in self._marks]
        """Running averages of the completed trials, ascending, by mark."""
        self._counted: dict[int, list[Average | None]] = {}
        """Entries of a completed trial in ``_averages``."""
        self._under_way: list[list[tuple[float, int]]] = [[] for _ in self._marks]
        """(least cost so far, trial) of the trials whose last report was at the mark, ascending, by
        mark."""
        self._stands: dict[int, tuple[int, tuple[float, int]]] = {}
        """Entry of a running trial in ``_under_way``: (mark, entry)."""

    def decide(self, idle: int) -> list[Decision]:
        new = self._suggestions(self._limit, self.steps)
        return new or [
            Decision(
                index=self._count + offset,
                kind="stop",
                trial=trial,
                steps=self._marks[mark],
                reason=reason,
            )
            for offset, (trial, mark, reason) in enumerate(self._verdicts())
        ]

    @property
    def request_ends(self) -> tuple[int, ...]:
        return (self.steps,)

    def _verdicts(self) -> list[tuple[int, int, str]]:
        """Returns (trial, mark, reason) of each trial to stop, by trial."""
        found = []
        for mark, standing in enumerate(self._under_way):
            averages = self._averages[mark]
            if self._marks[mark] < self._min_steps or len(averages) < self._min_trials:
                continue
            median = median_of(averages)
            for cost, trial in reversed(standing):
                if not cost > median:
                    break
                reason = reasons.behind(
                    best=self._objective(cost),
                    step=self._marks[mark],
                    median=self._objective(float(median)),
                    completed=len(averages),
                )
                found.append((trial, mark, reason))
        return sorted(found)

    def _objective(self, cost: float) -> float:
        return cost if self._goal == "minimize" else -cost

    # -- what is known of each trial ---------------------------------------------------------------

    def _ranked(self, trial: int, rung: int, rank: Rank) -> None:
        failed, cost = rank[:2]
        self._costs.setdefault(trial, {})[rung] = math.inf if failed else cost
        self._place(trial)

    def _halted(self, trial: int) -> None:
        self._place(trial)

    def _place(self, trial: int) -> None:
        """Files a trial as running, completed, or neither, by all that is known of it."""
        self._displace(trial)
        if trial in self._stopped:
            return
        costs = self._costs.get(trial, {})
        if not costs:
            return
        if trial in self._failed:
            self._complete(trial, [math.inf for _ in self._marks])
        elif len(self._marks) in costs:
            self._complete(trial, self._running_averages(costs))
        else:
            entry = (min(costs.values()), trial)
            self._stands[trial] = (max(costs), entry)
            insort(self._under_way[max(costs)], entry)

    def _running_averages(self, costs: dict[int, float]) -> list[Average | None]:
        """Returns the average of all reports up to each mark; None before the first report."""
        total, count = Fraction(0), 0
        averages: list[Average | None] = []
        for mark in range(len(self._marks)):
            if mark in costs:
                total, count = total + Fraction(costs[mark]), count + 1
            averages.append(total / count if count else None)
        return averages

    def _complete(self, trial: int, averages: list[Average | None]) -> None:
        self._counted[trial] = averages
        for standing, average in zip(self._averages, averages, strict=True):
            if average is not None:
                insort(standing, average)

    def _displace(self, trial: int) -> None:
        """Undoes ``_place``."""
        stood = self._stands.pop(trial, None)
        if stood is not None:
            mark, entry = stood
            del self._under_way[mark][bisect_left(self._under_way[mark], entry)]
        averages = self._counted.pop(trial, [None for _ in self._marks])
        for standing, average in zip(self._averages, averages, strict=True):
            if average is not None:
                del standing[bisect_left(standing, average)]
