"""Adds, changes and removes studies."""

from __future__ import annotations

from collections.abc import Iterable

from hippo.engine.events import StudyAdded, StudyChanged
from hippo.engine.options import EngineOptions
from hippo.engine.reopening import find_void
from hippo.engine.state import StudyRun
from hippo.engine.studies import StudyProgress
from hippo.engine.trial_requests import TrialRequests
from hippo.lifecycles import (
    End,
    EndReason,
    InvariantViolated,
    StudyEvent,
    StudyState,
    TrialState,
    blame,
)
from hippo.protocol.decisions import Decision
from hippo.tune import FollowingTuner, create_tuner


class StudyIntake:
    """Handles events about whole studies; ``studies`` holds the state of each by name."""

    def __init__(
        self,
        studies: dict[str, StudyRun],
        progress: StudyProgress,
        requests: TrialRequests,
        options: EngineOptions,
    ) -> None:
        self._studies = studies
        self._progress = progress
        self._requests = requests
        self._options = options

    def add(self, event: StudyAdded, now: float) -> None:
        """Replays a study's decisions and continues it, unless it has ended for good.

        Raises InvariantViolated if the study is already known.
        """
        study = event.study
        if study.name in self._studies:
            raise InvariantViolated(f"study {study.name} was added before")
        tuner = create_tuner(study)
        if event.followed:
            tuner = FollowingTuner(study, tuner, event.followed)
        run = StudyRun(
            study=study,
            tuner=tuner,
            order=len(self._studies),
            started=now,
            worker_seconds=event.worker_seconds,
            steps_trained=event.steps_trained,
            wall_before=event.wall_seconds,
        )
        run.tuner.window = self._options.window
        self._studies[study.name] = run
        end = End(*event.ended) if event.ended is not None else None
        if end is not None and not event.reopened:
            run.end = end.reason
        self._replay(run, event.decisions)
        if end is not None:
            verdict = StudyEvent.SUCCEED if end.state is StudyState.SUCCEEDED else StudyEvent.FAIL
            if not event.reopened:
                self._progress.finish(run, verdict, end.reason, end.message)
                self._requests.rest_all(run)
                return
            run.take(verdict)
            run.take(StudyEvent.REOPEN)
        if study.spec.suspend:
            self._suspend(run)
        else:
            for trial in list(run.trials):
                self._progress.check_target(run, trial)

    def change(self, event: StudyChanged, now: float) -> None:
        """Applies edits of a study: its limits, its priority, whether it is suspended."""
        with blame(event.study.name):
            run = self._studies[event.study.name]
            run.study = event.study
            run.tuner.resize(event.study.spec.max_trials)
            if event.study.spec.suspend and run.is_active:
                run.wall_before += now - run.started
                self._suspend(run)
            elif run.state is StudyState.SUSPENDED and not event.study.spec.suspend:
                run.take(StudyEvent.RESUME)
                run.started = now
            self._request_again(run)

    def remove(self, name: str) -> None:
        """Fails a study that has not ended, and releases everything that it could resume from."""
        run = self._studies[name]
        if not run.state.is_final:
            self._progress.finish(run, StudyEvent.FAIL, EndReason.REMOVED, "removed")
        self._requests.remove_all(run)

    def _replay(self, run: StudyRun, decisions: tuple[Decision, ...]) -> None:
        run.replaying = True
        run.void = find_void(decisions)
        run.last_steps = _last_steps(d for d in decisions if d.index not in run.void)
        for decision in decisions:
            self._progress.apply(run, decision)
        run.last_steps.clear()
        run.replaying = False
        if run.is_replicating:
            self._progress.stop_others(run)

    def _suspend(self, run: StudyRun) -> None:
        """Suspends a study: its wants and the checkpoints they need stay, but are not worked on."""
        run.take(StudyEvent.SUSPEND)
        self._request_again(run)

    def _request_again(self, run: StudyRun) -> None:
        """Renews the study's requests, because its rank has changed."""
        for trial in run.trials:
            if trial.state is TrialState.PENDING:
                self._progress.request(run, trial)
                self._requests.reconsider(trial)


def _last_steps(decisions: Iterable[Decision]) -> dict[int, int]:
    """Returns the last step whose result counts, for trials that were stopped or failed."""
    return {
        decision.trial: decision.steps - (decision.kind == "fail")
        for decision in decisions
        if decision.kind in ("stop", "fail")
    }
