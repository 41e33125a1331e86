"""Requests of trials to the plan: withdrawal and suspension."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hippo.engine.retention import Retention
from hippo.engine.state import StudyRun, TrialRun
from hippo.lifecycles import EndReason, TrialState
from hippo.plan import Claim, SearchPlan


class TrialRequests:
    """Keeps the plan, the retained checkpoints and the running chains consistent."""

    def __init__(
        self,
        plan: SearchPlan,
        retention: Retention,
        reconsider: Callable[[Iterable[Claim]], None],
    ) -> None:
        """``reconsider`` is called with the claims on whose route something is no longer wanted."""
        self._plan = plan
        self._retention = retention
        self._reconsider = reconsider

    def withdraw(self, trial: TrialRun) -> None:
        """Withdraws everything that a pending trial still wants."""
        if trial.state is TrialState.PENDING:
            node = trial.node.at(trial.target)
            self._plan.unwant(trial.node, trial.target, trial.id)
            self.unmark(trial)
            self._reconsider(node.claims)

    def unmark(self, trial: TrialRun) -> None:
        """Withdraws a trial's marks."""
        for step in trial.marks:
            self._plan.unmark(trial.node, step, trial.id)

    def reconsider(self, trial: TrialRun) -> None:
        """Updates running chains after the rank of a trial's request has changed."""
        self._reconsider(trial.node.at(trial.target).claims)

    def rest(self, run: StudyRun, trial: TrialRun) -> None:
        """Keeps a request and the checkpoints it needs, although it is not worked on."""
        if trial.state is TrialState.PENDING:
            self.unmark(trial)
            known = self._plan.want(trial.node, trial.target, trial.id, run.lead)
            if known is not None:  # a result arrived since it was stopped
                self._retention.keep_last_state(run, trial)
            self.reconsider(trial)

    def rest_all(self, run: StudyRun) -> None:
        """Suspends the remaining requests of a study that had ended before."""
        for trial in run.trials:
            node = trial.node.at(trial.target)
            want = node.wants.get(trial.target)
            if want is not None and trial.id in want.trials:
                self._plan.want(node, trial.target, trial.id, run.lead)

    def remove_all(self, run: StudyRun) -> None:
        """Releases everything that a study could have resumed from."""
        run.end = EndReason.REMOVED
        for trial in run.trials:
            self._plan.unwant(trial.node, trial.target, trial.id)
        self._retention.study_removed(run)
