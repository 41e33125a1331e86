"""Handles chains that do not end normally: retries, back-off, verdicts.

A failed chain is retried from its last checkpoint, with exponential back-off. A failure that is not
the trainer's fault does not count as an attempt. A stage that fails for good fails only the trials
that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from hippo.engine.commands import Command, DeleteCheckpoint, Halt, Notify, WakeAt
from hippo.engine.options import EngineOptions
from hippo.engine.retries import Retries, StoreTrouble, Trouble
from hippo.engine.state import ChainRun, StudyRun, TrialRun
from hippo.plan import Node, SearchPlan
from hippo.protocol.reports import Outcome, WorkerError

MAX_STORE_FAILURES = 5
"""The engine halts when more chains in a row than this have ended because of the store."""
LONGEST_STORE_PAUSE = 60.0
"""Longest pause, in seconds, between two chains that try a failing store."""

FailTrial = Callable[[StudyRun, TrialRun, int, str, str], None]
"""Records that a trial cannot reach a step: (study, trial, step, content key, message)."""


class FailurePolicy:
    """Counts retries, from zero in every run; verdicts are durable decisions."""

    def __init__(
        self,
        plan: SearchPlan,
        studies: dict[str, StudyRun],
        options: EngineOptions,
        *,
        emit: Callable[[Command], None],
        fail_trial: FailTrial,
    ) -> None:
        self.has_halted = False
        self._plan = plan
        self._studies = studies
        self._options = options
        self._emit = emit
        self._fail_trial = fail_trial
        self._failures: dict[str, int] = {}  # failed attempts by the key of a chain's first stage
        self._refused: dict[str, int] = {}  # refused attempts by the same key
        self._idle_preemptions: dict[str, int] = {}  # before any training, by the same key
        self._held: list[tuple[float, Node]] = []
        self._store = StoreTrouble(lambda n: min(self._pause(n), LONGEST_STORE_PAUSE))
        self._retries = Retries()
        self._now = 0.0

    def note_end(
        self, chain: ChainRun, outcome: Outcome, error: WorkerError | None, now: float
    ) -> None:
        """Handles the end of a chain whose promises were released."""
        self._now = now
        match outcome:
            case Outcome.STOPPED if not chain.begun:
                pass  # withdrawn before it started, so it says nothing about its work
            case Outcome.COMPLETED | Outcome.STOPPED:
                self._failures.pop(chain.origin, None)
                self._refused.pop(chain.origin, None)
                self._idle_preemptions.pop(chain.origin, None)
                self._retries.forget(chain.origin)
            case Outcome.PREEMPTED:
                self._note_preemption(chain)
            case Outcome.REFUSED if self._options.keeps_foreign and not _is_made_elsewhere(error):
                self._wait_for_another(chain, error)
            case Outcome.CORRUPT | Outcome.REFUSED:
                self._drop_start(chain, error)
            case Outcome.STORE:
                self._note_store_failure(chain, error)
            case Outcome.INVALID:
                self._fail_for_good(chain, error)
            case Outcome.FAILED | Outcome.LOST:
                self._retry_or_fail(chain, error)

    def note_report(self) -> None:
        """Records that a worker has written to the store."""
        self._store.note_report()

    def note_saved(self, chain: ChainRun) -> None:
        """Records that a chain has saved a checkpoint: the store and its trainer work."""
        self._store.note_saved()
        self._retries.forget(chain.origin)

    def limit_workers(self, workers: int, chains: Collection[ChainRun], now: float) -> int:
        """Returns the number of workers allowed while workers cannot use the store."""
        return self._store.limit(workers, chains, now)

    def note_launch(self, now: float) -> None:
        """Records that chains were launched."""
        again = self._store.note_launch(now)
        if again is not None:
            self._emit(WakeAt(again))

    def find_trouble(self, study: str) -> Trouble | None:
        """Returns why a study is not progressing normally, or None."""
        if self._store.is_told:
            return Trouble(self._store.message, is_store=True)
        message = self._retries.find(study)
        return Trouble(message) if message is not None else None

    def _drop_start(self, chain: ChainRun, error: WorkerError | None) -> None:
        start = chain.claim.start
        node = chain.claim.node.at(start)
        checkpoint = node.checkpoints.get(start)
        reason = error.message if error is not None else "it cannot be used"
        if checkpoint is not None:
            self._plan.drop_checkpoint(checkpoint)
            self._emit(DeleteCheckpoint(checkpoint.key, checkpoint.step))
        self._emit(Notify(f"checkpoint at step {start}: {reason}; it is trained again"))

    def _note_preemption(self, chain: ChainRun) -> None:
        """Continues from the last save: preemption is not the trainer's fault.

        If workers are preempted repeatedly before they have trained, the next one waits, longer
        each time.
        """
        if chain.trained:
            self._idle_preemptions.pop(chain.origin, None)
            return
        count = self._idle_preemptions.get(chain.origin, 0) + 1
        self._idle_preemptions[chain.origin] = count
        if count > 1:
            self._hold(chain, self._pause(count - 1))

    def _wait_for_another(self, chain: ChainRun, error: WorkerError | None) -> None:
        """Backs off, so that a worker of another kind may take the checkpoint."""
        refused = self._refused.get(chain.origin, 0) + 1
        self._refused[chain.origin] = refused
        pause = self._pause(refused)
        reason = error.message if error is not None else "the worker is of another kind"
        self._emit(Notify(f"{reason}; another worker is tried in {pause:g} s", study=chain.study))
        self._hold(chain, pause)

    def _note_store_failure(self, chain: ChainRun, error: WorkerError | None) -> None:
        message = error.message if error is not None else "the store failed"
        again = self._store.note_failure(chain, message, self._now)
        if self._store.failures > MAX_STORE_FAILURES and not self._options.outlasts_store:
            self.has_halted = True
            self._emit(Halt(message))
            return
        if self._store.failures == 1:
            self._emit(Notify(f"{message}; trying again"))
        self._emit(WakeAt(again))

    def _retry_or_fail(self, chain: ChainRun, error: WorkerError | None) -> None:
        attempts = self._failures.get(chain.origin, 0) + 1
        self._failures[chain.origin] = attempts
        retries = self._studies[chain.study].study.spec.retries
        message = error.message if error is not None else "the worker died"
        if attempts > retries:
            self._fail_for_good(chain, error)
            return
        pause = self._pause(attempts)
        told = f"{message}; retry {attempts} of {retries} in {pause:g} s"
        self._retries.note(chain, told)
        self._emit(Notify(told, study=chain.study))
        self._hold(chain, pause)

    def _pause(self, attempt: int) -> float:
        return min(self._options.retry_pause * 2.0 ** (attempt - 1), self._options.longest_pause)

    def _hold(self, chain: ChainRun, pause: float) -> None:
        """Pauses the work that the chain leaves behind."""
        claim = chain.claim
        until = self._now + pause
        step = claim.start
        latest = claim.node.at(claim.stop_at).latest_checkpoint(claim.stop_at)
        if latest is not None:
            step = max(step, latest.step)
        node = claim.node.at(min(step + 1, claim.stop_at))
        node.holds[step] = until
        self._held.append((until, node))
        self._plan.changed.add(node)
        self._emit(WakeAt(until))

    def free_held(self, now: float) -> None:
        """Resumes work whose pause is over."""
        due = [entry for entry in self._held if entry[0] <= now]
        if due:
            self._held = [entry for entry in self._held if entry[0] > now]
            for _, node in due:
                # A split may have moved the hold to an upper half since.
                self._plan.changed.update(node.path())

    def _fail_for_good(self, chain: ChainRun, error: WorkerError | None) -> None:
        """Fails only the trials that need what the chain could not do."""
        self._retries.forget(chain.origin)
        claim = chain.claim
        message = error.message if error is not None else "the worker died"
        if error is not None and error.during == "import":
            scope, step = self._plan.root, 0
        elif error is not None and error.during == "evaluate":
            node = claim.node.at(error.step)
            self._fail_wants([(node, error.step)], node.key(error.step), message)
            return
        else:
            reached = (
                error.step if error is not None and error.during != "setup" else claim.position
            )
            step = min(max(reached, claim.start) + 1, claim.stop_at)
            scope = claim.node.at(step)
        key = scope.key(step) if step else "import"
        wants = [
            (node, wanted)
            for node in scope.below()
            for wanted in sorted(node.wants)
            if wanted >= step
        ]
        self._fail_wants(wants, key, message)

    def _fail_wants(self, wants: Iterable[tuple[Node, int]], key: str, message: str) -> None:
        told: set[str] = set()
        for node, step in wants:
            if step not in node.wants:
                continue
            for study, index in self._plan.give_up(node, step):
                run = self._studies[study]
                if study not in told:
                    told.add(study)
                    self._emit(Notify(message, study=study))
                self._fail_trial(run, run.trials[index], step, key, message)


def _is_made_elsewhere(error: WorkerError | None) -> bool:
    """Whether the checkpoint, not the worker, is of another kind than the plan's.

    The worker's kind is checked first. The checkpoint was begun before the plan's kind was known,
    and no worker will ever accept it.
    """
    return error is not None and error.during == "load"
