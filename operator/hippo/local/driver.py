"""The local driver: runs studies on this machine with worker processes and a store.

One loop waits for news of workers, reads their reports from the store, feeds the engine, and
carries out its commands in order. It keeps no state that is not in the store: it may be killed at
any moment, and the next run continues from stored decisions and results.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import selectors
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hippo.engine import Engine
from hippo.engine.commands import (
    Command,
    DeleteCheckpoint,
    Finish,
    Halt,
    Launch,
    Notify,
    Record,
    Refuse,
    Steer,
    WakeAt,
)
from hippo.engine.events import (
    Event,
    StudyAdded,
    StudyChanged,
    Tick,
    WorkersChanged,
)
from hippo.engine.options import EngineOptions
from hippo.local.devices import default_workers, find_equal_gpus, find_gpus
from hippo.local.interrupts import LEAVE_SECONDS, Interrupts, describe_stopping
from hippo.local.options import Observer, RunOptions, RunStopped
from hippo.local.study_edits import StudyFiles
from hippo.local.study_files import LocatedStudy, build_signature_document
from hippo.local.study_starts import StudyStarts
from hippo.local.worker_server import WorkerServer
from hippo.local.workers import Workers
from hippo.model import signature
from hippo.session.followed import other_trials
from hippo.session.open_plan import OpenPlan
from hippo.session.session import Session
from hippo.store import PlanLock, PlanStore, StoreError, open_blobs, plan_path, reading
from hippo.store.cache import FOLDER_VARIABLE, CheckpointCache, find_cache
from hippo.tune import create_tuner

TICK_SECONDS = 0.5
EDIT_SECONDS = 1.0
"""Seconds between checks of the study files for edits."""
LOCK_SECONDS = 60.0
LINGER_SECONDS = 2.0
POLL_SECONDS = 0.1
REMOTE_POLL_SECONDS = 0.5
"""Seconds between a worker's polls for a new route; each poll reads the store. It is well below the
time for which a worker lingers.
"""
CACHE_FOLDER = ".cache"
"""Folder of the cache, beside the logs; no namespace has this name."""


@dataclass(eq=False, repr=False)
class LocalDriver:
    """One run. Use :meth:`run` once."""

    studies: list[LocatedStudy]
    options: RunOptions
    observer: Observer
    clock: Callable[[], float] = time.monotonic
    engine: Engine = field(init=False)
    _plan: OpenPlan = field(init=False)
    _server: WorkerServer = field(init=False)
    _workers: Workers = field(init=False)
    _interrupts: Interrupts = field(init=False, default_factory=Interrupts)
    _wakes: list[float] = field(init=False, default_factory=list)
    _halt: str | None = field(init=False, default=None)  # why nothing more is launched
    _files: StudyFiles = field(init=False)
    _look_at_files: float = field(init=False, default=0.0)
    _stay_ended: set[str] = field(init=False, default_factory=set)  # had ended before, and said so

    def run(self) -> Engine:
        """Train until every study has ended; the engine then holds the results.

        Raises InvalidSpec, StoreError, WorkersFailed, RunStopped.
        """
        self._files = StudyFiles(dict.fromkeys(item.file for item in self.studies))
        document = build_signature_document(self.studies, merge=self.options.merge)
        blobs = open_blobs(self.options.store)
        cache_folder = self.options.logs / CACHE_FOLDER if blobs.is_remote else None
        trainer = self.studies[0].study.spec.trainer
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._interrupts.handle_signals())
            self._server = WorkerServer(
                store=self.options.store,
                threads=trainer.threads,
                path=self.studies[0].folder,
                entrypoint=trainer.entrypoint,
                logs=self.options.logs,
                cache=cache_folder,
            )
            stack.callback(self._server.close)
            fingerprint = self._server.wait_until_ready()
            if trainer.exactness == "strict":
                document["fingerprint"] = fingerprint
            namespace = self.studies[0].study.namespace
            cache = self._find_cache(cache_folder)
            store = PlanStore(blobs, plan_path(namespace, signature(document)), cache=cache)
            lock = PlanLock(store, seconds=LOCK_SECONDS)
            lock.acquire()
            stack.callback(_release, lock)
            self._open(store, lock, document)
            self._interrupts.begin()
            self._loop(lock)
            if cache is not None and not os.environ.get(FOLDER_VARIABLE):
                cache.clear()  # the store has everything that a later run may need
        return self.engine

    def _find_cache(self, folder: Path | None) -> CheckpointCache | None:
        """Return the workers' cache, by default in ``folder``; deletions must clear it too."""
        if folder is None:
            return None
        return find_cache(
            default_folder=str(folder), tell=lambda text: self.observer.notified(text, None)
        )

    def _open(self, store: PlanStore, lock: PlanLock, document: dict[str, Any]) -> None:
        """Open the plan, admit the studies, and let the engine launch."""
        studies = [item.study for item in self.studies]
        self._plan = plan = OpenPlan.open(
            store,
            lock,
            document,
            studies,
            EngineOptions(
                merge=self.options.merge,
                linger=LINGER_SECONDS,
                poll=REMOTE_POLL_SECONDS if store.blobs.is_remote else POLL_SECONDS,
            ),
            clock=self.clock,
            on_read=self._tell_problems,
        )
        if plan.not_cleaned is not None:
            self.observer.notified(f"unfinished writes stay: {plan.not_cleaned}", None)
        self.engine = plan.engine
        self._workers = Workers(
            self._server,
            plan,
            self._interrupts,
            self.clock,
            stop=self._stop_all,
            folder=self.studies[0].folder,
            logs=self.options.logs,
            ended=sorted(plan.session.records.unfolded),
        )
        self._admit()
        self.observer.started(self.engine, plan.session)
        trainer = studies[0].spec.trainer
        gpus = find_equal_gpus() if trainer.exactness == "strict" else find_gpus()
        self._workers.gpus = [gpu.position for gpu in gpus]
        workers = self.options.workers
        if workers is None:
            workers = default_workers(trainer.threads, len(gpus))
        self._feed(WorkersChanged(workers))

    def _tell_problems(self, session: Session) -> None:
        for problem in session.records.problems:
            self.observer.notified(f"{problem}; it is trained again", None)

    def _admit(self) -> None:
        starts = StudyStarts(self._plan, self.options, self.observer)
        added = starts.admit(item.study for item in self.studies)
        self._stay_ended = starts.stay_ended
        for event in added:
            if not self.options.merge and not event.followed and event.ended is None:
                reason = other_trials(event.study, create_tuner(event.study))
                if reason is not None:
                    self.observer.notified(reason, event.study.name)
            self._feed(replace(event, more_follow=event is not added[-1]))

    def _loop(self, lock: PlanLock) -> None:
        """Run until every study has ended and every worker has exited."""
        renewed = self.clock()
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            while not self.engine.is_finished:
                if selector.select(self._pause()):
                    for news in self._server.events():
                        for event in self._workers.take(news):
                            self._feed(event)
                self._heed_interrupts()
                self._heed_edits()
                self._workers.hurry(is_unwanted=self._sleeps())
                for request in self._plan.inbox.collect():
                    self._feed(request)
                self._feed(Tick())
                self._plan.inbox.publish()
                if self.clock() - renewed > LOCK_SECONDS / 3:
                    lock.renew()
                    renewed = self.clock()
                    self._plan.note_costs(self._workers.counted, self.engine.studies)
                self.observer.stalled(self._workers.find_stalls(self.options.stalled_after))
                self.observer.updated(self.engine)
                if self.clock() > self._interrupts.leave_by:
                    break
                is_stopped = self._interrupts.count or self._halt or self._sleeps()
                if not self.engine.chains and is_stopped:
                    break
        self._close()

    def _sleeps(self) -> bool:
        """Return whether every unfinished study is suspended."""
        return not any(run.is_active for run in self.engine.studies.values())

    def _close(self) -> None:
        """Close the plan and clean up. Raises RunStopped with the reason if studies are
        unfinished.
        """
        unfinished = [run for run in self.engine.studies.values() if not run.state.is_final]
        self._plan.inbox.publish()
        for run in unfinished:
            self._plan.write_study(run)
        self._plan.note_charges(self._workers.counted)
        self._plan.close(self._workers.ended, is_idle=self._workers.is_idle)
        if self._halt is not None:
            raise RunStopped(f"{self._halt}; nothing is lost: put it right and run again")
        if (interrupted := self._interrupts.explain()) is not None:
            raise RunStopped(interrupted)
        if unfinished:
            names = ", ".join(run.name for run in unfinished)
            raise RunStopped(f"{names}: suspended; set spec.suspend to false and run again")

    def _pause(self) -> float:
        """Return the seconds until the next tick is due."""
        now = self.clock()
        while self._wakes and self._wakes[0] <= now:
            heapq.heappop(self._wakes)
        return max(0.0, min(TICK_SECONDS, self._wakes[0] - now) if self._wakes else TICK_SECONDS)

    # -- the engine --------------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        for command in self._handle(event):
            self._carry_out(command)

    def _handle(self, event: Event) -> list[Command]:
        """Raises Unreadable if the decisions of a stored study cannot be followed."""
        if not isinstance(event, StudyAdded) or not event.decisions:
            return self.engine.handle(event, self.clock())
        with reading(f"study {event.study.name} in the store"):
            return self.engine.handle(event, self.clock())

    def _carry_out(self, command: Command) -> None:
        store = self._plan.store
        match command:
            case Record(study, decision):
                store.write_decision(study, decision)
            case Refuse(study, number, message):
                self._plan.inbox.refuse(study, number, message)
            case Launch(assignment):
                self._workers.launch(assignment)
            case Steer(control):
                store.write_control(control)
            case DeleteCheckpoint(key):
                store.delete_checkpoint(key)
            case Finish(name, state, message):
                run = self.engine.studies[name]
                self._plan.settle(self._workers.counted)
                self._plan.write_study(run)
                if name not in self._stay_ended:
                    self.observer.notified(f"{str(state).lower()}: {message}", name)
            case Notify(message, name):
                self.observer.notified(message, name)
            case WakeAt(moment):
                heapq.heappush(self._wakes, moment)
            case Halt(message):
                self._stop_all(message)

    # -- stopping ----------------------------------------------------------------------------------

    def _stop_all(self, message: str | None) -> None:
        """Launch nothing more; let the workers save and exit.

        ``message``: why the run halts; None: because of a signal.
        """
        self._halt = message or self._halt
        self._workers.is_halted = self._halt is not None
        self._feed(WorkersChanged(0))
        self._workers.terminate_all()

    def _heed_edits(self) -> None:
        """Apply edits of study files made while they are trained."""
        now = self.clock()
        if now < self._look_at_files:
            return
        self._look_at_files = now + EDIT_SECONDS
        runs = self.engine.studies
        for edit in self._files.read_edits(run.study for run in runs.values()):
            if runs[edit.study.name].state.is_final:
                self.observer.notified(
                    "edited after its end: run it again to see whether it goes on", edit.study.name
                )
                continue
            if edit.problem is not None:
                self.observer.notified(f"the edit is refused: {edit.problem}", edit.study.name)
                continue
            self._plan.session.rewrite_study(edit.study)
            self._feed(StudyChanged(edit.study))
            self.observer.notified(f"edited: {', '.join(edit.changed)}", edit.study.name)

    def _heed_interrupts(self) -> None:
        while (number := self._interrupts.take()) is not None:
            if number == 1:
                grace = self._workers.longest_grace()
                self.observer.notified(describe_stopping(len(self.engine.chains), grace), None)
                self._stop_all(None)
            else:
                leave_by = self.clock() + LEAVE_SECONDS
                self._interrupts.leave_by = min(self._interrupts.leave_by, leave_by)
                self._workers.kill_all()


def _release(lock: PlanLock) -> None:
    # Also after LockLost or a full disk: the lock then expires by itself.
    with contextlib.suppress(StoreError):
        lock.release()
