"""A worker in virtual time, following the protocol of ``protocol/records.py`` from event to event.

It trains whole stretches at once, and checks for a new control object at the end of its current
step, as real workers do. ``tests/world.py`` does the same step by step, with hashes as states;
tests compare the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from hippo.model import Sequence
from hippo.plan import Metrics, Overheads
from hippo.protocol.assignments import Assignment, Control
from hippo.protocol.reports import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Outcome,
    Report,
)
from hippo.protocol.routes import Course
from hippo.simulate.pace import Pace, Stretch


class Site(Protocol):
    """The environment of a worker: the time, a store, and the durations of a trainer's calls."""

    now: float
    checkpoints: set[str]
    """Keys of stored checkpoints."""

    @property
    def pace(self) -> Pace: ...

    @property
    def overheads(self) -> Overheads: ...

    def report(self, report: Report) -> None: ...

    def evaluate(self, sequence: Sequence, step: int, seed: int) -> Metrics: ...


@dataclass(slots=True, eq=False)
class SimulatedWorker:
    """One chain. :meth:`run` yields the seconds until it is to be resumed."""

    site: Site
    assignment: Assignment
    control: Control | None = None  # the newest one sent
    trained: int = 0
    _step: int = field(init=False)
    _course: Course = field(init=False)
    _begun: float = field(init=False)
    _saved: set[int] = field(init=False)
    _evaluated: set[int] = field(default_factory=set)
    _version: int = 0
    _reports: int = 0
    _seconds: float = 0.0  # within steps
    _stretch: Stretch | None = None  # being trained
    _since: float = 0.0  # when it began
    _waits: bool = False  # at the end of its route

    def __post_init__(self) -> None:
        self._step = self.assignment.start
        self._saved = {self.assignment.start}
        self._course = Course(self.assignment.route)
        self._begun = self.site.now

    def next_look(self) -> float | None:
        """Returns when it next checks its control object, if before it resumes by itself."""
        if self._stretch is None:
            return self.site.now if self._waits else None
        step = self._stretch.first_end(self.site.now - self._since)
        return self._since + self._stretch.seconds_until(step)

    def run(self) -> Iterator[float]:
        site, assignment, overheads = self.site, self.assignment, self.site.overheads
        assert assignment.start_key is None or assignment.start_key in site.checkpoints
        load = overheads.load if assignment.start else 0.0
        yield overheads.start + load
        self._tell(
            Began,
            studies=assignment.studies,
            fingerprint={},
            start_seconds=overheads.start,
            load_seconds=load,
        )
        has_arrived, outcome = False, Outcome.COMPLETED
        while True:
            if self._take_control():
                has_arrived = False
                if self._course.stop_at <= self._step:
                    outcome = Outcome.STOPPED
            step, course = self._step, self._course
            is_at_end = step >= course.stop_at
            is_to_save = step in course.saves or (is_at_end and course.route.save_at_stop)
            is_to_save = is_to_save and step not in self._saved
            is_to_evaluate = step in course.evaluations and step not in self._evaluated
            if is_to_save:
                self._saved.add(step)
                yield overheads.save
                self._tell_of_checkpoint()
            if is_to_evaluate:
                self._evaluated.add(step)
                yield overheads.evaluate
                self._tell_of_metrics()
            if is_to_save or is_to_evaluate:
                continue  # a control may have arrived meanwhile
            if not is_at_end:
                yield from self._train()
            elif assignment.linger_seconds and not has_arrived and outcome is Outcome.COMPLETED:
                has_arrived = True
                self._tell(Arrived)
                if not self._has_news():
                    self._waits = True
                    yield assignment.linger_seconds
                    self._waits = False
            else:
                self._tell(Ended, outcome=outcome)
                return

    def _train(self) -> Iterator[float]:
        """Trains up to the next mark, or to the step end at which it was woken by a control."""
        site, begun, course = self.site, self._step, self._course
        stop = course.next_mark(begun)
        self._since = site.now
        self._stretch = site.pace.stretch(self.assignment.chain, course.sequence, begun, stop)
        yield self._stretch.seconds_until(stop)
        # It may have been woken early.
        self._step = self._stretch.first_end(site.now - self._since)
        self._seconds += self._stretch.seconds_until(self._step)
        self.trained += self._step - begun
        self._stretch = None

    def _has_news(self) -> bool:
        return self.control is not None and self.control.version > self._version

    def _take_control(self) -> bool:
        """Applies a new route, if there is one that may follow; returns whether it did."""
        control = self.control
        if control is None or not self._has_news():
            return False
        self._version = control.version
        course = Course(control.route)
        accepted = course.may_follow(
            self._course, self._step, saved=self._saved, evaluated=self._evaluated
        )
        if accepted:
            self._course = course
        self._tell(ControlAnswered, version=control.version, accepted=accepted)
        return accepted

    def _tell_of_checkpoint(self) -> None:
        key = self._course.sequence.key(self._step, self.assignment.signature)
        existed = key in self.site.checkpoints
        self.site.checkpoints.add(key)
        self._tell(
            CheckpointSaved,
            key=key,
            size=1,
            state_digest=key,
            copy_seconds=self.site.overheads.save,
            write_seconds=0.0,
            existed=existed,
        )

    def _tell_of_metrics(self) -> None:
        sequence, seed = self._course.sequence, self.assignment.trainer.seed
        self._tell(
            MetricsReported,
            key=sequence.key(self._step, self.assignment.signature),
            metrics=self.site.evaluate(sequence, self._step, seed),
            evaluate_seconds=self.site.overheads.evaluate,
        )

    def _tell(self, make: type[Any], **fields: Any) -> None:
        number = self._reports
        self._reports += 1
        report: Report = make(
            chain=self.assignment.chain,
            sequence_number=number,
            step=self._step,
            trained=self.trained,
            train_seconds=self._seconds,
            worker_seconds=self.site.now - self._begun,
            **fields,
        )
        self.site.report(report)
