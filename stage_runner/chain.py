"""One chain from its start to its end: the training loop between the store and a trainer.

The loop itself does nothing but train: the store is written by ``Writer`` and read by ``Poller``,
each in a thread. Between two steps it looks at attributes only, so that a step costs microseconds
on top of the trainer's own time.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path

from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION, Assignment, Control
from hippo.protocol.records import FORMAT_VERSION, Manifest
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
from hippo.protocol.routes import Course, InvalidRoute
from hippo.store import CorruptCheckpoint, PlanStore, StoreError
from stage_runner.checkpoints.codec import CodecError, NewerCheckpoint, UnsavableState, snapshot
from stage_runner.checkpoints.restoring import restore
from stage_runner.checkpoints.writer import Counts, Save, Writer
from stage_runner.control import Poller
from stage_runner.entry_point import EntryPointError, load_trainer
from stage_runner.environment import choose_device, set_threads
from stage_runner.failures import describe, print_traceback, say
from stage_runner.fingerprint import describe_difference, take_fingerprint
from stage_runner.hints import Hints
from stage_runner.metrics import InvalidTrainer, check_metrics
from stage_runner.pulse import Pulse, Standing
from stage_runner.randomness import seed_generators
from stage_runner.termination import Termination
from stage_runner.trainer import Trainer, Value
from stage_runner.watch import Watch

EXIT_CODES = {
    Outcome.COMPLETED: 0,
    Outcome.STOPPED: 0,
    Outcome.PREEMPTED: 143,
    Outcome.FAILED: 1,
    Outcome.INVALID: 2,
    Outcome.REFUSED: 3,
    Outcome.CORRUPT: 3,
    Outcome.STORE: 74,
}
_HINT_SECONDS = 0.2
_LAST_WORDS_SECONDS = 5.0  # for the report of a worker that leaves in mid-step


class _Refused(Exception):
    """The start checkpoint was made elsewhere. One line."""


class Chain:
    """Carries out one assignment. Made in the main thread of a process with no other purpose."""

    def __init__(
        self,
        assignment: Assignment,
        store: PlanStore,
        *,
        path: Path,
        launched: float,  # time.monotonic() at which the worker began
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
        """Train, and report how it ended. The exit status of the process."""
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
        except _Refused as error:
            return self._fail(Outcome.REFUSED, str(error))
        except EntryPointError as error:
            if error.__cause__ is not None:
                print_traceback(error.__cause__)
            return self._fail(Outcome.INVALID, str(error))
        except (InvalidTrainer, InvalidRoute, UnsavableState) as error:
            return self._fail(Outcome.INVALID, str(error))
        except BaseException as error:  # KeyboardInterrupt too: signals are heeded elsewhere
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
        """Import, set up and load the trainer. Reports Began."""
        assignment, call = self._assignment, self._assignment.trainer
        if assignment.format_version > TIMED_ASSIGNMENT_VERSION:
            raise InvalidRoute(
                f"the assignment has format {assignment.format_version}; this worker knows"
                f" {TIMED_ASSIGNMENT_VERSION}: use the same version of Hippo for both"
            )
        self._course = Course(assignment.route)
        self._mark = self._course.next_mark(self._step)
        set_threads(call.threads)
        self._enter("import")
        trainer_class = load_trainer(call.entrypoint, self._path)
        set_threads(call.threads)
        self._enter("setup")
        self._trainer = build_trainer(trainer_class, seed=call.seed)
        self._trainer.setup(call.config, _copied(self._course.sequence.values(0)))
        self._leave_if_forked()
        self._termination.renew()
        self._fingerprint = take_fingerprint(threads=call.threads, device=self._trainer.device)
        set_up = time.monotonic()
        if assignment.fingerprint is not None and assignment.exactness == "strict":
            foreign = describe_difference(self._fingerprint, assignment.fingerprint)
            if foreign is not None:
                raise _Refused(f"the plan was begun elsewhere: {foreign}")
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
        self._writer.flush()  # if the chain may not begin, as others do its work, this fails
        self._reset_save_timer()

    def _load(self) -> int:
        """The size of the checkpoint, in bytes."""
        key = self._course.sequence.key(self._step, self._assignment.signature)
        if self._assignment.start_key != key:
            raise CorruptCheckpoint(
                f"checkpoint {self._assignment.start_key} is not that of the sequence at step"
                f" {self._step}"
            )
        manifest = self._store.read_manifest(key)
        if manifest.step != self._step:
            raise CorruptCheckpoint(
                f"checkpoint {key} is of step {manifest.step}, not of step {self._step}"
            )
        foreign = describe_difference(self._fingerprint, manifest.fingerprint)
        if foreign is not None and self._assignment.exactness == "strict":
            raise _Refused(
                f"checkpoint {key} was made elsewhere, and results would not be exact: {foreign}"
            )
        try:
            restore(
                self._trainer,
                lambda: self._read(manifest),
                digest=manifest.state_digest,
            )
        except NewerCheckpoint as error:
            raise StoreError(f"checkpoint {key}: {error}") from None
        except CodecError as error:
            raise CorruptCheckpoint(f"checkpoint {key}: {error}") from None
        self._leave_if_forked()
        return manifest.size

    def _read(self, manifest: Manifest) -> bytes:
        """A checkpoint, for the trainer to load: from here on it is the trainer's time."""
        data = self._store.read_checkpoint(manifest)
        self._enter("load")
        return data

    def _train_step(self) -> float:
        """Returns the time at which it ended, by time.perf_counter()."""
        step = self._step
        values = _copied(self._course.sequence.values(step))
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
        """What the route asks for at this step end, if it was not done yet."""
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
            return  # it is saved, now or at once: whoever goes on from here evaluates first
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
        """Answer the newest control; True if the chain now follows it."""
        control = poller.take()
        if control is None:
            return False
        accepted = self._follow(control)
        counts, version = self._counts(), control.version
        self._writer.report(
            lambda number: ControlAnswered(
                sequence_number=number, version=version, accepted=accepted, **counts
            )
        )
        if accepted and self._step:
            self._do_marks()
        return accepted

    def _follow(self, control: Control) -> bool:
        try:
            course = Course(control.route)
        except InvalidRoute:
            return False
        if control.format_version > FORMAT_VERSION or not course.may_follow(
            self._course, self._step, saved=self._saved, evaluated=self._evaluated
        ):
            return False
        self._course = course
        self._mark = course.next_mark(self._step)
        return True

    def _is_at_end(self) -> bool:
        return self._step >= self._course.stop_at

    def _save_at_stop(self) -> None:
        if self._course.route.save_at_stop:
            self._save()

    def _wait_for_route(self, poller: Poller) -> bool:
        """At the end of the route: whether there is another one to follow, beyond this step."""
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
        """What happens from now on is of this kind, for whoever watches and for errors."""
        self._during = during
        self._pulse.note(during, self._step, time.perf_counter())

    def _rest(self) -> None:
        """No call of the trainer is under way."""
        self._pulse.note("store", self._step, time.perf_counter())

    def _leave_if_forked(self, error: BaseException | None = None) -> None:
        """A process that the trainer has forked is no worker: at the end of its part it leaves."""
        if os.getpid() == self._pid:
            return
        status = 0
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        elif error is not None:
            print_traceback(error)
            status = 1
        os._exit(status & 0xFF)

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
        """A call has outlasted its limit. Called from the thread that watches; does not return."""
        error = WorkerError(during=standing.during, message=message, step=standing.step)
        thread = threading.Thread(target=self._finish, args=(Outcome.FAILED, error), daemon=True)
        thread.start()
        thread.join(max(_LAST_WORDS_SECONDS, self._assignment.grace_seconds))
        os._exit(EXIT_CODES[Outcome.FAILED])

    def _leave_unsaved(self) -> None:
        """The step did not end within the grace. Called from the thread that watches."""
        thread = threading.Thread(target=self._finish, args=(Outcome.PREEMPTED, None), daemon=True)
        thread.start()
        thread.join(_LAST_WORDS_SECONDS)
        os._exit(EXIT_CODES[Outcome.PREEMPTED])


def _copied(values: Mapping[str, Value]) -> dict[str, Value]:
    """They are those of later steps as well, whatever the trainer does to them."""
    return {
        name: deepcopy(value) if isinstance(value, list) else value
        for name, value in values.items()
    }


def build_trainer(trainer_class: type[Trainer], *, seed: int) -> Trainer:
    """A fresh trainer, ready for ``setup``: device chosen, generators seeded."""
    device = choose_device()
    seed_generators("setup", seed)
    trainer = trainer_class()
    trainer.seed = seed
    trainer.device = device
    return trainer
