"""The simulated driver: studies in virtual time, by an event heap.

It drives the real engine, with workers whose steps take as long as the caller states. There is no
clock and no true randomness: the same input gives the same run, event by event.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from hippo.engine import Engine
from hippo.engine.commands import Command, DeleteCheckpoint, Launch, Notify, Record, Steer, WakeAt
from hippo.engine.events import Event, Reported, StudyAdded, Tick, WorkersChanged
from hippo.engine.options import EngineOptions
from hippo.lifecycles import InvariantViolated
from hippo.model import InvalidSpec, Sequence, Study
from hippo.plan import CostModel, Metrics, Overheads, SearchPlan
from hippo.protocol.assignments import Assignment
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import CheckpointSaved, Ended, Outcome, Report
from hippo.simulate.curves import Curves
from hippo.simulate.pace import Pace
from hippo.simulate.worker import SimulatedWorker

SIGNATURE = "simulated"


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """Parameters of a simulation. Times in seconds."""

    workers: int
    pace: Pace = field(default_factory=Pace)
    overheads: Overheads = field(default_factory=Overheads)
    merge: bool = True  # False: trial by trial
    linger: float = 1.0  # how long a worker waits at the end of its route for another one
    arrivals: Mapping[str, float] = field(default_factory=dict)  # of studies that arrive later
    followed: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)
    """Decisions of another run to repeat, by study."""


@dataclass(slots=True)
class Tally:
    """Totals of a simulation."""

    steps_trained: int = 0
    worker_seconds: float = 0.0
    chains: int = 0
    stopped: int = 0  # chains stopped early: preempted, or no longer wanted
    saves: int = 0
    events: int = 0  # sent to the engine


@dataclass(slots=True)
class _Running:
    worker: SimulatedWorker
    course: Iterator[float]
    ticket: int  # of its only valid entry in the heap


@dataclass(eq=False)
class Simulation:
    """One run of studies that share a plan. Call :meth:`run` once."""

    studies: list[Study]
    curves: Curves
    options: SimulationOptions
    create_engine: Callable[..., Engine] = Engine
    now: float = 0.0
    checkpoints: set[str] = field(default_factory=set)
    decisions: dict[str, list[Decision]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    engine: Engine = field(init=False)
    _running: dict[str, _Running] = field(default_factory=dict)
    _heap: list[tuple[float, bool, int, str | Study | None]] = field(default_factory=list)
    """(time, whether it is a worker, ticket, subject): the subject is a chain, an arriving study,
    or None for a tick. Workers come last at equal times: one that is steered then is still at the
    end of its step."""
    _tickets: int = 0

    def __post_init__(self) -> None:
        for study in self.studies:
            if study.spec.suspend:
                raise InvalidSpec.at(
                    "spec.suspend", f"{study.name} is suspended: there is nothing to simulate"
                )
        options = self.options
        self.engine = self.create_engine(
            SearchPlan(SIGNATURE),
            EngineOptions(merge=options.merge, linger=options.linger),
            costs=CostModel(options.pace.step, replace(options.overheads), is_stated=True),
        )

    @property
    def pace(self) -> Pace:
        return self.options.pace

    @property
    def overheads(self) -> Overheads:
        return self.options.overheads

    def run(self) -> Simulation:
        """Runs to the end of all studies. Raises InvalidSpec if the curves lack metrics."""
        late = [study for study in self.studies if self.options.arrivals.get(study.name, 0.0) > 0]
        present = [study for study in self.studies if study not in late]
        for study in present:
            self._feed(self._added(study, more_follow=study is not present[-1]))
        for study in late:
            self._schedule(self.options.arrivals[study.name], study)
        coming = len(late)
        self._feed(WorkersChanged(self.options.workers))
        while coming or not self.engine.is_finished:
            if not self._heap:
                raise InvariantViolated(f"nothing is left to happen at {self.now}")
            moment, _, ticket, who = heapq.heappop(self._heap)
            if isinstance(who, str):
                self._go_on(moment, ticket, who)
                continue
            self.now = moment
            if who is not None:
                coming -= 1
            self._feed(self._added(who) if who is not None else Tick())
        return self

    def _added(self, study: Study, *, more_follow: bool = False) -> StudyAdded:
        followed = self.options.followed.get(study.name, ())
        return StudyAdded(study, followed=followed, more_follow=more_follow)

    # -- what workers find -------------------------------------------------------------------------

    def evaluate(self, sequence: Sequence, step: int, seed: int) -> Metrics:
        return self.curves.metrics(sequence, step, seed)

    def report(self, report: Report) -> None:
        if isinstance(report, CheckpointSaved):
            self.tally.saves += 1
        elif isinstance(report, Ended):
            del self._running[report.chain]
            self.tally.steps_trained += report.trained
            self.tally.worker_seconds += report.worker_seconds
            self.tally.stopped += report.outcome is Outcome.STOPPED
        self._feed(Reported(report))

    # -- the driver's part -------------------------------------------------------------------------

    def _feed(self, event: Event) -> None:
        self.tally.events += 1
        for command in self.engine.handle(event, self.now):
            self._carry_out(command)

    def _carry_out(self, command: Command) -> None:
        match command:
            case Record(study, decision):
                self.decisions.setdefault(study, []).append(decision)
            case Launch(assignment):
                self._launch(assignment)
            case Steer(control):
                running = self._running[control.chain]
                running.worker.control = control
                look = running.worker.next_look()
                if look is not None:
                    running.ticket = self._schedule(look, control.chain)
            case DeleteCheckpoint(key):
                self.checkpoints.discard(key)
            case Notify(message):
                self.notices.append(message)
            case WakeAt(moment):
                self._schedule(max(moment, self.now), None)

    def _launch(self, assignment: Assignment) -> None:
        self.tally.chains += 1
        worker = SimulatedWorker(self, assignment)
        ticket = self._schedule(self.now, assignment.chain)
        self._running[assignment.chain] = _Running(worker, worker.run(), ticket)

    def _go_on(self, moment: float, ticket: int, chain: str) -> None:
        """Resumes a worker that is due, unless it was rescheduled."""
        running = self._running.get(chain)
        if running is None or running.ticket != ticket:
            return
        self.now = moment
        pause = next(running.course, None)
        if pause is not None:
            running.ticket = self._schedule(self.now + pause, chain)

    def _schedule(self, moment: float, who: str | Study | None) -> int:
        self._tickets += 1
        heapq.heappush(self._heap, (moment, isinstance(who, str), self._tickets, who))
        return self._tickets
