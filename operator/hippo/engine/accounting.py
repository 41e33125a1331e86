"""Charges studies for the cost of chains, and determines when a study's budget is spent.

The cost between two reports of a chain is split evenly over the studies that want something at or
beyond the steps trained at that time. The unit is worker-seconds. Reusing stored results is free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hippo.engine.commands import Command, WakeAt
from hippo.engine.reopening import Advice, over_wall_time, over_worker_hours
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun
from hippo.plan import Claim, CostModel
from hippo.protocol.reports import Began, CheckpointSaved, MetricsReported, Report

LEAST_SECONDS = 1e-6
"""A budget counts as spent when less than this is left; otherwise rounding would request ticks that
change nothing."""

Asking = Callable[[Claim, int], tuple[str, ...]]
"""Returns the studies that want something beyond a step of a chain's route, or below its end."""


class Accounting:
    """Charges studies as reports arrive. The studies and the worker pool belong to the engine."""

    def __init__(
        self,
        studies: Mapping[str, StudyRun],
        pool: WorkerPool,
        costs: CostModel,
        *,
        asking: Asking,
        emit: Callable[[Command], None],
        advice: Advice,
    ) -> None:
        self._studies = studies
        self._pool = pool
        self._costs = costs
        self._asking = asking
        self._emit = emit
        self._advice = advice

    def charge(self, chain: ChainRun, report: Report, now: float) -> None:
        """Splits the chain's cost since its last report over studies; records its step times."""
        steps = report.trained - chain.trained
        seconds = report.worker_seconds - chain.worker_seconds
        since = chain.origin_step + report.trained - (1 if steps else 0)
        self._pool.share(chain, self._asking(chain.claim, since) or chain.studies)
        for name in chain.studies:
            run = self._studies[name]
            run.steps_trained += steps / len(chain.studies)
            run.worker_seconds += seconds / len(chain.studies)
        if steps > 0:
            begun = chain.origin_step + chain.trained
            self._costs.observe_steps(
                chain.claim.node.sequence,
                begun,
                begun + steps,
                report.train_seconds - chain.train_seconds,
            )
        chain.trained, chain.train_seconds = report.trained, report.train_seconds
        chain.worker_seconds, chain.accounted = report.worker_seconds, now
        chain.overhead += _overhead_of(report)

    def note_end(self, chain: ChainRun, now: float) -> None:
        """Measures the chain's remaining time at its end: processes, reports, driver latency."""
        self._costs.observe_gap(now - chain.launched - chain.train_seconds - chain.overhead)

    def find_spent(self, run: StudyRun, now: float) -> str | None:
        """Returns a message if a budget is spent; else requests a tick for when one will be."""
        budget = run.study.spec.budget
        if budget.worker_hours is not None:
            spent, per_second = self._estimate(run, now)
            left = budget.worker_hours * 3600 - spent
            if left < LEAST_SECONDS:
                return over_worker_hours(budget.worker_hours, spent / 3600, self._advice)
            if per_second:
                self._wake_for(run, now + left / per_second, now)
        if budget.wall_seconds is not None:
            until = run.started + budget.wall_seconds - run.wall_before
            if now >= until:
                spent = run.wall_before + now - run.started
                return over_wall_time(str(budget.wall_time), spent, self._advice)
            self._wake_for(run, until, now)
        return None

    def _estimate(self, run: StudyRun, now: float) -> tuple[float, float]:
        """Returns a study's worker-seconds, estimated since the last reports, and their rate."""
        spent, per_second = run.worker_seconds, 0.0
        for chain in self._pool.chains.values():
            if chain.begun and run.name in chain.studies:
                share = 1 / len(chain.studies)
                spent += (now - chain.accounted) * share
                per_second += share
        return spent, per_second

    def _wake_for(self, run: StudyRun, moment: float, now: float) -> None:
        """Requests a tick, unless an earlier one is pending."""
        if not now < run.wakes_at <= moment:
            run.wakes_at = moment
            self._emit(WakeAt(moment))


def _overhead_of(report: Report) -> float:
    match report:
        case Began():
            return report.start_seconds + report.load_seconds
        case CheckpointSaved():
            return report.copy_seconds
        case MetricsReported():
            return report.evaluate_seconds
        case _:
            return 0.0
