"""Orders launched workers that lack resources, so that those with the best right go first.

If a quota or the nodes are the limit, fewer workers fit than studies may have. The rest wait in a
queue (a scheduler's, Kueue's) that does not know the studies' priorities. So only workers with the
best right wait there. Others are withdrawn before they begin, are not launched while better ones
wait, and running ones make room for them: at the end of a step, one after the other.

This applies between workers with equal resource requests: what fits one then fits the other, and
none waits for a better one that cannot be placed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from hippo.engine.scheduling.aging import FIRST_OF_ALL, Aging
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun
from hippo.lifecycles import WorkerState

SETTLE_SECONDS = 10.0
"""Seconds after the last worker with a better right was placed before others are launched again."""
ROOM_SECONDS = 15.0
"""Seconds after a worker has stopped before another one stops too: the waiting worker must be
placed, and the room may have gone to others. Doubled each time that the same worker still waits."""
MOST_ROOM_SECONDS = 600.0


_Right = tuple[float, str]
"""A rank, the least first, and the study that lends the worker."""


class Queue:
    """The queue of one plan. Remembers only its recent attempts. Call ``look`` first."""

    def __init__(self, studies: Mapping[str, StudyRun], pool: WorkerPool, aging: Aging) -> None:
        self._studies = studies
        self._pool = pool
        self._aging = aging
        self._queued: list[ChainRun] = []
        self._counts: Counter[_Right] = Counter()  # of the queued chains
        self._recent: dict[_Right, float] = {}  # end of each right that waits, or did recently
        self._now = 0.0
        self._room_at = -math.inf  # no worker stops before
        self._room_for: str | None = None  # the chain for which a worker was last stopped
        self._room_pause = ROOM_SECONDS

    def look(self, now: float) -> None:
        """Updates the time and the waiting workers."""
        self._now = now
        chains, waiting = self._pool.chains, self._pool.queued
        self._queued = [
            chains[name]
            for name in sorted(waiting)
            if name in chains and chains[name].state is WorkerState.LAUNCHED
        ]
        self._counts = Counter((self._rank(chain), chain.study) for chain in self._queued)
        if self._recent:
            self._recent = {right: until for right, until in self._recent.items() if until > now}
        self._recent |= dict.fromkeys(self._counts, now + SETTLE_SECONDS)
        if self._room_for is not None and self._pool.leaving:
            self._room_at = now + self._room_pause  # it counts from when they are gone

    def next_look(self) -> float:
        """Returns when time alone changes something; infinity if never."""
        moments = [self._room_at] if self._queued else self._recent.values()
        return min((moment for moment in moments if moment > self._now), default=math.inf)

    def is_behind(self, study: str) -> bool:
        """Whether this study's worker would take resources that one of better right waits for."""
        if not self._recent:
            return False
        rank = self._aging.rank(study)
        return any(
            theirs < rank and self._need_the_same(lender, study) for theirs, lender in self._recent
        )

    def find_outranked(self) -> list[ChainRun]:
        """Returns waiting workers to withdraw, because better ones wait too."""
        return [chain for chain in self._queued if self._count_better(chain)]

    def find_last(self, *, behind: float) -> ChainRun | None:
        """Returns the waiting worker with the least right if it ranks after ``behind``, or None."""
        waiting = [chain for chain in self._queued if not chain.is_leaving]
        last = max(waiting, key=lambda chain: (self._rank(chain), chain.name), default=None)
        return last if last is not None and self._rank(last) > behind else None

    def is_to_make_room(self, chain: ChainRun) -> bool:
        """Whether a worker at the end of its route should stop rather than continue in place."""
        return self._count_better(chain) > len(self._pool.leaving)

    def find_neediest(self) -> ChainRun | None:
        """Returns the waiting worker for which a running one may be stopped now, or None."""
        if not self._queued or self._pool.leaving or self._now < self._room_at:
            return None
        return min(self._queued, key=lambda chain: (self._rank(chain), chain.name))

    def may_take_room_of(self, chain: ChainRun, other: ChainRun) -> bool:
        """Whether ``chain``, which waits, precedes ``other``, which is running."""
        return self._rank(chain) < self._rank(other) and self._need_the_same(
            chain.study, other.study
        )

    def note_leaving_for(self, chain: ChainRun) -> None:
        """Records that a worker was stopped for a waiting one."""
        is_again = self._room_for == chain.name
        self._room_pause = (
            min(2 * self._room_pause, MOST_ROOM_SECONDS) if is_again else ROOM_SECONDS
        )
        self._room_for, self._room_at = chain.name, self._now + self._room_pause

    def _count_better(self, chain: ChainRun) -> int:
        if not self._counts:
            return 0
        rank = self._rank(chain)
        return sum(
            count
            for (theirs, lender), count in self._counts.items()
            if theirs < rank and self._need_the_same(lender, chain.study)
        )

    def _rank(self, chain: ChainRun) -> float:
        """Returns the best rank of the chain's studies; the least goes first."""
        if self._aging.is_guarded(chain.name):
            return FIRST_OF_ALL
        return min(self._aging.rank(study) for study in chain.studies)

    def _need_the_same(self, study: str, other: str) -> bool:
        ours, theirs = (self._studies[name].study.spec.trainer for name in (study, other))
        return (ours.resources, ours.pod_template) == (theirs.resources, theirs.pod_template)
