"""Handles what running chains report: progress, checkpoints, metrics, answers to controls, ends."""

from __future__ import annotations

from collections.abc import Mapping

from hippo.engine.accounting import Accounting
from hippo.engine.adoption import adopt_chain
from hippo.engine.commands import Notify
from hippo.engine.events import Adopted
from hippo.engine.failure_policy import FailurePolicy
from hippo.engine.outbox import Outbox
from hippo.engine.retention import Retention
from hippo.engine.scheduling.scheduler import Scheduler
from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun, TrialRun
from hippo.engine.studies import StudyProgress
from hippo.lifecycles import InvariantViolated, TrialState, WorkerEvent, blame
from hippo.plan import CostModel, Frontier, Node, SearchPlan
from hippo.protocol.reports import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Outcome,
    Report,
    WorkerError,
)


class Chains:
    """Processes reports; ignores reports of chains that have ended."""

    def __init__(
        self,
        plan: SearchPlan,
        frontier: Frontier,
        costs: CostModel,
        studies: Mapping[str, StudyRun],
        pool: WorkerPool,
        retention: Retention,
        accounting: Accounting,
        scheduler: Scheduler,
        progress: StudyProgress,
        failures: FailurePolicy,
        outbox: Outbox,
    ) -> None:
        self._plan = plan
        self._frontier = frontier
        self._costs = costs
        self._studies = studies
        self._pool = pool
        self._retention = retention
        self._accounting = accounting
        self._scheduler = scheduler
        self._progress = progress
        self._failures = failures
        self._outbox = outbox

    def adopt(self, event: Adopted, now: float) -> None:
        """Adopts a chain as its reports leave it; promises no longer wanted are trimmed."""
        chain = adopt_chain(self._plan, event, self._studies, now)
        self._retention.pin_attached()
        self._pool.add(chain)
        self._frontier.claim(chain.claim)
        self._scheduler.reconsider([chain.claim])

    def note_report(self, report: Report, now: float) -> None:
        """Handles a report; the reports of a chain arrive in order."""
        chain = self._pool.chains.get(report.chain)
        if chain is None:
            return
        self._accounting.charge(chain, report, now)
        if not isinstance(report, Ended):
            self._failures.note_report()
        self.note_progress(chain.name, max(report.step, chain.origin_step + report.trained), now)
        match report:
            case Began():
                chain.take(WorkerEvent.BEGAN)
                chain.begun = True
                self._costs.observe("start", report.start_seconds)
                if chain.claim.start > 0:
                    self._costs.observe("load", report.load_seconds)
            case CheckpointSaved():
                self._note_checkpoint(chain, report)
            case MetricsReported():
                self._note_metrics(chain, report)
            case ControlAnswered():
                self._scheduler.note_answer(chain, report)
            case Arrived():
                chain.take(WorkerEvent.ARRIVED)
                if not chain.is_leaving:
                    self._pool.arrived[chain.name] = chain
            case Ended():
                self._end(chain, report.outcome, report.error, now)
        if self._costs.settle():
            self._frontier.relevel()

    def note_progress(self, name: str, step: int, now: float) -> None:
        """Records that a chain has completed this step."""
        chain = self._pool.chains.get(name)
        if chain is not None and step >= chain.step:
            chain.step, chain.step_time = step, now
            chain.claim.position = max(chain.claim.position, step)
            self._frontier.unsettled.add(chain.claim)

    def note_gone(self, name: str, outcome: Outcome, error: WorkerError | None, now: float) -> None:
        """Handles a worker that disappeared without a final report."""
        if name in self._pool.chains:
            self._end(self._pool.chains[name], outcome, error, now)

    def _note_checkpoint(self, chain: ChainRun, report: CheckpointSaved) -> None:
        self._failures.note_saved(chain)
        claim = chain.claim
        node = claim.node.at(report.step)
        _check_key(node, report.step, report.key, chain)
        planned = report.step in claim.saves()
        checkpoint = self._plan.add_checkpoint(node, report.step)
        claim.save_at.discard(report.step)
        claim.asked_save.discard(report.step)
        self._retention.saved(checkpoint, planned=planned, studies=chain.studies)
        self._unpin_start(chain)
        self._costs.observe("save", report.copy_seconds)
        if report.differs:
            self._outbox.emit(
                Notify(
                    f"the trainer is not deterministic: step {report.step} was trained twice with"
                    f" different results (key {report.key}); find the cause with `hippo verify`"
                )
            )

    def _note_metrics(self, chain: ChainRun, report: MetricsReported) -> None:
        node = chain.claim.node.at(report.step)
        _check_key(node, report.step, report.key, chain)
        self._costs.observe("evaluate", report.evaluate_seconds)
        chain.claim.evaluate_at.discard(report.step)
        chain.claim.asked_evaluate.discard(report.step)
        given: list[tuple[StudyRun, TrialRun]] = []
        for study, index in self._plan.add_metrics(node, report.step, report.metrics):
            run = self._studies[study]
            trial = run.trials[index]
            with blame(study):
                if trial.state is not TrialState.PENDING:  # a limit has ended the study before
                    if run.is_interrupted:
                        self._retention.keep_last_state(run, trial)
                elif self._progress.hand_over(run, trial, report.step, report.metrics):
                    given.append((run, trial))
        for run, trial in given:  # afterwards, since an ended study accepts no more results
            with blame(run.name):
                self._progress.check_target(run, trial)

    def _end(
        self, chain: ChainRun, outcome: Outcome, error: WorkerError | None, now: float
    ) -> None:
        chain.take(WorkerEvent.ENDED)
        self._pool.remove(chain)
        self._frontier.release(chain.claim)
        self._unpin_start(chain)
        self._accounting.note_end(chain, now)
        self._failures.note_end(chain, outcome, error, now)

    def _unpin_start(self, chain: ChainRun) -> None:
        if chain.pin is not None:
            self._retention.unpin(chain.pin, ("chain", chain.name))
            chain.pin = None


def _check_key(node: Node, step: int, key: str, chain: ChainRun) -> None:
    if node.key(step) != key:
        raise InvariantViolated(
            f"chain {chain.name} reports key {key} at step {step}, not {node.key(step)}"
        )
