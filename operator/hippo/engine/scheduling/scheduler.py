"""The scheduler: launches chains, continues them in place, steers and preempts them.

Workers are divided among studies by priority, then by fair share (``fair_share.py``). A chain
continues in place if it can, and is preempted only for good reasons (``preemption.py``).

``parallelism.py`` decides who may have another worker. A swap within a study, or within a closed
group of studies at their limits, takes none: a chain that stops, or has arrived, makes room for
another one of its group, whatever the other limits. So a study whose limit is the number of workers
is treated like one without a limit, and one with a lower limit as if there were only that many
workers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from hippo.engine.commands import Command, WakeAt
from hippo.engine.options import EngineOptions, SchedulingPolicy
from hippo.engine.scheduling.aging import Aging
from hippo.engine.scheduling.askers import Askers
from hippo.engine.scheduling.fair_share import FairShare
from hippo.engine.scheduling.launches import Launches
from hippo.engine.scheduling.laxity import Laxity
from hippo.engine.scheduling.parallelism import Lending
from hippo.engine.scheduling.preemption import Preemption
from hippo.engine.scheduling.queueing import Queue
from hippo.engine.scheduling.steering import Steering
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun
from hippo.plan import Claim, CostModel, Frontier, SearchPlan
from hippo.protocol.reports import ControlAnswered


class Scheduler:
    """Keeps workers busy. Plan, frontier, studies and chains belong to the engine."""

    def __init__(
        self,
        plan: SearchPlan,
        frontier: Frontier,
        costs: CostModel,
        studies: Mapping[str, StudyRun],
        pool: WorkerPool,
        options: EngineOptions,
        policy: SchedulingPolicy,
        *,
        emit: Callable[[Command], None],
    ) -> None:
        self._frontier = frontier
        self._studies = studies
        self._pool = pool
        self._yields = policy.yields
        self._emit = emit
        self.askers = Askers(studies)
        self._lending = Lending(pool, studies, self.askers.since, options.default_parallelism)
        self._laxity = Laxity(frontier, pool, costs, self._lending)
        self._aging = Aging(pool, studies, options.patience)
        self._queue = Queue(studies, pool, self._aging)
        self._shares = FairShare(
            frontier,
            pool,
            costs,
            self._lending,
            self._laxity,
            self._aging,
            self._queue,
            self.askers,
        )
        self._steering = Steering(plan, frontier, pool, emit=emit)
        self._launches = Launches(
            plan,
            frontier,
            pool,
            costs,
            studies,
            options,
            self._lending,
            self._aging,
            self.askers,
            self._steering,
            emit=emit,
        )
        self._preemption = Preemption(
            frontier,
            pool,
            costs,
            studies,
            self._lending,
            self._laxity,
            self._aging,
            self._queue,
            self._shares,
            self._steering,
            merge=options.merge,
            emit=emit,
        )
        self._aging_until = math.inf  # next time at which a study becomes overdue
        self._queue_until = math.inf  # next time to consider queued workers
        self._now = 0.0
        self._workers = 0

    def look(self, now: float, workers: int) -> None:
        """Sets the time, the number of workers, and how many of them studies may have."""
        self._now, self._workers = now, workers
        self._laxity.look(now)
        self._lending.look(workers)
        self._preemption.look(now, workers)

    def hand_out_work(self, now: float, workers: int) -> bool:
        """Gives every worker the best work available; returns whether any was launched."""
        self.look(now, workers)
        self._steering.trim_reconsidered()
        self._frontier.refresh(now)
        self._aging.look(now)
        self._preemption.keep_within_limits()
        self._queue.look(now)
        self._preemption.take_back()
        for chain in list(self._pool.arrived.values()):
            if chain.is_waiting:
                self._continue_or_release(chain)
        has_launched = self._launch_free_workers()
        self._steering.ask()
        if self._yields:
            self._preemption.yield_workers()
        self._preemption.make_room_for_queued()
        self._wake_for_next_look()
        return has_launched

    def reconsider(self, claims: Iterable[Claim]) -> None:
        """Marks chains with work on their route that is no longer wanted."""
        self._steering.reconsider(claims)

    def note_answer(self, chain: ChainRun, answer: ControlAnswered) -> None:
        """Handles a chain's answer to its newest control."""
        self._steering.note_answer(chain, answer)

    def count_idle(self, run: StudyRun) -> int:
        """Returns the workers that a study can fill beyond its own and more urgent waiting work."""
        arrived = sum(1 for chain in self._pool.arrived.values() if chain.is_waiting)
        priority, own = run.study.spec.priority, self._frontier.ready_of[run.name]
        before = sum(
            min(count, self._count_room(name))
            for name, count in self._frontier.ready_of.items()
            if name != run.name and self._studies[name].study.spec.priority > priority
        )
        free = max(0, self._workers - len(self._pool.chains))
        idle = free + arrived - own - before
        idle = min(idle, self._count_room(run.name) - own)
        if self._aging.is_overdue(run.name) and not run.tuner.awaits_results:
            return max(1, idle)  # otherwise it would never suggest, and never be seen to wait
        return max(0, idle)

    def _count_room(self, study: str) -> int:
        """Returns the workers that a study may have besides those that already train for it."""
        if not self._studies[study].is_active:
            return 0
        arrived = self._pool.arrived.values()
        waiting = sum(1 for chain in arrived if chain.study == study and chain.is_waiting)
        return max(self._lending.room(study), self._lending.may_have_another(study)) + waiting

    def _continue_or_release(self, chain: ChainRun) -> None:
        """Continues a worker at the end of its route in place, unless others need it more."""
        if self._queue.is_to_make_room(chain):
            self._steering.stop(chain, save=True)
            return
        here = self._shares.find_continuation(chain)
        best = self._shares.next_path(partial(self._lending.may_have_another, without=chain))
        if here is None or len(self._pool.chains) > self._workers:
            self._steering.stop(chain, save=True)
            return
        if best is not None and self._shares.has_better_right(best, here, chain):
            self._steering.stop(chain, save=True)
            return
        self._launches.reroute(chain, *here)
        self._frontier.refresh(self._now)

    def _launch_free_workers(self) -> bool:
        has_launched = False
        while len(self._pool.chains) < self._workers:
            found = self._shares.next_path(self._lending.may_have_another)
            if found is None:
                break
            self._launches.launch(*found, self._now)
            self._frontier.refresh(self._now)
            has_launched = True
        return has_launched

    def _wake_for_next_look(self) -> None:
        if 0 < self._workers <= len(self._pool.chains) or self._pool.queued:
            self._aging_until = self._wake_at(self._aging.next_look(), self._aging_until)
        self._queue_until = self._wake_at(self._queue.next_look(), self._queue_until)

    def _wake_at(self, moment: float, told: float) -> float:
        """Requests a tick, unless it is the one ``told`` before; returns the time told now."""
        if moment != told and moment < math.inf:
            self._emit(WakeAt(moment))
        return moment
