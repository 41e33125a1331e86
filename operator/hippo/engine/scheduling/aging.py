"""Aging: a study that has waited too long precedes all others for a while, so none starves.

Priorities are strict otherwise, so an endless stream of urgent studies would keep the others from
every worker. A study without a worker for ``seconds`` becomes overdue: its tuner may suggest a
trial although no worker is idle, and it gets the next worker, which no higher priority takes away
for a tenth of that time. Thus a waiting study gets at least an eleventh of one worker, and ends.
The study that has waited longest goes first; otherwise a short study would wait behind every longer
one that arrives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import StudyRun

GUARDED_SHARE = 0.1
FIRST_OF_ALL = -1e15
"""A rank before every priority."""


class Aging:
    """Tracks how long studies wait. Times are in seconds of the engine's clock."""

    def __init__(
        self,
        pool: WorkerPool,
        studies: Mapping[str, StudyRun],
        seconds: float,
    ) -> None:
        self._pool = pool
        self._studies = studies
        self._seconds = seconds
        self._due: dict[str, float] = {}  # time at which a waiting study becomes overdue
        self._guarded: dict[str, float] = {}  # end of its protection, by chain
        self._now = 0.0

    def look(self, now: float) -> None:
        """Updates waiting studies and protected chains."""
        self._now = now
        for name, run in self._studies.items():
            if _wants_a_worker(run) and not self._pool.held(name):
                self._due.setdefault(name, now + self._seconds)
            else:
                self._due.pop(name, None)
        if self._guarded:
            self._guarded = {c: until for c, until in self._guarded.items() if until > now}

    def is_overdue(self, study: str) -> bool:
        return self._due.get(study, math.inf) <= self._now

    def next_look(self) -> float:
        """Returns when a study becomes overdue or a protection ends; infinity if never."""
        moments = (*self._due.values(), *self._guarded.values())
        return min((moment for moment in moments if moment > self._now), default=math.inf)

    def rank(self, study: str) -> float:
        """Returns a study's rank, the least first: by priority, unless it is overdue."""
        if self.is_overdue(study):
            return FIRST_OF_ALL + self._due[study]
        return -self._studies[study].study.spec.priority

    def launched(self, chain: str, study: str, sharers: Iterable[str]) -> None:
        """Records that a worker was launched for a study and the others that share it."""
        if self.is_overdue(study):
            self._guarded[chain] = self._now + GUARDED_SHARE * self._seconds
        for name in sharers:
            self._due.pop(name, None)

    def is_guarded(self, chain: str) -> bool:
        """Whether higher priorities may not take the chain's worker yet."""
        return self._guarded.get(chain, self._now) > self._now


def _wants_a_worker(run: StudyRun) -> bool:
    """Whether a study can use a worker; False while it waits for its user's requests."""
    asks = run.tuner.asks_by_itself or run.tuner.awaits_results or not run.is_tuning
    return run.is_active and asks
