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
    """Trains a study. ``decisions`` of an earlier run are replayed.

    ``followed`` are decisions of another run that are repeated instead of asking the tuner.
    """

    study: Study
    decisions: tuple[Decision, ...] = ()
    followed: tuple[Decision, ...] = ()
    worker_seconds: float = 0.0  # spent before
    steps_trained: float = 0.0  # trained before
    wall_seconds: float = 0.0  # active before
    ended: End | None = None  # its end in an earlier run
    reopened: bool = False  # it was reopened after that end; its last decisions reopen trials
    more_follow: bool = False  # others follow at once: nothing is deleted or scheduled before


@dataclass(frozen=True, slots=True)
class Adopted:
    """A worker that an earlier driver launched is still running; its studies were added before."""

    assignment: Assignment
    study: str  # the lender, whose parallelism counts the worker
    control: Control | None = None  # the newest one sent
    reports: tuple[Report, ...] = ()  # all so far, without Ended; the plan knows their results
    more_follow: bool = False


@dataclass(frozen=True, slots=True)
class StudyChanged:
    """An editable field of a study has changed."""

    study: Study


@dataclass(frozen=True, slots=True)
class StudyRemoved:
    """A study was removed; studies that share its work are unaffected."""

    name: str


@dataclass(frozen=True, slots=True)
class WorkersChanged:
    """The number of available workers has changed."""

    count: int


@dataclass(frozen=True, slots=True)
class Reported:
    """A worker has written a report; a chain's reports arrive in order, once each."""

    report: Report


@dataclass(frozen=True, slots=True)
class Progressed:
    """A chain has completed this step. A hint that may be lost."""

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
    """A user's program sends a request to an external study; in the order of numbers."""

    study: str
    number: int
    request: Request
    was_refused: bool = False  # in an earlier run


@dataclass(frozen=True, slots=True)
class Queued:
    """All launched workers that lack resources at present. They may start at any moment."""

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
