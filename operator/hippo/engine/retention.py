"""Decides which checkpoints are kept, and why.

A checkpoint is kept while an unfulfilled want depends on it, or a pin holds it. Pins are reasons
that the search plan does not know: a chain that has yet to load it, a paused trial that may be
promoted, a possible fork of a tuner that may still suggest trials, and the user's retention
settings. Everything else is deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hippo.engine.state import StudyRun, TrialRun
from hippo.lifecycles import TrialState
from hippo.plan import Checkpoint, Node, SearchPlan

Pin = tuple[str, ...]


class Retention:
    """Pins and unpins checkpoints as studies progress; :meth:`unneeded` returns those to delete."""

    def __init__(
        self, plan: SearchPlan, studies: Mapping[str, StudyRun], kept: Callable[[str], bool]
    ) -> None:
        self._plan = plan
        self._studies = studies
        self._kept = kept
        self.touched: set[Node] = set()

    def pin(self, checkpoint: Checkpoint, pin: Pin) -> None:
        checkpoint.pins.add(pin)

    def unpin(self, checkpoint: Checkpoint, pin: Pin) -> None:
        checkpoint.pins.discard(pin)
        self.touched.add(checkpoint.node)

    def pin_attached(self) -> None:
        """Pins stored checkpoints that a new sequence has reached."""
        for checkpoint in self._plan.attached:
            if self._kept(checkpoint.key):
                self.pin(checkpoint, ("kept",))
            self._pin_possible(checkpoint)
            for run in self._studies.values():
                if run.study.spec.checkpoints.retain == "all":
                    self.pin(checkpoint, ("all", run.name))
            self.touched.add(checkpoint.node)
        self._plan.attached.clear()

    def saved(self, checkpoint: Checkpoint, *, planned: bool, studies: tuple[str, ...]) -> None:
        """Handles a saved checkpoint; ``planned`` is False for saves by time alone."""
        self.touched.add(checkpoint.node)
        if not planned:
            return
        self._pin_possible(checkpoint)
        for name in studies:
            if self._studies[name].study.spec.checkpoints.retain == "all":
                self.pin(checkpoint, ("all", name))

    def _pin_possible(self, checkpoint: Checkpoint) -> None:
        for run in self._studies.values():
            if checkpoint.step in run.possible_needs(checkpoint.node):
                self.pin(checkpoint, ("possible", run.name))
                run.possible_pins.append(checkpoint)

    def trial_reported(self, run: StudyRun, trial: TrialRun, step: int) -> None:
        """Keeps a trial's state at ``step`` while it may be promoted."""
        self.trial_ended(trial)
        checkpoint = trial.node.at(step).checkpoints.get(step)
        if checkpoint is None:
            return
        if not trial.is_replicate and run.tuner.may_continue(trial.index):
            self.pin(checkpoint, ("trial", trial.name))
            trial.pinned = checkpoint
        if run.study.spec.checkpoints.retain == "all":
            self.pin(checkpoint, ("all", run.name))

    def trial_ended(self, trial: TrialRun) -> None:
        if trial.pinned is not None:
            self.unpin(trial.pinned, ("trial", trial.name))
            trial.pinned = None

    def keep_last_state(self, run: StudyRun, trial: TrialRun) -> None:
        """Pins the last state of a trial that has ended and may still resume from it."""
        self.trial_ended(trial)
        latest = trial.node.latest_checkpoint(trial.target)
        if latest is not None and run.study.spec.checkpoints.retain != "none":
            self.pin(latest, ("trial", trial.name))
            trial.pinned = latest

    def leaders_changed(self, run: StudyRun) -> None:
        """Pins the leaders' states after the leaders or their progress have changed."""
        if run.study.spec.checkpoints.retain != "none":
            self._hold(run, run.leaders)

    def _hold(self, run: StudyRun, trials: list[TrialRun]) -> None:
        """Pins the last states of these trials as a study's best, and unpins all others."""
        for pinned in run.leader_pins:
            self.unpin(pinned, ("best", run.name))
        run.leader_pins = []
        for trial in trials:
            latest = trial.latest
            assert latest is not None
            checkpoint = trial.node.at(latest[0]).checkpoints.get(latest[0])
            if checkpoint is not None:
                self.pin(checkpoint, ("best", run.name))
                run.leader_pins.append(checkpoint)

    def tuner_exhausted(self, run: StudyRun) -> None:
        """Unpins unused forks, because no more trials will be drawn."""
        run.open_to_forks = False
        self._unpin_possible(run)

    def tuning_ended(self, run: StudyRun) -> None:
        """Unpins the states of the tuner's trials, none of which continues."""
        self._unpin_possible(run)
        for trial in run.trials:
            if trial.state is not TrialState.FAILED:
                self.trial_ended(trial)

    def study_ended(self, run: StudyRun) -> None:
        """Keeps only what the study retains: best, all or nothing.

        If it can be resumed, everything that it needs for that stays as well.
        """
        if run.is_interrupted:
            return
        run.open_to_forks = False
        self.tuning_ended(run)
        if run.leader_pins and run.best is not None:
            self._hold(run, [run.best])

    def study_removed(self, run: StudyRun) -> None:
        """Unpins everything that the study could have resumed from."""
        run.open_to_forks = False
        self._unpin_possible(run)
        for trial in run.trials:
            self.trial_ended(trial)

    def _unpin_possible(self, run: StudyRun) -> None:
        """Unpins what the study can no longer need."""
        still: list[Checkpoint] = []
        for checkpoint in run.possible_pins:
            if checkpoint.step in run.possible_needs(checkpoint.node):
                still.append(checkpoint)
            else:
                self.unpin(checkpoint, ("possible", run.name))
        run.possible_pins = still

    def unneeded(self) -> list[Checkpoint]:
        """Returns the unneeded checkpoints of the nodes touched since the last call."""
        found = [
            checkpoint
            for node in sorted(self.touched, key=lambda node: node.number)
            for checkpoint in node.checkpoints.values()
            if not checkpoint.pins and not _is_leaned_on(node, checkpoint.step)
        ]
        self.touched.clear()
        return found


def _is_leaned_on(node: Node, step: int) -> bool:
    """Whether an unfulfilled want needs the state at ``step``, even if a chain has promised it."""
    following = min((other for other in node.checkpoints if other > step), default=None)
    if following is None and node.leaning_children > 0:
        return True
    return any(step <= want and (following is None or want < following) for want in node.wants)
