"""Progress of studies: decisions take effect, results are delivered, and studies end.

These depend on each other: a decision requests a result that may be known already, a result may
reach the study's target, and the end of a study records further decisions.
"""

from __future__ import annotations

from hippo.engine import replicates
from hippo.engine.accounting import Accounting
from hippo.engine.commands import Finish, Notify, Record
from hippo.engine.options import EngineOptions
from hippo.engine.outbox import Outbox
from hippo.engine.reopening import is_same_failure, lacking, over_failed_trials
from hippo.engine.retention import Retention
from hippo.engine.state import StudyRun, TrialRun, place_trial
from hippo.engine.trial_requests import TrialRequests
from hippo.lifecycles import (
    EndReason,
    InvariantViolated,
    StudyEvent,
    TrialEvent,
    TrialState,
    blame,
)
from hippo.plan import Metrics, SearchPlan
from hippo.protocol.decisions import Decision
from hippo.tune import Result
from hippo.tune.reasons import STUDY_ENDED


class StudyProgress:
    """Advances studies and their trials. Call :meth:`look` first in each round."""

    def __init__(
        self,
        plan: SearchPlan,
        options: EngineOptions,
        retention: Retention,
        requests: TrialRequests,
        accounting: Accounting,
        outbox: Outbox,
    ) -> None:
        self._plan = plan
        self._options = options
        self._retention = retention
        self._requests = requests
        self._accounting = accounting
        self._outbox = outbox
        self._now = 0.0

    def look(self, now: float) -> None:
        """Sets the current time."""
        self._now = now

    # -- decisions ---------------------------------------------------------------------------------

    def record(self, run: StudyRun, decision: Decision) -> None:
        """Emits a new decision to be recorded, and applies it."""
        self._outbox.emit(Record(run.name, decision))
        self.apply(run, decision)

    def apply(self, run: StudyRun, decision: Decision) -> None:
        """Applies a recorded decision, new or replayed after a restart.

        Raises InvariantViolated if it is not the next one of its study.
        """
        if decision.index != run.decided:
            raise InvariantViolated(
                f"study {run.name}: decision {decision.index} instead of {run.decided}"
            )
        run.decided += 1
        if decision.index in run.void or decision.kind == "reopen":
            run.tuner.skip(decision)
            if decision.kind == "reopen":
                run.trials[decision.trial].reason = decision.reason
            return
        if run.is_about_replicate(decision):
            run.tuner.skip(decision)
        else:
            run.tuner.apply(decision)
        if decision.kind == "suggest":
            self._add_trial(run, decision)
            return
        trial = run.trials[decision.trial]
        trial.reason = decision.reason
        match decision.kind:
            case "promote":
                trial.take(TrialEvent.PROMOTED)
                trial.target, trial.marks = decision.steps, decision.marks
                self.request(run, trial)
            case "stop":
                if run.replaying and trial.is_missing_result_at(decision.steps):
                    run.stops_due.add(trial.index)  # its result was lost: recompute it
                else:
                    is_cut_short = decision.reason.startswith(STUDY_ENDED)
                    self._stop_trial(run, trial, is_cut_short=is_cut_short)
            case "fail":
                self._apply_failure(run, trial, decision)

    def _add_trial(self, run: StudyRun, decision: Decision) -> None:
        sequence, node = place_trial(
            self._plan, run.name, decision, run.study.spec.steps, merge=self._options.merge
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
        self.request(run, trial)

    def request(self, run: StudyRun, trial: TrialRun) -> None:
        """Requests the trial's target step from the plan, and its marks on the way there."""
        for step in trial.marks:
            if step in trial.results or step > run.last_steps.get(trial.index, step):
                continue
            known = self._plan.mark(trial.node, step, trial.id)
            if known is not None:
                self._deliver(run, trial, step, known)
            if trial.state is not TrialState.PENDING:
                return
        known = self._plan.want(trial.node, trial.target, trial.id, run.lead)
        if known is not None and trial.target <= run.last_steps.get(trial.index, trial.target):
            self._deliver(run, trial, trial.target, known)

    def _stop_trial(self, run: StudyRun, trial: TrialRun, *, is_cut_short: bool = False) -> None:
        if trial.state.is_final:
            return
        if is_cut_short and run.is_interrupted:  # its progress is saved and kept
            self._requests.rest(run, trial)
        else:
            self._requests.withdraw(trial)
            self._retention.trial_ended(trial)
        trial.take(TrialEvent.STOPPED)

    # -- results -----------------------------------------------------------------------------------

    def _deliver(self, run: StudyRun, trial: TrialRun, step: int, metrics: Metrics) -> None:
        """Fulfils a trial's request with a known result."""
        with blame(run.name):
            if self.hand_over(run, trial, step, metrics):
                self.check_target(run, trial)

    def hand_over(self, run: StudyRun, trial: TrialRun, step: int, metrics: Metrics) -> bool:
        """Gives a trial a result; returns whether its objective is finite."""
        metric = run.study.spec.objective.metric
        if metric not in metrics:
            run.lacking.append((trial, step, lacking(metric, metrics)))
            return False
        self._check_test_metric(run, metrics)
        trial.results[step] = metrics
        value = run.objective(metrics)
        if not trial.is_replicate:
            run.tuner.tell(Result(trial.index, step, value))
        if value is None:
            self._requests.withdraw(trial)
            trial.take(TrialEvent.DIVERGED)
            trial.reason = f"{metric} was {metrics[metric]} at step {step}"
            self._retention.trial_ended(trial)
            return False
        if step == trial.target:
            self._requests.unmark(trial)
            is_last = step >= run.study.spec.steps
            trial.take(TrialEvent.COMPLETED if is_last else TrialEvent.REPORTED)
            self._retention.trial_reported(run, trial, step)
            if trial.index in run.stops_due:
                self._stop_trial(run, trial)
        if not trial.is_replicate and run.note_leader(trial):
            self._retention.leaders_changed(run)
        return True

    def _check_test_metric(self, run: StudyRun, metrics: Metrics) -> None:
        """Tells the user, once, that the test metric is missing. This fails no trial."""
        name = run.study.spec.objective.test_metric
        if name is None or name in metrics or run.replaying or run.lacks_test_metric:
            return
        run.lacks_test_metric = True
        has = ", ".join(sorted(metrics))
        message = (
            f"metric {name!r} (testMetric) is not among those that evaluate() returned ({has});"
            f" {self._options.advice.metric.replace('.metric', '.testMetric')}"
        )
        self._outbox.emit(Notify(message, study=run.name))

    def check_target(self, run: StudyRun, trial: TrialRun) -> None:
        """Concludes the study if the trial's latest result has reached the target."""
        latest = trial.latest
        if latest is None or run.replaying or not run.is_active or trial.is_replicate:
            return
        if run.has_reached_target(latest[1]):
            metric = run.study.spec.objective.metric
            message = f"trial {trial.name} reached the target: {metric} {latest[1][metric]:g}"
            self._conclude(run, EndReason.TARGET, message)

    # -- failures ----------------------------------------------------------------------------------

    def fail_trial(self, run: StudyRun, trial: TrialRun, step: int, key: str, message: str) -> None:
        """Records that a trial cannot get beyond ``step``; ``key`` is that of the failed stage."""
        if trial.state is not TrialState.PENDING:
            return
        if not trial.is_replicate:
            run.failing[key] = message
        self.record(run, run.decision("fail", trial, steps=step, reason=message))

    def fail_lacking(self, run: StudyRun) -> None:
        """Fails the trials whose metrics lack the objective.

        This is not done on delivery, because the verdict on a replayed trial is among the decisions
        to come, and several decisions of a tuner are numbered before the first is applied.
        """
        for trial, step, message in run.lacking:
            if trial.state is TrialState.PENDING:
                self._outbox.emit(Notify(message, study=run.name))
                key = trial.node.at(step).key(step)
                self.fail_trial(run, trial, step, key, message)
        run.lacking.clear()

    def _apply_failure(self, run: StudyRun, trial: TrialRun, decision: Decision) -> None:
        self._requests.withdraw(trial)
        trial.take(TrialEvent.FAILED)
        self._retention.keep_last_state(run, trial)
        if trial.is_replicate:
            return
        if run.replaying:
            if not is_same_failure(run.last_failure, decision):
                key = trial.node.at(trial.target).key(trial.target)
                run.failing.setdefault(key, decision.reason)
            run.last_failure = decision
        run.tuner.tell(Result(trial.index, decision.steps, None))

    # -- the end of a study ------------------------------------------------------------------------

    def end_if_over(self, run: StudyRun) -> None:
        """Ends a study if too many stages failed, nothing is left to do, or its budget is spent."""
        spec, advice = run.study.spec, self._options.advice
        if len(run.failing) > spec.max_failed_trials:
            last = list(run.failing.values())[-1]
            told = over_failed_trials(len(run.failing), spec.max_failed_trials, last, advice)
            self.finish(run, StudyEvent.FAIL, EndReason.FAILED_TRIALS, told)
        elif run.has_no_trial_left() and (run.tuner.finished or not run.is_tuning):
            if run.best is None:
                other = "every trial diverged" if run.trials else "none was asked for"
                last = next(reversed(run.failing.values()), other)
                remedy = f"; {advice.mend(last)}" if run.failing else ""
                told = f"no trial succeeded: {last}{remedy}"
                self.finish(run, StudyEvent.FAIL, EndReason.NO_RESULT, told)
            else:
                reason = run.end or EndReason.COMPLETED
                self._conclude(run, reason, run.message or "all trials have ended")
        elif (message := self._accounting.find_spent(run, self._now)) is not None:
            verdict = StudyEvent.SUCCEED if run.best is not None else StudyEvent.FAIL
            self.finish(run, verdict, EndReason.BUDGET, message)

    def _conclude(self, run: StudyRun, reason: EndReason, message: str) -> None:
        """Ends the tuning: replicates the best trials if requested, and then ends the study."""
        run.message, run.end = message, reason
        if run.is_tuning:
            for decision in replicates.suggest(run):
                self.record(run, decision)
            if run.is_replicating:
                self.stop_others(run)
        if run.has_no_trial_left() or run.is_tuning:
            self.finish(run, StudyEvent.SUCCEED, reason, message)

    def _end_tuning(self, run: StudyRun) -> None:
        """Ends the tuner's part: from here on only replicates count."""
        run.open_to_forks = False
        run.is_replicating = True
        self._retention.tuning_ended(run)

    def stop_others(self, run: StudyRun) -> None:
        """Stops the tuner's trials where they are, or all trials once the study has ended.

        This is recorded, so that later results that other studies compute do not count after a
        restart.
        """
        for trial in run.trials:
            if not trial.state.is_final and not (run.is_active and trial.is_replicate):
                steps = trial.latest[0] if trial.latest is not None else 0
                reason = f"{STUDY_ENDED}{run.message}"
                self.record(run, run.decision("stop", trial, steps=steps, reason=reason))

    def finish(
        self, run: StudyRun, event: StudyEvent, reason: EndReason | None, message: str
    ) -> None:
        """Ends a study and stops its trials."""
        if run.is_active:
            run.wall_before += self._now - run.started
        run.take(event)
        run.message, run.end = message, reason
        if run.is_replicating:
            run.best = replicates.find_winner(run)
        best = run.best.index if run.best is not None else None
        # Finish comes first: otherwise a crash could leave an unfinished study whose trials were
        # stopped, and it might never end.
        self._outbox.emit(Finish(run.name, run.state, message, best, reason))
        self.stop_others(run)
        self._retention.study_ended(run)
