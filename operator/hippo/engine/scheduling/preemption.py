"""Decides which running chains stop, and in favour of which work.

A chain is preempted at a step end only for a critical path (one without laxity), or for a study
with a better right to its worker. Launched chains without resources are withdrawn in favour of
those with a better right; running chains stop for them one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from hippo.engine.commands import Command, WakeAt
from hippo.engine.scheduling.aging import Aging
from hippo.engine.scheduling.fair_share import FairShare
from hippo.engine.scheduling.laxity import Laxity
from hippo.engine.scheduling.parallelism import Group, Lending
from hippo.engine.scheduling.queueing import Queue
from hippo.engine.scheduling.steering import Steering
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun
from hippo.lifecycles import WorkerState
from hippo.plan import CostModel, Frontier

MIN_PAUSE_SECONDS = 0.05
MIN_PAUSE_STEPS = 0.25
"""Preemption is considered at most this often."""

WORTH_SWITCHES = 10.0
"""A chain is preempted for another study only if it would run for longer than this many times the
cost of the switch.
"""

UNKNOWN_SECONDS = 30.0
"""While no step time is known, a chain is preempted only after running for this long."""


class Preemption:
    """Tells chains to stop. Call :meth:`look` first in each round."""

    def __init__(
        self,
        frontier: Frontier,
        pool: WorkerPool,
        costs: CostModel,
        studies: Mapping[str, StudyRun],
        lending: Lending,
        laxity: Laxity,
        aging: Aging,
        queue: Queue,
        shares: FairShare,
        steering: Steering,
        *,
        merge: bool,
        emit: Callable[[Command], None],
    ) -> None:
        """``merge``: False if trials are trained one by one, so that none yields to another."""
        self._frontier = frontier
        self._pool = pool
        self._chains: Mapping[str, ChainRun] = pool.chains
        self._costs = costs
        self._studies = studies
        self._lending = lending
        self._laxity = laxity
        self._aging = aging
        self._queue = queue
        self._shares = shares
        self._steering = steering
        self._merge = merge
        self._emit = emit
        self._wakes_at = 0.0  # the next time to consider preemption, if in the future
        self._now = 0.0
        self._workers = 0

    def look(self, now: float, workers: int) -> None:
        """Sets the time and the number of workers."""
        self._now, self._workers = now, workers

    def keep_within_limits(self) -> None:
        """Stops chains that their studies may not lend, or not any longer."""
        for chain in self._lending.settle(self._frontier.moved):
            self._steering.stop(chain, save=True)
        self._frontier.moved.clear()
        while (study := self._lending.excess()) is not None:
            self._steering.stop(self._laxity.soonest_to_stay(study), save=True)

    # -- yielding to waiting paths -----------------------------------------------------------------

    def yield_workers(self) -> None:
        """If no worker is free, preempts the chain with the shortest path for a critical path.

        This applies to all chains, and to those within a group of studies at its limits.
        """
        if not self._frontier.ready or not self._costs.is_known or not self._workers:
            return
        groups: dict[Group | None, None] = {}
        if self._workers <= len(self._chains):
            groups[None] = None
        has_limits = self._lending.limits and len(self._chains) <= self._workers
        for study, run in self._studies.items() if has_limits else ():
            is_waiting = run.is_active and self._frontier.ready_of[study] > 0
            if is_waiting and (group := self._lending.closed_group(study)) is not None:
                groups[group] = None
        leaving = self._pool.leaving_of
        for group in groups:
            if not any(leaving[study] for study in (leaving if group is None else group)):
                self._yield_within(group)

    def _yield_within(self, group: Group | None) -> None:
        """Considers the chains that a group lends, or all if studies may have another worker."""
        costs, laxity = self._costs, self._laxity
        shortest, victim = laxity.soonest(group)
        may = partial(self._lending.may_have_another, without=victim)
        found, turn = self._shares.next_path(may), self._shares.next_by_share(may)
        if found is None or turn is None:
            return
        if self._make_room_for(turn[1], group) or not self._merge:
            return
        level, lender = found[0].demand.level, found[1]
        if any(
            self._studies[name].lead[0] > self._studies[lender].lead[0] for name in victim.studies
        ):
            return  # its own studies would get the worker back
        slack = laxity.slack(level, group)
        # Both shrink by a second per second: the path's slack, and the time until a switch is
        # worthwhile.
        short = shortest + costs.switch + costs.overheads.save - level
        if slack > 0 or short >= 0:
            self._look_again(max(slack, short))
        elif shortest > costs.mean_step:  # otherwise its worker is free in time anyway
            if self._can_leave(victim):
                self._steering.stop(victim, save=True)
            else:
                self._look_again(0.0)

    def _look_again(self, pause: float) -> None:
        """Considers preemption again after ``pause`` seconds, but not too soon."""
        pause = max(pause, MIN_PAUSE_STEPS * self._costs.mean_step, MIN_PAUSE_SECONDS)
        if not self._now < self._wakes_at <= self._now + pause:
            self._wakes_at = self._now + pause
            self._emit(WakeAt(self._wakes_at))

    def _make_room_for(self, lender: str, group: Group | None) -> bool:
        """Stops a chain for a waiting study of higher priority or with far fewer workers.

        ``group``: only a chain that these studies lend. Returns whether one was stopped.
        """
        by_sharers = self._pool.by_sharers
        if all(lender in studies for studies in by_sharers):
            return False
        priority, held = self._shares.standing(lender)
        standings = {
            name: self._shares.standing(name) for studies in by_sharers for name in studies
        }
        worth = self._worth_leaving()
        candidates: list[tuple[tuple[float, ...], ChainRun]] = []
        for studies, chains in by_sharers.items():
            standing = min(standings[study] for study in studies)
            is_below = standing[0] > priority
            is_far = group is None and standing[1] >= held + 2  # at limits, these are the shares
            if lender in studies or not (is_below or (standing[0] == priority and is_far)):
                continue
            for chain in chains.values():
                if group is not None and chain.study not in group:
                    continue
                if is_below and self._aging.is_guarded(chain.name):
                    continue
                left = self._laxity.left(chain)
                is_vital = not is_below and self._laxity.is_vital(chain)
                if left > worth and not is_vital and self._can_leave(chain):
                    neediest_last = [-place for place in standing]
                    order = self._pool.done_at(chain)
                    candidates.append(((not is_below, *neediest_last, *order), chain))
        if not candidates:
            return False
        _, victim = min(candidates, key=lambda entry: entry[0])
        self._steering.stop(victim, save=True)
        return True

    # -- launched chains without room --------------------------------------------------------------

    def take_back(self) -> None:
        """Withdraws launched chains without resources in favour of work with a better right.

        That is other launched chains without resources, and paths that wait for a worker.
        """
        for chain in self._queue.find_outranked():
            self._steering.stop(chain, save=False)
        at_work = len(self._chains) - len(self._pool.leaving)
        if not self._pool.queued or not 0 < self._workers <= at_work:
            return
        found = self._shares.next_by_priority(self._lending.may_have_another)
        if found is not None:
            last = self._queue.find_last(behind=self._aging.rank(found[1]))
            if last is not None:
                self._steering.stop(last, save=False)

    def make_room_for_queued(self) -> None:
        """Stops a running chain for a launched one with a better right that lacks resources."""
        waiting = self._queue.find_neediest()
        if waiting is None:
            return
        candidates = [
            (*self._leaves_last(chain), chain)
            for chain in self._chains.values()
            if self._queue.may_take_room_of(waiting, chain)
            and self._can_leave(chain)
            and self._is_worth_leaving(chain)
        ]
        if candidates:
            victim = min(candidates, key=lambda entry: entry[:-1])[-1]
            self._steering.stop(victim, save=True)
            self._queue.note_leaving_for(waiting)

    def _leaves_last(self, chain: ChainRun) -> tuple[float, float, float, int]:
        """Sort key; the least stops first: least right, most workers, soonest done."""
        rank, held = min(self._shares.standing(study) for study in chain.studies)
        order = self._pool.done_at(chain) if self._costs.is_known else (-chain.launched, 0)
        return (-rank, -held, *order)

    # -- whether leaving is worth it ---------------------------------------------------------------

    def _can_leave(self, chain: ChainRun) -> bool:
        """Whether it is running and has trained something, or will have when it stops."""
        has_begun_a_step = chain.trained > 0 or self._now > chain.step_time
        return chain.state is WorkerState.TRAINING and chain.pending is None and has_begun_a_step

    def _is_worth_leaving(self, chain: ChainRun) -> bool:
        """Whether a chain would run for long enough that it may be preempted."""
        if not self._costs.is_known:
            return self._now - chain.step_time > UNKNOWN_SECONDS
        return self._laxity.left(chain) > self._worth_leaving()

    def _worth_leaving(self) -> float:
        """Returns the seconds that a chain must have left to be preempted for another study."""
        costs = self._costs
        return max(WORTH_SWITCHES * (costs.switch + costs.overheads.save), costs.mean_step)
