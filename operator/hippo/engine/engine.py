"""The engine: events in, commands out.

It decides everything and executes nothing: no I/O, no clock, no randomness of its own. The same
events in the same order yield the same commands, whichever driver sends them: worker processes on
this machine, pods, or virtual time. Its state can be lost at any moment, because decisions and
results in the store restore it.

The engine handles each event in three steps: it records the event, lets tuners decide, and
schedules work.

A stage is a pure function, so its result is addressed by its content key. Requests for the same key
are the same work, and are answered from the plan if the result is known.
"""

from __future__ import annotations

from collections.abc import Callable

from hippo.engine.accounting import Accounting
from hippo.engine.chains import Chains
from hippo.engine.commands import Command, DeleteCheckpoint
from hippo.engine.events import (
    Adopted,
    Event,
    Progressed,
    Queued,
    Reported,
    Requested,
    StudyAdded,
    StudyChanged,
    StudyRemoved,
    Tick,
    WorkerGone,
    WorkersChanged,
)
from hippo.engine.failure_policy import FailurePolicy
from hippo.engine.intake import StudyIntake
from hippo.engine.options import LEAST_LAXITY, EngineOptions, SchedulingPolicy
from hippo.engine.outbox import Outbox
from hippo.engine.retention import Retention
from hippo.engine.retries import Trouble
from hippo.engine.scheduling.scheduler import Scheduler
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import StudyRun
from hippo.engine.studies import StudyProgress
from hippo.engine.trial_requests import TrialRequests
from hippo.engine.tuning import Tuning
from hippo.plan import CostModel, SearchPlan


class Engine:
    """One search plan with its studies and workers."""

    def __init__(
        self,
        plan: SearchPlan,
        options: EngineOptions,
        *,
        costs: CostModel | None = None,
        kept: Callable[[str], bool] = lambda key: False,
        policy: SchedulingPolicy = LEAST_LAXITY,
    ) -> None:
        """``kept`` tells by key whether others need a stored checkpoint, which then stays."""
        self.plan = plan
        self.options = options
        self.costs = costs if costs is not None else CostModel()
        self.frontier = policy.create_frontier(plan, self.costs)
        self.studies: dict[str, StudyRun] = {}
        self.workers = 0
        self.now = 0.0
        self._outbox = Outbox()
        self._pool = WorkerPool()
        self.chains = self._pool.chains
        self._retention = Retention(plan, self.studies, kept)
        self._scheduler = Scheduler(
            plan,
            self.frontier,
            self.costs,
            self.studies,
            self._pool,
            options,
            policy,
            emit=self._outbox.emit,
        )
        self._accounting = Accounting(
            self.studies,
            self._pool,
            self.costs,
            asking=self._scheduler.askers.beyond,
            emit=self._outbox.emit,
            advice=options.advice,
        )
        requests = TrialRequests(plan, self._retention, self._scheduler.reconsider)
        self._progress = StudyProgress(
            plan, options, self._retention, requests, self._accounting, self._outbox
        )
        self._intake = StudyIntake(self.studies, self._progress, requests, options)
        self._tuning = Tuning(
            self.studies, self._progress, self._scheduler, self.frontier, self._outbox
        )
        self._failures = FailurePolicy(
            plan,
            self.studies,
            options,
            emit=self._outbox.emit,
            fail_trial=self._progress.fail_trial,
        )
        self._chains = Chains(
            plan,
            self.frontier,
            self.costs,
            self.studies,
            self._pool,
            self._retention,
            self._accounting,
            self._scheduler,
            self._progress,
            self._failures,
            self._outbox,
        )

    def handle(self, event: Event, now: float) -> list[Command]:
        """Handles one event; returns the commands to execute, in order. ``now`` never decreases."""
        self.now = max(now, self.now)
        self._outbox.clear()
        self._progress.look(self.now)
        self._note(event)
        self._failures.free_held(self.now)
        self.frontier.refresh(self.now)
        self._scheduler.look(self.now, self.workers)
        self._tuning.decide(self.now)
        if isinstance(event, StudyAdded | Adopted) and event.more_follow:
            return self._outbox.take()
        if not self._failures.has_halted:
            workers = self._failures.limit_workers(self.workers, self.chains.values(), self.now)
            if self._scheduler.hand_out_work(self.now, workers):
                self._failures.note_launch(self.now)
        self._delete_unneeded()
        return self._outbox.take()

    @property
    def is_finished(self) -> bool:
        """Whether every study has ended and no worker is left."""
        return not self.chains and all(run.state.is_final for run in self.studies.values())

    def find_trouble(self, study: str) -> Trouble | None:
        """Returns why an active study is not progressing normally, or None."""
        return self._failures.find_trouble(study) if self.studies[study].is_active else None

    def count_free_workers(self) -> int:
        """Returns the number of workers that could start at once."""
        return max(0, self.workers - len(self.chains))

    def _note(self, event: Event) -> None:
        match event:
            case Reported(report):
                self._chains.note_report(report, self.now)
            case Progressed(chain, step):
                self._chains.note_progress(chain, step, self.now)
            case WorkerGone(chain, outcome, error):
                self._chains.note_gone(chain, outcome, error, self.now)
            case Adopted():
                self._chains.adopt(event, self.now)
            case StudyAdded():
                self._intake.add(event, self.now)
            case StudyChanged():
                self._intake.change(event, self.now)
            case StudyRemoved(name):
                self._intake.remove(name)
            case Requested(study, number, request, was_refused):
                self._tuning.note_request(study, number, request, was_refused=was_refused)
            case WorkersChanged(count):
                self.workers = count
            case Queued(chains):
                self._pool.queued = chains
            case Tick():
                pass

    def _delete_unneeded(self) -> None:
        """Deletes checkpoints that are no longer needed."""
        self.frontier.refresh(self.now)
        for run in self.studies.values():
            is_over = run.state.is_final and run.is_interrupted
            if run.open_to_forks and not is_over and not run.tuner.draws_from_space:
                self._retention.tuner_exhausted(run)
        self._retention.touched |= self.frontier.touched
        self.frontier.touched.clear()
        for checkpoint in self._retention.unneeded():
            self.plan.drop_checkpoint(checkpoint)
            self._outbox.emit(DeleteCheckpoint(checkpoint.key, checkpoint.step))
        self.frontier.refresh(self.now)
