"""Events: what drivers tell the engine."""

from __future__ import annotations

from dataclasses import dataclass

from hippo.lifecycles import End
from hippo.model import Study
from hippo.protocol.assignments import Assignment, Control
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import Outcome, Report, WorkerError
from hippo.protocol.requests import Request


@dataclass(frozen=True, slots=True)
class StudyAdded:
    """Train a study. ``decisions`` of an earlier run are replayed.

    ``followed``: decisions of another run, made again in place of the tuner's own.
    """

    study: Study
    decisions: tuple[Decision, ...] = ()
    followed: tuple[Decision, ...] = ()
    worker_seconds: float = 0.0  # spent before
    steps_trained: float = 0.0  # trained before
    wall_seconds: float = 0.0  # active before
    ended: End | None = None  # how it has ended in an earlier run
    reopened: bool = False  # it goes on after that end; its last decisions say with which trials
    more_follow: bool = False  # other studies or workers follow at once: nothing is deleted, and
    # no work is handed out, before they are known


@dataclass(frozen=True, slots=True)
class Adopted:
    """A worker that an earlier driver launched is still at work; its studies were added before."""

    assignment: Assignment
    study: str  # which lends the worker
    control: Control | None = None  # the newest that was sent
    reports: tuple[Report, ...] = ()  # all so far, without Ended; the plan knows their results
    more_follow: bool = False


@dataclass(frozen=True, slots=True)
class StudyChanged:
    """An editable field of a study has another value."""

    study: Study


@dataclass(frozen=True, slots=True)
class StudyRemoved:
    """Nobody wants this study any more; others that share its work are unharmed."""

    name: str


@dataclass(frozen=True, slots=True)
class WorkersChanged:
    """How many workers there may be at once."""

    count: int


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker has written a report; those of one chain come in their order, once each."""

    report: Report


@dataclass(frozen=True, slots=True)
class Progressed:
    """A hint that may be lost: a chain has ended this step."""

    chain: str
    step: int


@dataclass(frozen=True, slots=True)
class WorkerGone:
    """A worker is gone without an Ended report."""

    chain: str
    outcome: Outcome
    error: WorkerError | None = None


@dataclass(frozen=True, slots=True)
class Requested:
    """A user's program asks an external study for something; in the order of numbers."""

    study: str
    number: int
    request: Request
    was_refused: bool = False  # in an earlier run


@dataclass(frozen=True, slots=True)
class Queued:
    """All launched workers that find no room at present. They may begin at any moment."""

    chains: frozenset[str]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Event = (
    StudyAdded
    | Adopted
    | StudyChanged
    | StudyRemoved
    | WorkersChanged
    | Reported
    | Progressed
    | WorkerGone
    | Requested
    | Queued
    | Tick
)
