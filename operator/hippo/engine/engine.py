"""The engine: events in, commands out.

It decides everything and does nothing: no I/O, no clock, no randomness of its own. The same events
in the same order give the same commands, whoever drives it: worker processes on this machine, pods,
or virtual time. Its state can be lost at any moment: decisions and results, both in the store,
bring it back.

Each event is taken in three moves: note what it says; let tuners decide on what is known; hand out
work.

The law behind it: a stage is a pure function, so its result is addressed by its content key.
Whoever asks for the same key asks for the same work, and gets it from the plan if it is known.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hippo.engine import replicates
from hippo.engine.accounting import Accounting
from hippo.engine.adoption import adopt_chain
from hippo.engine.events import (
    Adopted,
    CheckpointLost,
    Command,
    DeleteCheckpoint,
    Event,
    Finish,
    Launch,
    Notify,
    Progressed,
    Queued,
    Record,
    Refuse,
    Reported,
    Requested,
    StudyAdded,
    StudyChanged,
    StudyRemoved,
    Tick,
    WorkerGone,
    WorkersChanged,
)
from hippo.engine.failure_policy import Recovery
from hippo.engine.reopening import find_void, is_same_failure, lacking, over_failed_trials
from hippo.engine.retention import Retention
from hippo.engine.retries import Trouble
from hippo.engine.scheduling.scheduler import Dispatcher, EngineOptions
from hippo.engine.scheduling.worker_pool import Workforce
from hippo.engine.state import ChainRun, StudyRun, TrialRun, place_trial
from hippo.lifecycles import (
    End,
    EndReason,
    InvariantViolated,
    StudyEvent,
    StudyState,
    TrialEvent,
    TrialState,
    WorkerEvent,
    blame,
)
from hippo.plan import CostModel, Frontier, Metrics, Node, SearchPlan
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Outcome,
    WorkerError,
)
from hippo.protocol.requests import Request
from hippo.tune import FollowingTuner, Result, create_tuner
from hippo.tune.reasons import STUDY_ENDED


class Engine:
    """One search plan with its studies and workers."""

    frontier_type: type[Frontier] = Frontier
    dispatcher_type: type[Dispatcher] = Dispatcher
    """Benchmarks put other policies in their places."""

    def __init__(
        self,
        plan: SearchPlan,
        options: EngineOptions,
        *,
        costs: CostModel | None = None,
        kept: Callable[[str], bool] = lambda key: False,
    ) -> None:
        """``kept`` tells, by key, which stored checkpoints others need: these stay."""
        self.plan = plan
        self.options = options
        self.costs = costs if costs is not None else CostModel()
        self.frontier = self.frontier_type(plan, self.costs)
        self.studies: dict[str, StudyRun] = {}
        self._workforce = Workforce()
        self.chains = self._workforce.chains
        self.workers = 0
        self._retention = Retention(plan, self.studies, kept)
        self._dispatcher = self.dispatcher_type(
            plan, self.frontier, self.costs, self.studies, self._workforce, options
        )
        self._accounting = Accounting(
            self.studies,
            self._workforce,
            self.costs,
            asking=self._dispatcher.asking_beyond,
            emit=self.emit,
            advice=options.advice,
        )
        self._recovery = Recovery(
            plan, self.studies, options, emit=self.emit, fail_trial=self._fail_trial
        )
        self._commands: list[Command] = []
        self.now = 0.0

    # -- the seam ----------------------------------------------------------------------------------

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event; returns what is to be done, in order. ``now`` never goes back."""
        self.now = max(now, self.now)
        self._commands = []
        self._note(event)
        self._recovery.free_held(self.now)
        self.frontier.refresh(self.now)
        self._dispatcher.look(self.now, self.workers)
        self._decide()
        if isinstance(event, StudyAdded | Adopted) and event.more_follow:
            return self._commands
        if not self._recovery.has_halted:
            workers = self._recovery.limit_workers(self.workers, self.chains.values(), self.now)
            handed_out = self._dispatcher.hand_out_work(self.now, workers)
            self._commands += handed_out
            if any(isinstance(command, Launch) for command in handed_out):
                self._recovery.note_launch(self.now)
        self._clean_up()
        return self._commands

    def emit(self, command: Command) -> None:
        self._commands.append(command)

    @property
    def is_finished(self) -> bool:
        """Every study has ended and no worker is left."""
        return not self.chains and all(run.state.is_final for run in self.studies.values())

    def find_trouble(self, study: str) -> Trouble | None:
        """Why a study at work does not go on as it should, if so."""
        return self._recovery.find_trouble(study) if self.studies[study].is_active else None

    def count_free_workers(self) -> int:
        """Workers that could begin something at once."""
        return max(0, self.workers - len(self.chains))

    def _note(self, event: Event) -> None:
        match event:
            case Reported(report):
                self._note_report(report)
            case Progressed(chain, step):
                self._note_progress(chain, step)
            case WorkerGone(chain, outcome, error):
                if chain in self.chains:
                    self._end_chain(self.chains[chain], outcome, error)
            case StudyAdded():
                self._add_study(event)
            case Adopted():
                self._adopt(event)
            case StudyChanged(study):
                with blame(study.name):
                    self._change_study(self.studies[study.name], event)
            case StudyRemoved(name):
                run = self.studies[name]
                if not run.state.is_final:
                    self._finish(run, StudyEvent.FAIL, EndReason.REMOVED, "removed")
                self._let_go(run)
            case WorkersChanged(count):
                self.workers = count
            case CheckpointLost(key):
                self._lose_checkpoint(key)
            case Requested(study, number, request, was_refused):
                with blame(study):
                    run = self.studies[study]
                    self._note_request(run, number, request, was_refused=was_refused)
            case Queued(chains):
                self._workforce.queued = chains
            case Tick():
                pass

    # -- studies and their decisions ---------------------------------------------------------------

    def _add_study(self, event: StudyAdded) -> None:
        study = event.study
        if study.name in self.studies:
            raise InvariantViolated(f"study {study.name} was added before")
        tuner = create_tuner(study)
        if event.followed:
            tuner = FollowingTuner(study, tuner, event.followed)
        run = StudyRun(
            study=study,
            tuner=tuner,
            order=len(self.studies),
            started=self.now,
            worker_seconds=event.worker_seconds,
            steps_trained=event.steps_trained,
            wall_before=event.wall_seconds,
        )
        run.tuner.window = self.options.window
        self.studies[study.name] = run
        end = End(*event.ended) if event.ended is not None else None
        if end is not None and not event.reopened:
            run.end = end.reason
        run.replaying = True
        run.void = find_void(event.decisions)
        run.last_steps = _last_steps(d for d in event.decisions if d.index not in run.void)
        for decision in event.decisions:
            self._apply(run, decision)
        run.last_steps.clear()
        run.replaying = False
        if run.is_replicating:
            self._stop_others(run)
        if end is not None:
            verdict = StudyEvent.SUCCEED if end.state is StudyState.SUCCEEDED else StudyEvent.FAIL
            if not event.reopened:
                self._finish(run, verdict, end.reason, end.message)
                self._sleep_on(run)
                return
            run.take(verdict)
            run.take(StudyEvent.REOPEN)
        if study.spec.suspend:
            self._suspend(run)
        else:
            for trial in list(run.trials):
                self._see_whether_target_is_reached(run, trial)

    def _change_study(self, run: StudyRun, event: StudyChanged) -> None:
        run.study = event.study
        run.tuner.resize(event.study.spec.max_trials)
        if event.study.spec.suspend and run.is_active:
            run.wall_before += self.now - run.started
            self._suspend(run)
        elif run.state is StudyState.SUSPENDED and not event.study.spec.suspend:
            run.take(StudyEvent.RESUME)
            run.started = self.now
        self._request_again(run)

    def _suspend(self, run: StudyRun) -> None:
        """Its requests stand, and so what they lean on, but nobody works for them."""
        run.take(StudyEvent.SUSPEND)
        self._request_again(run)

    def _request_again(self, run: StudyRun) -> None:
        """The study's rank has changed."""
        for trial in run.trials:
            if trial.state is TrialState.PENDING:
                self._request(run, trial)
                self._dispatcher.reconsider(trial.node.at(trial.target).claims)

    def _decide(self) -> None:
        """Let every tuner decide until none has anything to say; then see who has ended."""
        for run in self._by_priority():
            with blame(run.name):
                self._decide_for(run)
        self.frontier.refresh(self.now)

    def _decide_for(self, run: StudyRun) -> None:
        self._fail_lacking(run)
        self._refuse(run)
        while run.is_tuning:
            decisions = run.tuner.decide(self._count_idle(run))
            if not decisions:
                break
            for decision in decisions:
                if not run.is_tuning:
                    break  # one before it has reached the target
                self.emit(Record(run.name, decision))
                self._apply(run, decision)
            self.frontier.refresh(self.now)
            self._fail_lacking(run)
            self._refuse(run)
        if run.is_active:
            self._see_whether_finished(run)

    def _note_request(
        self, run: StudyRun, number: int, request: Request, *, was_refused: bool
    ) -> None:
        if was_refused:
            run.tuner.refused(number)
        else:
            run.tuner.requested(number, request)

    def _refuse(self, run: StudyRun) -> None:
        while run.is_active and (refusal := run.tuner.refusal()) is not None:
            number, message = refusal
            self.emit(Refuse(run.name, number, message))
            run.tuner.refused(number)

    def _by_priority(self) -> list[StudyRun]:
        return sorted(self.studies.values(), key=lambda run: run.lead, reverse=True)

    def _count_idle(self, run: StudyRun) -> int:
        """Workers that a study may still fill: no work of its own or of higher priority waits."""
        arrived = sum(1 for c in self._workforce.arrived.values() if self._dispatcher.is_waiting(c))
        priority, own = run.study.spec.priority, self.frontier.ready_of[run.name]
        before = sum(
            min(count, self._dispatcher.count_room(name))
            for name, count in self.frontier.ready_of.items()
            if name != run.name and self.studies[name].study.spec.priority > priority
        )
        idle = self.count_free_workers() + arrived - own - before
        idle = min(idle, self._dispatcher.count_room(run.name) - own)
        if self._dispatcher.is_overdue(run.name) and not run.tuner.awaits_results:
            return max(1, idle)  # or it would never ask, and never be seen to wait
        return max(0, idle)

    def _apply(self, run: StudyRun, decision: Decision) -> None:
        """Take a recorded decision into effect: just made, or replayed after a restart."""
        if decision.index != run.decided:
            raise InvariantViolated(
                f"study {run.name}: decision {decision.index} instead of {run.decided}"
            )
        run.decided += 1
        if decision.index in run.void or decision.kind == "reopen":
            run.tuner.passed_over(decision)
            if decision.kind == "reopen":
                run.trials[decision.trial].reason = decision.reason
            return
        if run.is_about_replicate(decision):
            run.tuner.passed_over(decision)
        else:
            run.tuner.decided(decision)
        if decision.kind == "suggest":
            self._add_trial(run, decision)
            return
        trial = run.trials[decision.trial]
        trial.reason = decision.reason
        match decision.kind:
            case "promote":
                trial.take(TrialEvent.PROMOTED)
                trial.target, trial.marks = decision.steps, decision.marks
                self._request(run, trial)
            case "stop":
                if run.replaying and trial.is_missing_result_at(decision.steps):
                    run.stops_due.add(trial.index)  # a damaged store has lost it: first again
                else:
                    is_cut_short = decision.reason.startswith(STUDY_ENDED)
                    self._stop_trial(run, trial, is_cut_short=is_cut_short)
            case "fail":
                self._withdraw(trial)
                trial.take(TrialEvent.FAILED)
                self._retention.keep_last_state(run, trial)
                if not trial.is_replicate:
                    if run.replaying:
                        if not is_same_failure(run.last_failure, decision):
                            key = trial.node.at(trial.target).key(trial.target)
                            run.failing.setdefault(key, decision.reason)
                        run.last_failure = decision
                    run.tuner.observed(Result(trial.index, decision.steps, None))

    def _add_trial(self, run: StudyRun, decision: Decision) -> None:
        sequence, node = place_trial(
            self.plan, run.name, decision, run.study.spec.steps, merge=self.options.merge
        )
        trial = TrialRun(
            run.name,
            decision.trial,
            sequence,
            node,
            target=decision.steps,
            marks=decision.marks,
            seed=decision.seed,
            parent=decision.parent,
            request=decision.request,
            reason=decision.reason,
        )
        if trial.is_replicate and run.is_tuning:
            self._end_tuning(run)
        run.trials.append(trial)
        self._retention.pin_attached()
        self._request(run, trial)

    def _request(self, run: StudyRun, trial: TrialRun) -> None:
        """Ask for the trial's latest request, and for its marks on the way there."""
        for step in trial.marks:
            if step in trial.results or step > run.last_steps.get(trial.index, step):
                continue
            known = self.plan.mark(trial.node, step, trial.id)
            if known is not None:
                self._deliver(run, trial, step, known)
            if trial.state is not TrialState.PENDING:
                return
        known = self.plan.want(trial.node, trial.target, trial.id, run.lead)
        if known is not None and trial.target <= run.last_steps.get(trial.index, trial.target):
            self._deliver(run, trial, trial.target, known)

    def _stop_trial(self, run: StudyRun, trial: TrialRun, *, is_cut_short: bool = False) -> None:
        if trial.state.is_final:
            return
        if is_cut_short and run.is_interrupted:  # what it has come to is saved, and kept
            self._lull(run, trial)
        else:
            self._withdraw(trial)
            self._retention.trial_ended(trial)
        trial.take(TrialEvent.STOPPED)

    def _lull(self, run: StudyRun, trial: TrialRun) -> None:
        """Its request stands, and so what it leans on, but nobody works for it."""
        if trial.state is TrialState.PENDING:
            self._unmark(trial)
            known = self.plan.want(trial.node, trial.target, trial.id, run.lead)
            if known is not None:  # since it was stopped
                self._retention.keep_last_state(run, trial)
            self._dispatcher.reconsider(trial.node.at(trial.target).claims)

    def _sleep_on(self, run: StudyRun) -> None:
        """The same for what stands of a study that had ended before."""
        for trial in run.trials:
            node = trial.node.at(trial.target)
            want = node.wants.get(trial.target)
            if want is not None and trial.id in want.trials:
                self.plan.want(node, trial.target, trial.id, run.lead)

    def _let_go(self, run: StudyRun) -> None:
        """Nobody wants any more what a study would have gone on from."""
        run.end = EndReason.REMOVED
        for trial in run.trials:
            self.plan.unwant(trial.node, trial.target, trial.id)
        self._retention.study_removed(run)

    def _withdraw(self, trial: TrialRun) -> None:
        """Take back all that a trial under way still asks for."""
        if trial.state is TrialState.PENDING:
            node = trial.node.at(trial.target)
            self.plan.unwant(trial.node, trial.target, trial.id)
            self._unmark(trial)
            self._dispatcher.reconsider(node.claims)

    def _unmark(self, trial: TrialRun) -> None:
        for step in trial.marks:
            self.plan.unmark(trial.node, step, trial.id)

    def _see_whether_finished(self, run: StudyRun) -> None:
        spec = run.study.spec
        if len(run.failing) > spec.max_failed_trials:
            last = list(run.failing.values())[-1]
            self._finish(
                run,
                StudyEvent.FAIL,
                EndReason.FAILED_TRIALS,
                over_failed_trials(
                    len(run.failing), spec.max_failed_trials, last, self.options.advice
                ),
            )
        elif run.has_no_trial_left() and (run.tuner.finished or not run.is_tuning):
            if run.best is None:
                other = "every trial diverged" if run.trials else "none was asked for"
                last = next(reversed(run.failing.values()), other)
                remedy = f"; {self.options.advice.mend(last)}" if run.failing else ""
                told = f"no trial succeeded: {last}{remedy}"
                self._finish(run, StudyEvent.FAIL, EndReason.NO_RESULT, told)
            else:
                reason = run.end or EndReason.COMPLETED
                self._conclude(run, reason, run.message or "all trials have ended")
        elif (message := self._accounting.find_spent(run, self.now)) is not None:
            verdict = StudyEvent.SUCCEED if run.best is not None else StudyEvent.FAIL
            self._finish(run, verdict, EndReason.BUDGET, message)

    def _conclude(self, run: StudyRun, reason: EndReason, message: str) -> None:
        """The tuner's part is done: retrain its best under other seeds, if asked for; then end."""
        run.message, run.end = message, reason
        if run.is_tuning:
            for decision in replicates.suggest(run):
                self.emit(Record(run.name, decision))
                self._apply(run, decision)
            if run.is_replicating:
                self._stop_others(run)
        if run.has_no_trial_left() or run.is_tuning:
            self._finish(run, StudyEvent.SUCCEED, reason, message)

    def _end_tuning(self, run: StudyRun) -> None:
        """From here on replicates only: what the tuner still wanted is of no account."""
        run.open_to_forks = False
        run.is_replicating = True
        self._retention.tuning_ended(run)

    def _stop_others(self, run: StudyRun) -> None:
        """The tuner's trials, or all once the study has ended, stay where they are.

        Recorded, so that what others make known of them later does not count after a restart.
        """
        for trial in run.trials:
            if not trial.state.is_final and not (run.is_active and trial.is_replicate):
                steps = trial.latest[0] if trial.latest is not None else 0
                reason = f"{STUDY_ENDED}{run.message}"
                decision = run.decision("stop", trial, steps=steps, reason=reason)
                self.emit(Record(run.name, decision))
                self._apply(run, decision)

    def _finish(
        self, run: StudyRun, event: StudyEvent, reason: EndReason | None, message: str
    ) -> None:
        if run.is_active:
            run.wall_before += self.now - run.started
        run.take(event)
        run.message, run.end = message, reason
        if run.is_replicating:
            run.best = replicates.find_winner(run)
        best = run.best.index if run.best is not None else None
        # First: a study whose trials were stopped by its end, and that goes on, might never end.
        self.emit(Finish(run.name, run.state, message, best, reason))
        self._stop_others(run)
        self._retention.study_ended(run)

    # -- results -----------------------------------------------------------------------------------

    def _deliver(self, run: StudyRun, trial: TrialRun, step: int, metrics: Metrics) -> None:
        """A trial's request is fulfilled by what was known already."""
        with blame(run.name):
            if self._hand_over(run, trial, step, metrics):
                self._see_whether_target_is_reached(run, trial)

    def _hand_over(self, run: StudyRun, trial: TrialRun, step: int, metrics: Metrics) -> bool:
        """The trial has a result; returns whether it has a finite objective."""
        metric = run.study.spec.objective.metric
        if metric not in metrics:
            run.lacking.append((trial, step, lacking(metric, metrics)))
            return False
        self._see_whether_test_metric_is_there(run, metrics)
        trial.results[step] = metrics
        value = run.objective(metrics)
        if not trial.is_replicate:
            run.tuner.observed(Result(trial.index, step, value))
        if value is None:
            self._withdraw(trial)
            trial.take(TrialEvent.DIVERGED)
            trial.reason = f"{metric} was {metrics[metric]} at step {step}"
            self._retention.trial_ended(trial)
            return False
        if step == trial.target:
            self._unmark(trial)
            is_last = step >= run.study.spec.steps
            trial.take(TrialEvent.COMPLETED if is_last else TrialEvent.REPORTED)
            self._retention.trial_reported(run, trial, step)
            if trial.index in run.stops_due:
                self._stop_trial(run, trial)
        if not trial.is_replicate and run.note_leader(trial):
            self._retention.leaders_changed(run)
        return True

    def _see_whether_test_metric_is_there(self, run: StudyRun, metrics: Metrics) -> None:
        """Nothing depends on it, so its absence fails nothing, but is told, once."""
        name = run.study.spec.objective.test_metric
        if name is None or name in metrics or run.replaying or run.lacks_test_metric:
            return
        run.lacks_test_metric = True
        has = ", ".join(sorted(metrics))
        message = (
            f"metric {name!r} (testMetric) is not among those that evaluate() returned ({has});"
            f" {self.options.advice.metric.replace('.metric', '.testMetric')}"
        )
        self.emit(Notify(message, study=run.name))

    def _see_whether_target_is_reached(self, run: StudyRun, trial: TrialRun) -> None:
        latest = trial.latest
        if latest is None or run.replaying or not run.is_active or trial.is_replicate:
            return
        if run.has_reached_target(latest[1]):
            metric = run.study.spec.objective.metric
            message = f"trial {trial.name} reached the target: {metric} {latest[1][metric]:g}"
            self._conclude(run, EndReason.TARGET, message)

    def _fail_trial(
        self, run: StudyRun, trial: TrialRun, step: int, key: str, message: str
    ) -> None:
        if trial.state is not TrialState.PENDING:
            return
        if not trial.is_replicate:
            run.failing[key] = message
        decision = run.decision("fail", trial, steps=step, reason=message)
        self.emit(Record(run.name, decision))
        self._apply(run, decision)

    def _fail_lacking(self, run: StudyRun) -> None:
        """Fail the trials whose metrics lack the objective.

        Not on delivery: a replayed trial has its verdict among the decisions to come, and several
        decisions of a tuner are numbered before the first is applied.
        """
        for trial, step, message in run.lacking:
            if trial.state is TrialState.PENDING:
                self.emit(Notify(message, study=run.name))
                key = trial.node.at(step).key(step)
                self._fail_trial(run, trial, step, key, message)
        run.lacking.clear()

    def _note_report(self, report: object) -> None:
        assert isinstance(
            report, Began | CheckpointSaved | MetricsReported | ControlAnswered | Arrived | Ended
        )
        chain = self.chains.get(report.chain)
        if chain is None:
            return
        self._accounting.charge(chain, report, self.now)
        if not isinstance(report, Ended):
            self._recovery.note_report()
        self._note_progress(chain.name, max(report.step, chain.origin_step + report.trained))
        match report:
            case Began():
                chain.take(WorkerEvent.BEGAN)
                chain.begun = True
                self.costs.observe("start", report.start_seconds)
                if chain.claim.start > 0:
                    self.costs.observe("load", report.load_seconds)
            case CheckpointSaved():
                self._note_checkpoint(chain, report)
            case MetricsReported():
                self._note_metrics(chain, report)
            case ControlAnswered():
                self._dispatcher.note_answer(chain, report)
            case Arrived():
                chain.take(WorkerEvent.ARRIVED)
                if not chain.is_leaving:
                    self._workforce.arrived[chain.name] = chain
            case Ended():
                self._end_chain(chain, report.outcome, report.error)
        if self.costs.settle():
            self.frontier.relevel()

    def _note_progress(self, name: str, step: int) -> None:
        chain = self.chains.get(name)
        if chain is not None and step >= chain.step:
            chain.step, chain.step_time = step, self.now
            chain.claim.position = max(chain.claim.position, step)
            self.frontier.unsettled.add(chain.claim)

    def _note_checkpoint(self, chain: ChainRun, report: CheckpointSaved) -> None:
        self._recovery.note_saved(chain)
        claim = chain.claim
        node = claim.node.at(report.step)
        self._check_key(node, report.step, report.key, chain)
        planned = report.step in claim.saves()
        checkpoint = self.plan.add_checkpoint(
            node, report.step, size=report.size, state_digest=report.state_digest
        )
        claim.save_at.discard(report.step)
        claim.asked_save.discard(report.step)
        self._retention.saved(checkpoint, planned=planned, studies=chain.studies)
        self._unpin_start(chain)
        self.costs.observe("save", report.copy_seconds)
        if report.differs:
            self.emit(
                Notify(
                    f"the trainer is not deterministic: step {report.step} was trained twice with"
                    f" different results (key {report.key}); find the cause with `hippo verify`"
                )
            )

    def _note_metrics(self, chain: ChainRun, report: MetricsReported) -> None:
        node = chain.claim.node.at(report.step)
        self._check_key(node, report.step, report.key, chain)
        self.costs.observe("evaluate", report.evaluate_seconds)
        chain.claim.evaluate_at.discard(report.step)
        chain.claim.asked_evaluate.discard(report.step)
        given: list[tuple[StudyRun, TrialRun]] = []
        for study, index in self.plan.add_metrics(node, report.step, report.metrics):
            run = self.studies[study]
            trial = run.trials[index]
            with blame(study):
                if trial.state is not TrialState.PENDING:  # a limit has ended the study before
                    if run.is_interrupted:
                        self._retention.keep_last_state(run, trial)
                elif self._hand_over(run, trial, report.step, report.metrics):
                    given.append((run, trial))
        for run, trial in given:  # once all have it: a study that ends now takes no more results
            with blame(run.name):
                self._see_whether_target_is_reached(run, trial)

    @staticmethod
    def _check_key(node: Node, step: int, key: str, chain: ChainRun) -> None:
        if node.key(step) != key:
            raise InvariantViolated(
                f"chain {chain.name} reports key {key} at step {step}, not {node.key(step)}"
            )

    def _adopt(self, event: Adopted) -> None:
        """Take up a chain where its reports leave it; what is no longer wanted of it is trimmed."""
        chain = adopt_chain(self.plan, event, self.studies, self.now)
        self._retention.pin_attached()
        self._workforce.add(chain)
        self.frontier.claim(chain.claim)
        self._dispatcher.reconsider([chain.claim])

    # -- ends and failures -------------------------------------------------------------------------

    def _end_chain(self, chain: ChainRun, outcome: Outcome, error: WorkerError | None) -> None:
        chain.take(WorkerEvent.ENDED)
        self._workforce.remove(chain)
        self.frontier.release(chain.claim)
        self._unpin_start(chain)
        self._accounting.note_end(chain, self.now)
        self._recovery.note_end(chain, outcome, error, self.now)

    def _unpin_start(self, chain: ChainRun) -> None:
        if chain.pin is not None:
            self._retention.unpin(chain.pin, ("chain", chain.name))
            chain.pin = None

    def _lose_checkpoint(self, key: str) -> None:
        for node in self.plan.nodes():
            for checkpoint in list(node.checkpoints.values()):
                if checkpoint.key == key:
                    self.plan.drop_checkpoint(checkpoint)

    # -- clean-up ----------------------------------------------------------------------------------

    def _clean_up(self) -> None:
        self.frontier.refresh(self.now)
        for run in self.studies.values():
            is_over = run.state.is_final and run.is_interrupted
            if run.open_to_forks and not is_over and not run.tuner.draws_from_space:
                self._retention.tuner_exhausted(run)
        self._retention.touched |= self.frontier.touched
        self.frontier.touched.clear()
        for checkpoint in self._retention.unneeded():
            self.plan.drop_checkpoint(checkpoint)
            self.emit(DeleteCheckpoint(checkpoint.key, checkpoint.step))
        self.frontier.refresh(self.now)


def _last_steps(decisions: Iterable[Decision]) -> dict[int, int]:
    """Trials that were stopped or failed, and the last step whose result counts for them."""
    return {
        decision.trial: decision.steps - (decision.kind == "fail")
        for decision in decisions
        if decision.kind in ("stop", "fail")
    }
