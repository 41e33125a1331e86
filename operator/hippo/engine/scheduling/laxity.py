"""Laxity: how long a path can wait without delaying the end of all work.

W seconds of work take w workers at least W / w. That is the *horizon* of all work, and there is one
for each closed group of studies at their limits (``parallelism.py``).

Some work is limited to fewer workers: work that only certain studies want can use no more workers
than these may have together. A path's horizon is the longest among such sets of studies. Since all
work of a set waits while it has fewer workers than it may have, it is compared with other work as
one path of that length: it goes first if it is the longest, and work that other studies want too is
left to them. A set that takes longer than all work together is *bound*: it and its workers are
excluded from the common horizon.

Estimates of when running paths end are recomputed only where something has changed; in between,
everything that remains shrinks by a second per second.
"""

from __future__ import annotations

import math

from hippo.engine.scheduling.parallelism import Group, Lending
from hippo.engine.scheduling.worker_pool import Crew, WorkerPool
from hippo.engine.state import ChainRun
from hippo.plan import CostModel, Frontier, Head


class Laxity:
    """The laxities of one plan; owns no state.

    Call ``look`` first, then query about that moment.
    """

    def __init__(
        self, frontier: Frontier, pool: WorkerPool, costs: CostModel, lending: Lending
    ) -> None:
        self._frontier = frontier
        self._pool = pool
        self._costs = costs
        self._lending = lending
        self._now = 0.0
        self._sets: dict[Group, float] | None = None
        """Sets of studies limited to fewer workers than there are, with the seconds that each
        takes."""
        self._pressed: dict[Group, float] = {}

    def look(self, now: float) -> None:
        self._now, self._sets = now, None
        self._pressed.clear()

    def is_critical(self, level: float) -> bool:
        """Whether a waiting path of this length cannot wait one more step."""
        return self._costs.is_known and self.slack(level) <= 0

    def is_vital(self, chain: ChainRun) -> bool:
        """Whether the path of a running chain would be critical if it lost its worker."""
        left = self.left(chain)
        for crew in self._pool.crews((chain.study,)):
            if chain.name in crew.chains:
                left = max(left, self._press(_askers(crew)))
        return self.is_critical(left + self._costs.overheads.save)

    def slack(self, level: float, group: Group | None = None) -> float:
        """Returns the seconds that a waiting path of this length can wait, in a group or overall.

        With ``T = max(remaining work / workers, longest running h, start + load + longest waiting
        h)`` it is critical if ``h + start + load + 1 >= T``.
        """
        self._estimate(group)
        costs = self._costs
        horizon, crews = self._horizon(group)
        latest = max((crew.latest_moment() for crew in crews), default=-math.inf)
        horizon = max(horizon, latest - self._now, costs.switch + level)
        return horizon - (level + costs.switch + costs.mean_step)

    def level(self, head: Head) -> float:
        """Returns the length of a head's path, or of the set of studies it belongs to if longer."""
        return max(head.demand.level, self._press(head.demand.studies))

    def soonest(self, group: Group | None = None) -> tuple[float, ChainRun]:
        """Returns the seconds and the chain of the shortest running path, in a group or overall."""
        self._estimate(group)
        moment, _, chain = self._first(group)
        return moment - self._now, chain

    def left(self, chain: ChainRun) -> float:
        """Returns the estimated seconds of the longest path that begins with a running chain."""
        self._estimate()
        return self._pool.done_at(chain)[0] - self._now

    def soonest_to_stay(self, study: str) -> ChainRun:
        """Returns the chain that will end first among those a study lends that are not stopping."""
        self._estimate()
        chains = self._pool.chains.values()
        staying = (chain for chain in chains if chain.study == study and not chain.is_leaving)
        return min(staying, key=self._pool.done_at)

    # -- horizons ----------------------------------------------------------------------------------

    def _horizon(self, group: Group | None) -> tuple[float, list[Crew]]:
        """Returns work divided by workers, and the crews that are part of this work."""
        pool, lending = self._pool, self._lending
        crews = list(pool.crews(group))
        if group is not None and sum(pool.lent[s] for s in group) < len(pool.chains):
            work = sum(crew.work(self._now) for crew in crews)
            for waiting in self._frontier.pools.values():
                work += waiting.work * len(waiting.studies & group) / max(1, len(waiting.studies))
            return work / max(1, lending.capacity(group)), crews
        workers = max(1, lending.workers if group is None else lending.capacity(group))
        work = self._frontier.ready_work + pool.total - self._now * len(pool.chains)
        bound: set[str] = set()
        sets = self._limited_sets() if group is None else {}
        for studies, seconds in sorted(sets.items(), key=lambda entry: -entry[1]):
            rest = workers - lending.capacity(studies)
            if rest < 1 or seconds <= work / workers:
                break
            if not bound & studies:
                work, workers = work - self._work(studies), rest
                bound |= studies
                crews = [crew for crew in crews if not studies.issuperset(_askers(crew))]
        return work / workers, crews

    def _press(self, askers: Group) -> float:
        """Returns the seconds of the longest limited set with these studies; 0 without one."""
        if not self._lending.limits:
            return 0.0
        sets = self._limited_sets()
        if askers not in self._pressed:
            found = (seconds for studies, seconds in sets.items() if askers <= studies)
            self._pressed[askers] = max(found, default=0.0)
        return self._pressed[askers]

    def _limited_sets(self) -> dict[Group, float]:
        if self._sets is None:
            lending = self._lending
            found = [
                studies
                for studies in {*self._frontier.pools, *map(_askers, self._pool.crews())}
                if studies
                and studies <= lending.limits.keys()
                and lending.capacity(studies) < lending.workers
            ]
            if found:
                self._estimate()
            self._sets = {
                studies: self._work(studies) / lending.capacity(studies)
                for studies in sorted(found, key=sorted)
            }
        return self._sets

    def _work(self, studies: Group) -> float:
        """Returns worker-seconds of the work that only these studies want."""
        waiting = sum(pool.work for asked, pool in self._frontier.pools.items() if asked <= studies)
        crews = self._pool.crews(studies)
        return waiting + sum(crew.work(self._now) for crew in crews if _askers(crew) <= studies)

    # -- estimates ---------------------------------------------------------------------------------

    def _estimate(self, group: Group | None = None) -> None:
        """Updates the estimated ends of running chains' paths where they may have changed."""
        frontier, pool = self._frontier, self._pool
        for claim in sorted(frontier.unsettled, key=lambda claim: claim.name):
            chain = pool.chains.get(claim.name)
            if chain is not None and chain.claim is claim:
                pool.expect(chain, self._now + self._remaining(chain))
        frontier.unsettled.clear()
        while pool.chains:  # the first one may be late
            expected, _, chain = self._first(group)
            moment = self._now + self._remaining(chain)
            if expected >= moment - self._costs.mean_step:
                return
            pool.expect(chain, moment)

    def _first(self, group: Group | None) -> tuple[float, int, ChainRun]:
        crews = self._pool.crews(group)
        found = [soonest for crew in crews if (soonest := crew.soonest()) is not None]
        return min(found, key=lambda entry: entry[:2])

    def _remaining(self, chain: ChainRun) -> float:
        costs, since = self._costs, self._now - chain.step_time
        if not chain.begun:
            coming = max(0.0, costs.switch - since)
            return coming + self._frontier.remaining(chain.claim, chain.step)
        pace = costs.seconds(chain.claim.node.sequence, chain.step, chain.step + 1)
        position = chain.position(self._now, pace)
        into = min(max(0.0, since - (position - chain.step) * pace), pace)
        return self._frontier.remaining(chain.claim, position) - into


def _askers(crew: Crew) -> Group:
    return frozenset(crew.askers or (crew.lender,))
