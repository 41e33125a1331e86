"""How long a path can wait, so that all work still ends as early as it may.

Estimates of when running paths are done are made again only where something has changed; in between
all that remains shrinks by a second a second.
"""

from __future__ import annotations

from hippo.plan import CostModel, Frontier
from hippo.runs import ChainRun
from hippo.workforce import Workforce


class Laxity:
    """Of one plan. Owns nothing. ``look`` first, then ask about that moment."""

    def __init__(self, frontier: Frontier, workforce: Workforce, costs: CostModel) -> None:
        self._frontier = frontier
        self._workforce = workforce
        self._costs = costs
        self._now = 0.0
        self._workers = 0

    def look(self, now: float, workers: int) -> None:
        self._now, self._workers = now, workers

    def is_critical(self, level: float) -> bool:
        """Whether a waiting path of this length can no longer wait one step."""
        return self._costs.is_known and self.slack(level) <= 0

    def slack(self, level: float) -> float:
        """How many seconds a waiting path of this length can still wait.

        With ``T = max(remaining work / workers, longest running h, start + load + longest waiting
        h)`` it is critical if ``h + start + load + 1 >= T``.
        """
        self._estimate()
        workforce, costs = self._workforce, self._costs
        running = len(workforce.chains)
        work = self._frontier.ready_work + workforce.total - self._now * running
        latest = workforce.latest_moment() - self._now if running else 0.0
        horizon = max(work / max(1, self._workers), latest, costs.switch + level)
        return horizon - (level + costs.switch + costs.mean_step)

    def soonest(self) -> ChainRun:
        """The running chain whose path is the shortest."""
        self._estimate()
        return self._workforce.soonest()

    def left(self, chain: ChainRun) -> float:
        """Estimated seconds of the longest path that begins with a running chain."""
        self._estimate()
        return self._workforce.done_at(chain)[0] - self._now

    def _estimate(self) -> None:
        """When the running chains' paths are done, as far as that may have changed."""
        frontier, workforce = self._frontier, self._workforce
        for claim in sorted(frontier.unsettled, key=lambda claim: claim.name):
            chain = workforce.chains.get(claim.name)
            if chain is not None and chain.claim is claim:
                workforce.expect(chain, self._now + self._remaining(chain))
        frontier.unsettled.clear()
        while workforce.chains:  # whoever would be first may be late
            chain = workforce.soonest()
            moment = self._now + self._remaining(chain)
            if workforce.done_at(chain)[0] >= moment - self._costs.mean_step:
                return
            workforce.expect(chain, moment)

    def _remaining(self, chain: ChainRun) -> float:
        costs, since = self._costs, self._now - chain.step_time
        if not chain.begun:
            coming = max(0.0, costs.switch - since)
            return coming + self._frontier.remaining(chain.claim, chain.step)
        pace = costs.seconds(chain.claim.node.sequence, chain.step, chain.step + 1)
        position = chain.position(self._now, pace)
        into = min(max(0.0, since - (position - chain.step) * pace), pace)
        return self._frontier.remaining(chain.claim, position) - into
