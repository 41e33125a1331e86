"""The workers of a run on this machine: launches, ends, and their news as events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from hippo.engine.events import Event, Progressed, Reported, WorkerGone
from hippo.local.deaths import describe_death, find_version_trouble
from hippo.local.interrupts import Interrupts
from hippo.local.worker_server import WorkerServer
from hippo.protocol.assignments import Assignment
from hippo.protocol.reports import During, Ended, Outcome, WorkerError
from hippo.session.open_plan import OpenPlan
from hippo.session.stalls import Stall, find_patience

GRACE_MARGIN_SECONDS = 10.0
"""Seconds after the grace period in which a worker abandons its step and reports. The server then
kills it, as a kubelet does.
"""
EXIT_PREEMPTED = 143
EXIT_STORE = 74
"""Exit statuses of a worker that could not write its last report."""

FOLD_AFTER = 200
"""Number of ended chains that are folded into the ledger together."""
_BLAMED: dict[str, str] = {"start": "step", "store": "step", "import": "setup"}
"""The call that an error names if the worker died outside of a call."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """A long call of the trainer. ``since``: by the driver's clock."""

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


@dataclass(slots=True)
class Workers:
    """A worker for each chain that was launched and has not exited.

    Every method may raise WorkersFailed, StoreError. ``stop``: called with the reason why no more
    workers may be launched.
    """

    server: WorkerServer
    plan: OpenPlan
    interrupts: Interrupts
    clock: Callable[[], float]
    stop: Callable[[str], None]
    folder: Path  # of the trainer
    logs: Path
    ended: list[str]  # chains whose reports are not folded yet
    gpus: list[int] = field(default_factory=list)  # positions among the usable GPUs
    is_halted: bool = False  # the run stops, whether or not it was interrupted
    counted: Counter[str] = field(default_factory=Counter)  # reports read, by chain
    _workers: dict[str, _Worker] = field(default_factory=dict)
    _unwanted_since: float | None = None  # by the clock
    _hurried: set[str] = field(default_factory=set)

    @property
    def is_idle(self) -> bool:
        return not self._workers

    def launch(self, assignment: Assignment) -> None:
        """Start a worker in the first free slot."""
        slot = next(n for n in count() if all(w.slot != n for w in self._workers.values()))
        device = f"cuda:{self.gpus[slot % len(self.gpus)]}" if self.gpus else None
        log = self.server.launch(assignment, plan=self.plan.store.plan, slot=slot, device=device)
        self._workers[assignment.chain] = _Worker(slot, log, assignment.grace_seconds)

    def terminate_all(self) -> None:
        """Tell every running chain to save at the end of its step and exit."""
        for chain in list(self.plan.engine.chains):
            self.server.terminate(chain, within=self._grace(chain) + GRACE_MARGIN_SECONDS)

    def kill_all(self) -> None:
        for chain in list(self.plan.engine.chains):
            self.server.kill(chain)

    def longest_grace(self) -> float:
        """Return the longest grace period, in seconds, of the running chains."""
        return max((self._grace(chain) for chain in self.plan.engine.chains), default=0.0)

    def hurry(self, *, is_unwanted: bool) -> None:
        """Terminate chains that still run a grace period after the last study stopped wanting any.

        ``is_unwanted``: no study wants a chain now.
        """
        chains = self.plan.engine.chains
        if not is_unwanted or not chains:
            self._unwanted_since = None
            return
        now = self.clock()
        self._unwanted_since = self._unwanted_since or now
        for chain in chains.keys() - self._hurried:
            if now - self._unwanted_since > self._grace(chain):
                self._hurried.add(chain)
                self.server.terminate(chain, within=GRACE_MARGIN_SECONDS)

    def _grace(self, chain: str) -> float:
        worker = self._workers.get(chain)
        return worker.grace if worker is not None else 0.0

    # -- news --------------------------------------------------------------------------------------

    def take(self, news: dict[str, Any]) -> Iterator[Event]:
        """Yield events for the engine. Feed each one before asking for the next."""
        if "poke" in news:
            yield from self._read_reports(news["poke"])
        elif "progress" in news:
            yield Progressed(news["progress"], news["step"])
        elif "standing" in news:
            self._note_standing(news)
        elif "exited" in news:
            yield from self._note_exit(news)

    def find_stalls(self, least: float) -> list[Stall]:
        """Return workers whose current call takes conspicuously long, the longest first; none
        below ``least`` seconds.
        """
        found = []
        engine, now = self.plan.engine, self.clock()
        for name, worker in self._workers.items():
            standing, chain = worker.standing, engine.chains.get(name)
            if standing is None or chain is None:
                continue
            seconds = now - standing.since
            during, step = standing.during, standing.step
            if seconds >= find_patience(engine.costs, chain, during, step, least):
                where = f"pid {self.server.pid(name)}"
                stall = Stall(name, chain.study, during, step, seconds, where, standing.place)
                found.append(stall)
        return sorted(found, key=lambda stall: -stall.seconds)

    def _note_standing(self, news: dict[str, Any]) -> None:
        worker = self._workers.get(news["standing"])
        if worker is None:
            return
        worker.standing = None
        if news["during"] is not None:
            since = self.clock() - news["seconds"]
            place = news.get("place", "")
            worker.standing = _Standing(news["during"], news["step"], since, place)

    def _read_reports(self, chain: str) -> Iterator[Event]:
        worker = self._workers.get(chain)
        if worker is None:
            return
        for report in self.plan.store.read_reports(chain, self.counted[chain] - 1):
            self.counted[chain] += 1
            self.plan.has_news = True
            if isinstance(report, Ended):
                worker.ended = True
                if self.interrupts.count and not self._is_saved(report):
                    self.interrupts.given_up.append(chain)
                report = _with_log(report, worker.log)
            yield Reported(report)

    def _is_saved(self, report: Ended) -> bool:
        chain = self.plan.engine.chains.get(report.chain)
        if chain is None or not report.trained or report.outcome is not Outcome.PREEMPTED:
            return True
        return report.step in chain.claim.node.at(report.step).checkpoints

    def _note_exit(self, news: dict[str, Any]) -> Iterator[Event]:
        """Handle the end of a process; with a ``reason``, it could not be started."""
        chain = news["exited"]
        yield from self._read_reports(chain)
        worker = self._workers.pop(chain, None)
        if worker is None:
            return
        self.ended.append(chain)
        if not worker.ended:
            yield self._explain_exit(news, worker)
        if len(self.ended) >= FOLD_AFTER:
            self.plan.store.fold(self.ended)
            self.ended.clear()

    def _explain_exit(self, news: dict[str, Any], worker: _Worker) -> WorkerGone:
        """Describe the end of a worker that left no report."""
        chain, code, reason = news["exited"], news["code"], news.get("reason")
        during, step = news.get("during", "start"), news.get("step", 0)
        was_told = self.interrupts.count > 0 or self.is_halted
        outcome = Outcome.PREEMPTED if was_told else Outcome.LOST
        problem = find_version_trouble(code, worker.log)
        if problem is not None and during == "start":
            self.stop(problem)
            outcome = Outcome.PREEMPTED
        elif code == EXIT_STORE or reason is not None:
            outcome = Outcome.STORE  # not the trainer's fault
        elif code == EXIT_PREEMPTED:
            outcome = Outcome.PREEMPTED
        if self.interrupts.count and during not in ("start", "import", "setup"):
            self.interrupts.given_up.append(chain)
        message = reason or describe_death(news, worker.log, self.folder, logs=self.logs.parent)
        error = WorkerError(during=_BLAMED.get(during, during), message=message, step=step)
        return WorkerGone(chain, outcome, error)


def _with_log(report: Ended, log: Path) -> Ended:
    """Return the report; its message also names the log if that has a traceback."""
    error = report.error
    if error is None or (report.outcome is not Outcome.FAILED and error.during != "import"):
        return report
    told = error.model_copy(update={"message": f"{error.message}; its log: {log}"})
    return report.model_copy(update={"error": told})
