"""One chain from start to end: the training loop between the store and a trainer.

The loop only trains: ``Writer`` writes the store and ``Poller`` reads it, each in a thread. Between
two steps the loop only reads attributes, so its overhead is microseconds per step.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from pathlib import Path

from hippo.protocol.assignments import Assignment
from hippo.protocol.records import Manifest
from hippo.protocol.reports import (
    Arrived,
    Began,
    ControlAnswered,
    During,
    Ended,
    MetricsReported,
    Outcome,
    WorkerError,
)
from hippo.protocol.routes import InvalidRoute
from hippo.store import CorruptCheckpoint, PlanStore, StoreError
from stage_runner.checkpoints.codec import UnsavableState, snapshot
from stage_runner.checkpoints.writer import Counts, Save, Writer
from stage_runner.control import Poller, choose_course
from stage_runner.entry_point import EntryPointError, load_trainer
from stage_runner.environment import set_threads
from stage_runner.failures import describe, print_traceback, say
from stage_runner.fingerprint import take_fingerprint
from stage_runner.hints import Hints
from stage_runner.metrics import InvalidTrainer, check_metrics
from stage_runner.pulse import Pulse, Standing
from stage_runner.randomness import seed_generators
from stage_runner.start import (
    Refused,
    build_trainer,
    check_place,
    copy_values,
    find_checkpoint,
    load_checkpoint,
    read_course,
)
from stage_runner.termination import EXIT_CODES, Termination, exit_fork
from stage_runner.watch import Watch

_HINT_SECONDS = 0.2
_LAST_WORDS_SECONDS = 5.0  # for the last report of a worker that exits in mid-step


class Chain:
    """Carries out one assignment. Construct it in the main thread of a process of its own."""

    def __init__(
        self,
        assignment: Assignment,
        store: PlanStore,
        *,
        path: Path,
        launched: float,  # time.monotonic() when the worker began
        hints: Hints | None = None,
        pulse: Pulse | None = None,
        signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
    ) -> None:
        self._assignment = assignment
        self._store = store
        self._path = path
        self._launched = launched
        self._hints = hints if hints is not None else Hints()
        self._writer = Writer(store, on_report=self._hints.reported)
        self._termination = Termination(
            grace_seconds=assignment.grace_seconds, on_expiry=self._leave_unsaved, signals=signals
        )
        self._pulse = pulse if pulse is not None else Pulse()
        self._watch = Watch(
            self._pulse,
            path=path,
            limit=assignment.step_timeout_seconds,
            on_overdue=self._leave_overdue,
        )
        self._pid = os.getpid()
        self._poller: Poller | None = None
        self._step = assignment.start
        self._trained = 0
        self._train_seconds = 0.0
        self._saved = {assignment.start}
        self._evaluated: set[int] = set()
        self._during: During = "start"
        self._hint_at = 0.0
        self._save_due = math.inf

    def run(self) -> int:
        """Train, and report the outcome. Returns the exit status of the process."""
        self._enter("start")
        self._watch.start()
        try:
            return self._run()
        finally:
            self._watch.close()
            self._writer.close()
            self._termination.close()
            if self._poller is not None:
                self._poller.close()

    def _run(self) -> int:
        try:
            outcome = self._train()
            self._rest()
            return self._finish(outcome, None)
        except CorruptCheckpoint as error:
            return self._fail(Outcome.CORRUPT, str(error))
        except StoreError as error:
            self._during = "store"
            return self._fail(Outcome.STORE, str(error))
        except Refused as error:
            return self._fail(Outcome.REFUSED, str(error))
        except EntryPointError as error:
            if error.__cause__ is not None:
                print_traceback(error.__cause__)
            return self._fail(Outcome.INVALID, str(error))
        except (InvalidTrainer, InvalidRoute, UnsavableState) as error:
            return self._fail(Outcome.INVALID, str(error))
        except BaseException as error:  # KeyboardInterrupt too: signals are handled elsewhere
            self._leave_if_forked(error)
            print_traceback(error)
            return self._fail(Outcome.FAILED, describe(error, self._path))

    def _train(self) -> Outcome:
        self._prepare()
        chain, seconds = self._assignment.chain, self._assignment.poll_seconds
        self._poller = poller = Poller(self._store, chain, poll_seconds=seconds)
        if self._step:
            self._do_marks()
        while True:
            self._writer.check()
            if self._termination.asked.is_set():
                self._termination.settle()
                self._save()
                return Outcome.PREEMPTED
            if poller.has_news and self._take_control(poller) and self._is_at_end():
                self._save_at_stop()
                return Outcome.STOPPED
            if self._is_at_end():
                self._save_at_stop()
                if not self._wait_for_route(poller):
                    return Outcome.COMPLETED
                continue
            now = self._train_step()
            if self._step >= self._mark:
                self._do_marks()
            elif now >= self._save_due:
                self._save()

    def _prepare(self) -> None:
        """Import, set up and load the trainer, and report Began."""
        assignment, call = self._assignment, self._assignment.trainer
        self._course = read_course(assignment)
        self._mark = self._course.next_mark(self._step)
        set_threads(call.threads)
        self._enter("import")
        trainer_class = load_trainer(call.entrypoint, self._path)
        set_threads(call.threads)
        self._enter("setup")
        self._trainer = build_trainer(trainer_class, seed=call.seed)
        self._trainer.setup(call.config, copy_values(self._course.sequence.values(0)))
        self._leave_if_forked()
        self._termination.renew()
        self._fingerprint = take_fingerprint(threads=call.threads, device=self._trainer.device)
        set_up = time.monotonic()
        check_place(assignment, self._fingerprint)
        self._during = "load"
        self._rest()
        if self._step:
            self._writer.expect(self._load())
        self._during = "step"
        self._rest()
        counts = self._counts()
        start_seconds, load_seconds = set_up - self._launched, time.monotonic() - set_up
        self._writer.report(
            lambda number: Began(
                sequence_number=number,
                studies=assignment.studies,
                fingerprint=self._fingerprint,
                start_seconds=start_seconds,
                load_seconds=load_seconds,
                **counts,
            )
        )
        self._writer.flush()  # fails if this chain may not begin, since another does its work
        self._reset_save_timer()

    def _load(self) -> int:
        """Load the start checkpoint; returns its size in bytes."""
        key = self._course.sequence.key(self._step, self._assignment.signature)
        manifest = find_checkpoint(self._store, self._assignment, key, self._fingerprint)
        load_checkpoint(self._trainer, manifest, lambda: self._read(manifest))
        self._leave_if_forked()
        return manifest.size

    def _read(self, manifest: Manifest) -> bytes:
        """Read a checkpoint. The time after that counts as the trainer's loading."""
        data = self._store.read_checkpoint(manifest)
        self._enter("load")
        return data

    def _train_step(self) -> float:
        """Train one step; return the time of its end, by time.perf_counter()."""
        step = self._step
        values = copy_values(self._course.sequence.values(step))
        seed_generators("step", self._assignment.trainer.seed, step)
        began = time.perf_counter()
        self._pulse.note_step(step, began)
        metrics = self._trainer.step(values)
        now = time.perf_counter()
        if os.getpid() != self._pid:
            self._leave_if_forked()
        self._train_seconds += now - began
        self._trained += 1
        self._step = step + 1
        if now >= self._hint_at:
            self._hint_at = now + _HINT_SECONDS
            self._hints.progressed(self._step, metrics)
        return now

    def _do_marks(self) -> None:
        """Save and evaluate as the route asks at this step, unless that was done already."""
        step, course = self._step, self._course
        self._mark = course.next_mark(step)
        if step in course.saves:
            self._save()
        if step in course.evaluations and step not in self._evaluated:
            self._evaluate()

    def _save(self) -> None:
        if self._step in self._saved:
            return
        if self._termination.asked.is_set():
            self._termination.settle()
        self._rest()
        self._during = "save"
        key = self._course.sequence.key(self._step, self._assignment.signature)
        began = time.perf_counter()
        memory = self._writer.wait_for_room()
        self._enter("save")
        try:
            taken = snapshot(self._trainer.state_dict(), memory)
        except BaseException:
            self._writer.give_up_room(memory)
            raise
        self._rest()
        self._leave_if_forked()
        copy_seconds = time.perf_counter() - began
        self._writer.save(Save(taken, memory, key, self._fingerprint, copy_seconds, self._counts()))
        self._saved.add(self._step)
        self._reset_save_timer()
        self._during = "step"

    def _evaluate(self) -> None:
        if self._termination.asked.is_set():
            return  # the state is saved; the chain that continues from it evaluates first
        seed_generators("evaluate", self._assignment.trainer.seed, self._step)
        self._enter("evaluate")
        began = time.perf_counter()
        metrics = check_metrics(self._trainer.evaluate())
        self._rest()
        self._leave_if_forked()
        seconds = time.perf_counter() - began
        key = self._course.sequence.key(self._step, self._assignment.signature)
        counts = self._counts()
        self._writer.report(
            lambda number: MetricsReported(
                sequence_number=number,
                key=key,
                metrics=metrics,
                evaluate_seconds=seconds,
                **counts,
            )
        )
        self._evaluated.add(self._step)
        self._during = "step"

    def _take_control(self, poller: Poller) -> bool:
        """Answer the newest control. Returns whether the chain now follows it."""
        control = poller.take()
        if control is None:
            return False
        course = choose_course(
            control, self._course, self._step, saved=self._saved, evaluated=self._evaluated
        )
        accepted = course is not None
        if course is not None:
            self._course, self._mark = course, course.next_mark(self._step)
        counts, version = self._counts(), control.version
        self._writer.report(
            lambda number: ControlAnswered(
                sequence_number=number, version=version, accepted=accepted, **counts
            )
        )
        if accepted and self._step:
            self._do_marks()
        return accepted

    def _is_at_end(self) -> bool:
        return self._step >= self._course.stop_at

    def _save_at_stop(self) -> None:
        if self._course.route.save_at_stop:
            self._save()

    def _wait_for_route(self, poller: Poller) -> bool:
        """Wait at the end of the route. Returns whether a new one leads beyond this step."""
        if self._assignment.linger_seconds <= 0:
            return False
        self._rest()
        self._writer.flush()
        counts = self._counts()
        self._writer.report(lambda number: Arrived(sequence_number=number, **counts))
        deadline = time.monotonic() + self._assignment.linger_seconds
        while (remaining := deadline - time.monotonic()) > 0:
            poller.wait(remaining, interrupted=self._termination.asked)
            if self._termination.asked.is_set():
                return False
            if poller.has_news and self._take_control(poller):
                if not self._is_at_end():
                    return True
                self._save_at_stop()
                return False
        return False

    def _reset_save_timer(self) -> None:
        seconds = self._assignment.save_every_seconds
        self._save_due = math.inf if seconds is None else time.perf_counter() + seconds

    def _counts(self) -> Counts:
        return {
            "chain": self._assignment.chain,
            "step": self._step,
            "trained": self._trained,
            "train_seconds": self._train_seconds,
            "worker_seconds": time.monotonic() - self._launched,
        }

    def _enter(self, during: During) -> None:
        """Record the current activity, for the watch and for errors."""
        self._during = during
        self._pulse.note(during, self._step, time.perf_counter())

    def _rest(self) -> None:
        """Record that no call of the trainer is running."""
        self._pulse.note("store", self._step, time.perf_counter())

    def _leave_if_forked(self, error: BaseException | None = None) -> None:
        """Exit if this process is one that the trainer has forked."""
        if os.getpid() != self._pid:
            exit_fork(error)

    def _fail(self, outcome: Outcome, message: str) -> int:
        error = WorkerError(during=self._during, message=message, step=self._step)
        self._rest()
        return self._finish(outcome, error)

    def _finish(self, outcome: Outcome, error: WorkerError | None) -> int:
        self._leave_if_forked()
        counts = self._counts()
        self._termination.settle()
        if error is not None:
            say(f"{self._assignment.chain}: {error.message}")
        try:
            self._writer.finish(
                lambda number: Ended(sequence_number=number, outcome=outcome, error=error, **counts)
            )
        except StoreError as failure:
            say(f"{self._assignment.chain}: {failure}")
            return EXIT_CODES[Outcome.STORE]
        return EXIT_CODES[outcome]

    def _leave_overdue(self, standing: Standing, message: str) -> None:
        """Exit: a call has exceeded its limit. Called by the watching thread; does not return."""
        error = WorkerError(during=standing.during, message=message, step=standing.step)
        seconds = max(_LAST_WORDS_SECONDS, self._assignment.grace_seconds)
        self._leave(Outcome.FAILED, error, seconds)

    def _leave_unsaved(self) -> None:
        """Exit: the step did not end within the grace period. Called by the watching thread."""
        self._leave(Outcome.PREEMPTED, None, _LAST_WORDS_SECONDS)

    def _leave(self, outcome: Outcome, error: WorkerError | None, seconds: float) -> None:
        """Exit during a call of the trainer, after at most ``seconds`` for the last report."""
        thread = threading.Thread(target=self._finish, args=(outcome, error), daemon=True)
        thread.start()
        thread.join(seconds)
        os._exit(EXIT_CODES[outcome])
