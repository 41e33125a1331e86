"""The local driver: runs studies on this machine with worker processes and a store.

One loop owns everything: it waits for news of workers, reads their reports from the store, feeds
the engine, and carries out its commands in order. Nothing it keeps is needed again: kill it at any
moment and the next run goes on from decisions and results in the store.
"""

from __future__ import annotations

import contextlib
import heapq
import math
import os
import selectors
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

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
    Progressed,
    Reported,
    StudyAdded,
    StudyChanged,
    Tick,
    WorkerGone,
    WorkersChanged,
)
from hippo.engine.options import EngineOptions
from hippo.engine.reopening import LOCAL
from hippo.engine.state import StudyRun
from hippo.local.deaths import describe_death, find_version_trouble
from hippo.local.devices import default_workers, find_equal_gpus, find_gpus
from hippo.local.study_edits import StudyFiles
from hippo.local.study_files import LocatedStudy, build_signature_document
from hippo.local.worker_server import WorkerServer
from hippo.model import InvalidSpec, Study, signature
from hippo.protocol.assignments import Assignment
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import During, Ended, Outcome, WorkerError
from hippo.session.charges import chain_prefix
from hippo.session.followed import has_other_trials, other_trials
from hippo.session.inbox import Mailroom
from hippo.session.session import Session
from hippo.session.stalls import LEAST_SECONDS, Stall, describe_span, find_patience
from hippo.store import (
    STALE_SECONDS,
    PlanLock,
    PlanStore,
    StoreError,
    open_blobs,
    plan_path,
    reading,
)
from hippo.store.cache import FOLDER_VARIABLE, CheckpointCache, find_cache
from hippo.tune import create_tuner

GRACE_MARGIN_SECONDS = 10.0
"""Beyond a worker's grace: to give up a step by itself, and to report. As the kubelet does, the
server then kills those that cannot.
"""
LEAVE_SECONDS = 5.0
"""After a second Ctrl-C: until all workers are gone, or the run leaves without them."""

EXIT_PREEMPTED = 143
EXIT_STORE = 74
"""Exit statuses of a worker that could not write its last report."""

TICK_SECONDS = 0.5
EDIT_SECONDS = 1.0
"""Study files are looked at this often."""
LOCK_SECONDS = 60.0
LINGER_SECONDS = 2.0
POLL_SECONDS = 0.1
REMOTE_POLL_SECONDS = 0.5
"""How often a worker looks for a new route; each look is a read of the store. Well below the time
for which one lingers.
"""
CACHE_FOLDER = ".cache"
"""Beside the logs; no namespace has this name."""
FOLD_AFTER = 200
"""So many ended chains are folded into the ledger at a time."""
MOST_NAMED = 3
"""Chains in one message."""
INTERRUPTS_HEEDED = 2
_BLAMED: dict[str, str] = {"start": "step", "store": "step", "import": "setup"}
"""What is charged with the death of a worker that was at something else than a call."""
AT_ONCE = "stopped at once: steps since the last checkpoints are lost, run again to go on"


class Observer(Protocol):
    """Who watches a run: the command line, a notebook, a test."""

    def started(self, engine: Engine, session: Session) -> None: ...

    def updated(self, engine: Engine) -> None: ...

    def notified(self, message: str, study: str | None) -> None: ...

    def stalled(self, stalls: Sequence[Stall]) -> None: ...  # all there are, before each update


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How to run studies here."""

    store: str  # path or URL
    logs: Path
    workers: int | None = None  # None: GPUs if there are any, otherwise cores
    merge: bool = True  # False: trial by trial, for comparison
    followed: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)
    """By study, decisions of another run that are made again."""
    retry_failed: bool = False  # trials that failed in earlier runs are tried again
    stalled_after: float = LEAST_SECONDS  # a call that lasts as long is told of, at the least


class RunStopped(Exception):
    """The run ended before its studies did; one line that says why."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """A call of the trainer that lasts. ``since``: by the driver's clock."""

    during: During
    step: int
    since: float
    place: str


@dataclass(slots=True)
class _Worker:
    slot: int
    log: Path
    grace: float  # seconds
    ended: bool = False
    standing: _Standing | None = None


