"""Ranks studies and paths: by priority, then fair share; critical paths precede fair share.

Among studies of equal priority, the one with the fewest workers gets the next one. Within a study,
the longest remaining path goes first. A critical path (one without laxity) goes first among equal
priorities; fair share divides the rest. Otherwise fair share would delay all studies.
"""

from __future__ import annotations

from collections.abc import Callable

from hippo.engine.scheduling.aging import Aging
from hippo.engine.scheduling.askers import Askers
from hippo.engine.scheduling.laxity import Laxity
from hippo.engine.scheduling.parallelism import Lending
from hippo.engine.scheduling.queueing import Queue
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun
from hippo.plan import CostModel, Frontier, Head, Pool, Turn

May = Callable[[str], bool]
"""Returns whether a study may have the worker in question."""

Choice = tuple[Head, str]
"""A path to start, and the study that lends the worker for it."""


class FairShare:
    """Ranks studies and waiting paths; changes nothing."""

    def __init__(
        self,
        frontier: Frontier,
        pool: WorkerPool,
        costs: CostModel,
        lending: Lending,
        laxity: Laxity,
        aging: Aging,
        queue: Queue,
        askers: Askers,
    ) -> None:
        self._frontier = frontier
        self._pool = pool
        self._costs = costs
        self._lending = lending
        self._laxity = laxity
        self._aging = aging
        self._queue = queue
        self._askers = askers

    def standing(self, study: str, *, without: ChainRun | None = None) -> Turn:
        """Returns a study's rank and workers, perhaps ``without`` a chain; the least goes first."""
        held = self._pool.held(study)
        if without is not None and study in without.studies:
            held -= 1 / len(without.studies)
        return self._aging.rank(study), held

    def next_path(self, may: May) -> Choice | None:
        """Returns the path to start next: the one by fair share, unless another one is critical."""
        best = self.next_by_share(may)
        if best is None or len(self._frontier.ready_of) < 2:
            return best
        longest = self.next_by_priority(may)
        assert longest is not None
        return longest if self._laxity.is_critical(self._laxity.level(longest[0])) else best

    def next_by_share(self, may: May) -> Choice | None:
        """Returns the longest path of the study that is next by priority and fair share."""
        return self._frontier.best(
            lambda s: self.standing(s) if may(s) and not self._queue.is_behind(s) else None,
            self._weigh,
        )

    def next_by_priority(self, may: May) -> Choice | None:
        """Returns the longest path of the studies that are first by priority alone."""
        rank, is_behind = self._aging.rank, self._queue.is_behind
        return self._frontier.best(
            lambda s: (rank(s),) if may(s) and not is_behind(s) else None, self._weigh
        )

    def find_continuation(self, chain: ChainRun) -> Choice | None:
        """Returns the best path that starts from the state that a waiting worker holds."""
        step = chain.claim.stop_at
        node = chain.claim.node.at(step)
        ready = self._frontier.ready
        numbers = [child.number for child in node.children.values()] if step == node.end else []
        found = [
            (self.standing(study, without=chain), head.order, head, study)
            for n in (node.number, *numbers)
            if (head := ready.get((n, step))) is not None
            for study in self._askers.of_path(head)
            if study == chain.study or self._lending.may_have_another(study, without=chain)
        ]
        return min(found, key=lambda entry: entry[:2])[2:] if found else None

    def has_better_right(self, best: Choice, here: Choice, chain: ChainRun) -> bool:
        """Whether ``best`` should get the chain's worker, instead of the path that starts there."""
        theirs, ours = (self.standing(study, without=chain) for _, study in (best, here))
        if theirs[0] != ours[0]:
            return theirs[0] < ours[0]
        levels = self._laxity.level(best[0]), self._laxity.level(here[0])
        if theirs[1] + 1 <= ours[1] and not self._laxity.is_critical(levels[1]):
            return True
        if levels[0] == levels[1]:  # perhaps set by limits that apply to both
            is_longer = best[0].demand.level > here[0].demand.level + self._costs.switch
        else:
            is_longer = levels[0] > levels[1] + self._costs.switch
        return is_longer and (theirs[1] <= ours[1] or self._laxity.is_critical(levels[0]))

    def _weigh(self, pool: Pool) -> tuple[float, ...]:
        """Sort key: the longest path first; at equal lengths under limits, the fewest studies."""
        if not self._lending.limits:
            return ()
        return -self._laxity.level(pool.best), len(pool.studies)
