"""Commands: what the engine tells drivers to do.

Drivers execute them in order, each durably before the next: a decision is on disk before the work
that follows from it begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from hippo.lifecycles import EndReason, StudyState
from hippo.protocol.assignments import Assignment, Control
from hippo.protocol.decisions import Decision


@dataclass(frozen=True, slots=True)
class Record:
    """Write a decision of a study durably. If that fails, execute no further command."""

    study: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Refuse:
    """Record durably that a request is refused, and why."""

    study: str
    number: int
    message: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a worker."""

    assignment: Assignment
    study: str  # the lender, whose parallelism counts the worker


@dataclass(frozen=True, slots=True)
class Steer:
    """Write a control object."""

    control: Control


@dataclass(frozen=True, slots=True)
class DeleteCheckpoint:
    """Delete a checkpoint that is no longer needed, or is damaged."""

    key: str
    step: int


@dataclass(frozen=True, slots=True)
class Finish:
    """Announce that a study has ended; ``best`` is the index of its best trial."""

    study: str
    state: StudyState
    message: str
    best: int | None
    reason: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Notify:
    """Show the user a one-line message now."""

    message: str
    study: str | None = None


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick at this time, unless another event comes before."""

    time: float


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop all work in order, because the store cannot be written."""

    message: str


Command = Record | Refuse | Launch | Steer | DeleteCheckpoint | Finish | Notify | WakeAt | Halt
