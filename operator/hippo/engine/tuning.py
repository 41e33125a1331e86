"""Lets tuners decide until they have nothing to add, and ends studies that are over."""

from __future__ import annotations

from collections.abc import Mapping

from hippo.engine.commands import Refuse
from hippo.engine.outbox import Outbox
from hippo.engine.scheduling.scheduler import Scheduler
from hippo.engine.state import StudyRun
from hippo.engine.studies import StudyProgress
from hippo.lifecycles import blame
from hippo.plan import Frontier
from hippo.protocol.requests import Request


class Tuning:
    """Asks the tuners of all studies, those of high priority first."""

    def __init__(
        self,
        studies: Mapping[str, StudyRun],
        progress: StudyProgress,
        scheduler: Scheduler,
        frontier: Frontier,
        outbox: Outbox,
    ) -> None:
        self._studies = studies
        self._progress = progress
        self._scheduler = scheduler
        self._frontier = frontier
        self._outbox = outbox

    def decide(self, now: float) -> None:
        """Lets every tuner decide until it has nothing to add; then ends studies that are over."""
        for run in sorted(self._studies.values(), key=lambda run: run.lead, reverse=True):
            with blame(run.name):
                self._decide_for(run, now)
        self._frontier.refresh(now)

    def note_request(self, study: str, number: int, request: Request, *, was_refused: bool) -> None:
        """Passes a user's request to the tuner of an external study."""
        with blame(study):
            tuner = self._studies[study].tuner
            if was_refused:
                tuner.refuse(number)
            else:
                tuner.submit(number, request)

    def _decide_for(self, run: StudyRun, now: float) -> None:
        self._progress.fail_lacking(run)
        self._refuse(run)
        while run.is_tuning:
            decisions = run.tuner.decide(self._scheduler.count_idle(run))
            if not decisions:
                break
            for decision in decisions:
                if not run.is_tuning:
                    break  # an earlier decision has reached the target
                self._progress.record(run, decision)
            self._frontier.refresh(now)
            self._progress.fail_lacking(run)
            self._refuse(run)
        if run.is_active:
            self._progress.end_if_over(run)

    def _refuse(self, run: StudyRun) -> None:
        while run.is_active and (refusal := run.tuner.refusal()) is not None:
            number, message = refusal
            self._outbox.emit(Refuse(run.name, number, message))
            run.tuner.refuse(number)
