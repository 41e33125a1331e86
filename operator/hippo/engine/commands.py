"""Commands: what the engine tells drivers to do.

Drivers carry them out in order, and each durably before the next: a decision is on disk before the
work that follows from it begins.
"""

from __future__ import annotations

from dataclasses import dataclass

from hippo.lifecycles import EndReason, StudyState
from hippo.protocol.assignments import Assignment, Control
from hippo.protocol.decisions import Decision


@dataclass(frozen=True, slots=True)
class Record:
    """Write a decision of a study durably. If that fails, carry out no further command."""

    study: str
    decision: Decision


@dataclass(frozen=True, slots=True)
class Refuse:
    """Write durably that a request will not be carried out, and why."""

    study: str
    number: int
    message: str


@dataclass(frozen=True, slots=True)
class Launch:
    """Start a worker."""

    assignment: Assignment
    study: str  # which lends the worker


@dataclass(frozen=True, slots=True)
class Steer:
    """Write a control object."""

    control: Control


@dataclass(frozen=True, slots=True)
class DeleteCheckpoint:
    """Delete a checkpoint that nothing needs any more, or that is damaged."""

    key: str
    step: int


@dataclass(frozen=True, slots=True)
class Finish:
    """A study has ended; ``best`` is the index of its best trial."""

    study: str
    state: StudyState
    message: str
    best: int | None
    reason: EndReason | None = None


@dataclass(frozen=True, slots=True)
class Notify:
    """Show the user a message of one line that is worth reading now."""

    message: str
    study: str | None = None


@dataclass(frozen=True, slots=True)
class WakeAt:
    """Send a Tick at this time, if nothing else comes before."""

    time: float


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop all work in order: going on makes no sense, as the store cannot be written."""

    message: str


Command = Record | Refuse | Launch | Steer | DeleteCheckpoint | Finish | Notify | WakeAt | Halt