@dataclass(eq=False, repr=False)  # signal.signal() would spell out the whole engine
class LocalDriver:
    """One run. Use :meth:`run` once."""

    studies: list[LocatedStudy]
    options: RunOptions
    observer: Observer
    clock: Callable[[], float] = time.monotonic
    engine: Engine = field(init=False)
    session: Session = field(init=False)
    _server: WorkerServer = field(init=False)
    _mailroom: Mailroom = field(init=False)
    _workers: dict[str, _Worker] = field(init=False, default_factory=dict)
    _wakes: list[float] = field(init=False, default_factory=list)
    _ended: list[str] = field(init=False, default_factory=list)
    _interrupts: int = field(init=False, default=0)
    _heeded: int = field(init=False, default=0)
    _gone_by: float = field(init=False, default=math.inf)  # after a second Ctrl-C
    _unwanted_since: float | None = field(init=False, default=None)  # since no study is active
    _hurried: set[str] = field(init=False, default_factory=set)
    _given_up: list[str] = field(init=False, default_factory=list)
    """Chains that were told to leave and could not save."""
    _halt: str | None = field(init=False, default=None)
    _is_starting: bool = field(init=False, default=True)
    _gpus: list[int] = field(init=False, default_factory=list)
    _generation: int = field(init=False, default=0)
    _reports: Counter[str] = field(init=False, default_factory=Counter)  # read, of each chain
    _files: StudyFiles = field(init=False)
    _look_at_files: float = field(init=False, default=0.0)
    _has_news: bool = field(init=False, default=False)  # since spending was noted
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
            stack.enter_context(self._signals())
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
            self._open(store, document, generation=lock.generation)
            self._is_starting = False
            self._loop(lock)
            if cache is not None and not os.environ.get(FOLDER_VARIABLE):
                cache.clear()  # all that a later run may need is in the store
        return self.engine

    def _find_cache(self, folder: Path | None) -> CheckpointCache | None:
        """The cache of the workers, to forget there what is deleted; ``folder`` if nobody says
        otherwise.
        """
        if folder is None:
            return None
        return find_cache(
            default_folder=str(folder), tell=lambda text: self.observer.notified(text, None)
        )

    def _open(self, store: PlanStore, document: dict[str, Any], *, generation: int) -> None:
        """Give the engine what the store holds, and the studies."""
        self.session = session = Session.open(store, document)
        self._generation = generation
        for problem in session.records.problems:
            self.observer.notified(f"{problem}; it is trained again", None)
        for key in session.records.orphans:
            store.delete_checkpoint(key)
        try:
            store.blobs.clean(older_than_seconds=STALE_SECONDS)
        except StoreError as error:  # a right that nothing else needs
            self.observer.notified(f"unfinished writes stay: {error}", None)
        names = {item.study.name for item in self.studies}
        self.engine = Engine(
            session.build_plan(),
            EngineOptions(
                chain_prefix=chain_prefix(generation),
                merge=self.options.merge,
                linger=LINGER_SECONDS,
                poll=REMOTE_POLL_SECONDS if store.blobs.is_remote else POLL_SECONDS,
            ),
            costs=session.build_costs(),
            kept=session.kept_by_others(names),
        )
        studies = [item.study for item in self.studies]
        self._mailroom = Mailroom(session.store, self.engine, studies, self.clock)
        added = [self._admit(item.study) for item in self.studies]
        for event in added:
            name = event.study.name
            if name not in session.documents:
                changed = session.differences_to_earlier(name)
                if changed:
                    self.observer.notified(
                        f"begun afresh: the trainer's {', '.join(changed)} changed since it was"
                        " worked on last",
                        name,
                    )
                if name in session.forgotten:
                    self.observer.notified("begun afresh: it had been deleted", name)
                session.write_study(event.study, None)
        for event in added:
            if not self.options.merge and not event.followed and event.ended is None:
                reason = other_trials(event.study, create_tuner(event.study))
                if reason is not None:
                    self.observer.notified(reason, event.study.name)
            self._feed(replace(event, more_follow=event is not added[-1]))
        self._ended.extend(sorted(session.records.unfolded))
        self.observer.started(self.engine, session)
        trainer = self.studies[0].study.spec.trainer
        gpus = find_equal_gpus() if trainer.exactness == "strict" else find_gpus()
        self._gpus = [gpu.position for gpu in gpus]
        workers = self.options.workers
        if workers is None:
            workers = default_workers(trainer.threads, len(self._gpus))
        self._feed(WorkersChanged(workers))

    def _admit(self, study: Study) -> StudyAdded:
        """Raises InvalidSpec."""
        event = self._reconsider(study)
        followed = self.options.followed.get(study.name, ())
        if followed and has_other_trials(event.decisions, followed):
            raise InvalidSpec.at(
                "--like", f"{study.name} has drawn other trials here before: use another --store"
            )
        return replace(event, followed=followed)

    def _reconsider(self, study: Study) -> StudyAdded:
        """A study as the store knows it; one that has ended goes on if its limits allow it now."""
        session, name = self.session, study.name
        if name in self._mailroom.damaged:
            raise StoreError(self._mailroom.damaged[name])
        event = session.admit(study)
        verdict = session.reconsider(
            event,
            study,
            decisions=event.decisions,
            retry=self.options.retry_failed,
            advice=LOCAL,
        )
        if verdict is None or (event.ended is None and not verdict.goes_on):
            if self.options.retry_failed:
                self.observer.notified("no trial of it has failed that could be tried again", name)
            return event
        if not verdict.goes_on:
            self._stay_ended.add(name)
            self.observer.notified(f"it had ended: {verdict.why}", name)
            return event
        for decision in verdict.decisions:
            session.store.write_decision(name, decision)
        self.observer.notified(verdict.why, name)
        return session.reopen(event, study, (*event.decisions, *verdict.decisions))

    def _loop(self, lock: PlanLock) -> None:
        """Until every study has ended and every worker has left."""
        renewed = self.clock()
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            while not self.engine.is_finished:
                if selector.select(self._pause()):
                    for news in self._server.events():
                        self._take(news)
                self._heed_interrupts()
                self._heed_edits()
                self._hurry()
                for request in self._mailroom.collect():
                    self._feed(request)
                self._feed(Tick())
                self._mailroom.publish()
                if self.clock() - renewed > LOCK_SECONDS / 3:
                    lock.renew()
                    renewed = self.clock()
                    self._note_costs()
                self.observer.stalled(self._find_stalls())
                self.observer.updated(self.engine)
                if self.clock() > self._gone_by:
                    break
                if not self.engine.chains and (self._interrupts or self._halt or self._sleeps()):
                    break
        self._close()

    def _hurry(self) -> None:
        """Whoever is at work although nobody wants it any more has its grace, like all others."""
        if not self._sleeps() or not self.engine.chains:
            self._unwanted_since = None
            return
        now = self.clock()
        self._unwanted_since = self._unwanted_since or now
        for chain in self.engine.chains.keys() - self._hurried:
            if now - self._unwanted_since > self._grace(chain):
                self._hurried.add(chain)
                self._server.terminate(chain, within=GRACE_MARGIN_SECONDS)

    def _sleeps(self) -> bool:
        """Whether every study that has not ended is suspended."""
        return not any(run.is_active for run in self.engine.studies.values())

    def _close(self) -> None:
        """Leave the store tidy; say why, if studies are left unfinished."""
        self._mailroom.publish()
        for run in self.engine.studies.values():
            if not run.state.is_final:
                self.session.write_study(run.study, run, wall_seconds=self._wall_seconds(run))
        self._note_spending()
        self.session.store.fold(self._ended)
        if not self._workers:
            self.session.store.remove_fragments()
        if self._halt is not None:
            raise RunStopped(f"{self._halt}; nothing is lost: put it right and run again")
        if self._heeded > 1:
            raise RunStopped(AT_ONCE)
        if self._interrupts and self._given_up:
            names = ", ".join(self._given_up[:MOST_NAMED])
            more = len(self._given_up) - MOST_NAMED
            raise RunStopped(
                f"stopped; {names}{f' and {more} more' if more > 0 else ''} could not save in time:"
                " steps since the last checkpoints are lost, run again to go on"
            )
        if self._interrupts:
            raise RunStopped("stopped; everything is saved, run again to go on")
        asleep = [run.name for run in self.engine.studies.values() if not run.state.is_final]
        if asleep:
            raise RunStopped(
                f"{', '.join(asleep)}: suspended; set spec.suspend to false and run again"
            )

    def _note_spending(self) -> None:
        self.session.note_spending(
            self.engine.studies.values(), generation=self._generation, counted=self._reports
        )

    def _note_costs(self) -> None:
        """So that what was spent outlives kill -9."""
        if self._has_news:
            self._note_spending()
            self._has_news = False
        for run in self.engine.studies.values():
            if run.is_active and run.study.spec.budget.wall_time is not None:
                self.session.write_study(run.study, run, wall_seconds=self._wall_seconds(run))

    def _wall_seconds(self, run: StudyRun) -> float:
        return run.wall_before + (self.engine.now - run.started if run.is_active else 0.0)

    def _pause(self) -> float:
        """Seconds until the next tick is due."""
        now = self.clock()
        while self._wakes and self._wakes[0] <= now:
            heapq.heappop(self._wakes)
        return max(0.0, min(TICK_SECONDS, self._wakes[0] - now) if self._wakes else TICK_SECONDS)

    # -- news of workers ---------------------------------------------------------------------------

    def _take(self, news: dict[str, Any]) -> None:
        if "poke" in news:
            self._read_reports(news["poke"])
        elif "progress" in news:
            self._feed(Progressed(news["progress"], news["step"]))
        elif "standing" in news:
            self._note_standing(news)
        elif "exited" in news:
            self._note_exit(news)

    def _note_standing(self, news: dict[str, Any]) -> None:
        worker = self._workers.get(news["standing"])
        if worker is None:
            return
        worker.standing = None
        if news["during"] is not None:
            since = self.clock() - news["seconds"]
            place = news.get("place", "")
            worker.standing = _Standing(news["during"], news["step"], since, place)

    def _find_stalls(self) -> list[Stall]:
        """Workers that stand in one call for conspicuously long, the longest first."""
        found = []
        now, costs, least = self.clock(), self.engine.costs, self.options.stalled_after
        for name, worker in self._workers.items():
            standing, chain = worker.standing, self.engine.chains.get(name)
            if standing is None or chain is None:
                continue
            seconds = now - standing.since
            during, step = standing.during, standing.step
            if seconds >= find_patience(costs, chain, during, step, least):
                where = f"pid {self._server.pid(name)}"
                stall = Stall(name, chain.study, during, step, seconds, where, standing.place)
                found.append(stall)
        return sorted(found, key=lambda stall: -stall.seconds)

    def _read_reports(self, chain: str) -> None:
        worker = self._workers.get(chain)
        if worker is None:
            return
        for report in self.session.store.read_reports(chain, self._reports[chain] - 1):
            self._reports[chain] += 1
            self._has_news = True
            if isinstance(report, Ended):
                worker.ended = True
                if self._interrupts and not self._is_saved(report):
                    self._given_up.append(chain)
                report = _with_log(report, worker.log)
            self._feed(Reported(report))

    def _is_saved(self, report: Ended) -> bool:
        chain = self.engine.chains.get(report.chain)
        if chain is None or not report.trained or report.outcome is not Outcome.PREEMPTED:
            return True
        return report.step in chain.claim.node.at(report.step).checkpoints

    def _note_exit(self, news: dict[str, Any]) -> None:
        """A process has left. With a ``reason`` it never was one (no room for its log, say)."""
        chain, code, reason = news["exited"], news["code"], news.get("reason")
        self._read_reports(chain)
        worker = self._workers.pop(chain, None)
        if worker is None:
            return
        self._ended.append(chain)
        if not worker.ended:
            was_told = self._interrupts or self._halt is not None
            outcome = Outcome.PREEMPTED if was_told else Outcome.LOST
            problem = find_version_trouble(code, worker.log)
            if problem is not None and news.get("during", "start") == "start":
                self._stop_all(problem)
                outcome = Outcome.PREEMPTED
            elif code == EXIT_STORE or reason is not None:
                outcome = Outcome.STORE  # not the trainer's fault
            elif code == EXIT_PREEMPTED:
                outcome = Outcome.PREEMPTED
            during, step = news.get("during", "start"), news.get("step", 0)
            if self._interrupts and during not in ("start", "import", "setup"):
                self._given_up.append(chain)
            message = reason or describe_death(
                news, worker.log, self.studies[0].folder, logs=self.options.logs.parent
            )
            during = _BLAMED.get(during, during)
            error = WorkerError(during=during, message=message, step=step)
            self._feed(WorkerGone(chain, outcome, error))
        if len(self._ended) >= FOLD_AFTER:
            self.session.store.fold(self._ended)
            self._ended.clear()

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
        store = self.session.store
        match command:
            case Record(study, decision):
                store.write_decision(study, decision)
            case Refuse(study, number, message):
                self._mailroom.refuse(study, number, message)
            case Launch(assignment):
                self._launch(assignment)
            case Steer(control):
                store.write_control(control)
            case DeleteCheckpoint(key):
                store.delete_checkpoint(key)
            case Finish(name, state, message):
                run = self.engine.studies[name]
                self._note_spending()
                self._mailroom.publish()  # whoever sees the end finds all answers
                self.session.write_study(run.study, run, wall_seconds=self._wall_seconds(run))
                if name not in self._stay_ended:
                    self.observer.notified(f"{str(state).lower()}: {message}", name)
            case Notify(message, name):
                self.observer.notified(message, name)
            case WakeAt(moment):
                heapq.heappush(self._wakes, moment)
            case Halt(message):
                self._stop_all(message)

    def _launch(self, assignment: Assignment) -> None:
        slot = next(n for n in count() if all(w.slot != n for w in self._workers.values()))
        device = f"cuda:{self._gpus[slot % len(self._gpus)]}" if self._gpus else None
        log = self._server.launch(
            assignment, plan=self.session.store.plan, slot=slot, device=device
        )
        self._workers[assignment.chain] = _Worker(slot, log, assignment.grace_seconds)

    # -- stopping ----------------------------------------------------------------------------------

    def _stop_all(self, message: str | None) -> None:
        """No new work; what runs is saved and leaves."""
        self._halt = message or self._halt
        self._feed(WorkersChanged(0))
        for chain in list(self.engine.chains):
            self._server.terminate(chain, within=self._grace(chain) + GRACE_MARGIN_SECONDS)

    def _grace(self, chain: str) -> float:
        worker = self._workers.get(chain)
        return worker.grace if worker is not None else 0.0

    def _describe_stopping(self) -> str:
        """How long it may take, and what a second signal does."""
        chains = self.engine.chains
        if not chains:
            return "stopping"
        workers = "the worker saves at the end of its step and leaves"
        if len(chains) > 1:
            workers = f"{len(chains)} workers save at the end of their step and leave"
        grace = describe_span(max(self._grace(chain) for chain in chains))
        return (
            f"stopping: {workers}; a step that lasts for more than {grace} from now is given up."
            " Ctrl-C again leaves at once: steps since the last checkpoints are then lost"
        )

    def _heed_edits(self) -> None:
        """Study files may be edited while they are trained."""
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
            self.session.rewrite_study(edit.study)
            self._feed(StudyChanged(edit.study))
            self.observer.notified(f"edited: {', '.join(edit.changed)}", edit.study.name)

    def _heed_interrupts(self) -> None:
        while self._heeded < self._interrupts:
            self._heeded += 1
            if self._heeded == 1:
                self.observer.notified(self._describe_stopping(), None)
                self._stop_all(None)
            else:
                self._gone_by = min(self._gone_by, self.clock() + LEAVE_SECONDS)
                for chain in list(self.engine.chains):
                    self._server.kill(chain)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupts += 1
        if self._is_starting:  # nothing to save yet
            self._is_starting = False
            raise RunStopped("stopped before training began; run again to go on")
        if self._interrupts > INTERRUPTS_HEEDED:  # the loop hangs: what is stored is whole anyway
            raise RunStopped(AT_ONCE)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Ctrl-C, SIGTERM and a closed terminal stop in order; a second one at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._interrupt) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _with_log(report: Ended, log: Path) -> Ended:
    """Where the traceback is, if there is one."""
    error = report.error
    if error is None or (report.outcome is not Outcome.FAILED and error.during != "import"):
        return report
    told = error.model_copy(update={"message": f"{error.message}; its log: {log}"})
    return report.model_copy(update={"error": told})


def _release(lock: PlanLock) -> None:
    # Also after LockLost or a full disk: the lock then expires by itself.
    with contextlib.suppress(StoreError):
        lock.release()
