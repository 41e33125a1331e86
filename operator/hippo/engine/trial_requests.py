"""What trials ask of the plan, taken back or put to rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hippo.engine.retention import Retention
from hippo.engine.state import StudyRun, TrialRun
from hippo.lifecycles import EndReason, TrialState
from hippo.plan import Claim, SearchPlan


class TrialRequests:
    """Keeps the plan, the retained checkpoints and the running chains in step with each other."""

    def __init__(
        self,
        plan: SearchPlan,
        retention: Retention,
        reconsider: Callable[[Iterable[Claim]], None],
    ) -> None:
        """``reconsider`` is told of chains on whose way something is no longer wanted."""
        self._plan = plan
        self._retention = retention
        self._reconsider = reconsider

    def withdraw(self, trial: TrialRun) -> None:
        """Take back all that a trial under way still asks for."""
        if trial.state is TrialState.PENDING:
            node = trial.node.at(trial.target)
            self._plan.unwant(trial.node, trial.target, trial.id)
            self.unmark(trial)
            self._reconsider(node.claims)

    def unmark(self, trial: TrialRun) -> None:
        """Take a trial's marks back."""
        for step in trial.marks:
            self._plan.unmark(trial.node, step, trial.id)

    def reconsider(self, trial: TrialRun) -> None:
        """The rank of a trial's request has changed."""
        self._reconsider(trial.node.at(trial.target).claims)

    def rest(self, run: StudyRun, trial: TrialRun) -> None:
        """Let a request stand, and so what it leans on, though nobody works for it."""
        if trial.state is TrialState.PENDING:
            self.unmark(trial)
            known = self._plan.want(trial.node, trial.target, trial.id, run.lead)
            if known is not None:  # since it was stopped
                self._retention.keep_last_state(run, trial)
            self.reconsider(trial)

    def rest_all(self, run: StudyRun) -> None:
        """Let nobody work for what stands of a study that had ended before."""
        for trial in run.trials:
            node = trial.node.at(trial.target)
            want = node.wants.get(trial.target)
            if want is not None and trial.id in want.trials:
                self._plan.want(node, trial.target, trial.id, run.lead)

    def remove_all(self, run: StudyRun) -> None:
        """Let go of all that a study would have gone on from."""
        run.end = EndReason.REMOVED
        for trial in run.trials:
            self._plan.unwant(trial.node, trial.target, trial.id)
        self._retention.study_removed(run)
