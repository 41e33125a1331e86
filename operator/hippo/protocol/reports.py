"""Reports from a worker to its driver, in order, from its beginning to its end."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from hippo.protocol.fields import (
    Count,
    Fingerprint,
    Index,
    Label,
    Line,
    Metrics,
    Name,
    Seconds,
    Step,
    Studies,
    Version,
)
from hippo.protocol.records import FORMAT_VERSION, Record


class Outcome(StrEnum):
    """How a chain ended. A worker never reports ``lost``; its driver finds it gone."""

    COMPLETED = "completed"  # reached the end of its route
    STOPPED = "stopped"  # told to stop by its control object
    PREEMPTED = "preempted"  # SIGTERM
    FAILED = "failed"  # the trainer raised
    INVALID = "invalid"  # the trainer broke its contract; a retry cannot help
    REFUSED = "refused"  # the start checkpoint has a foreign fingerprint
    CORRUPT = "corrupt"  # the start checkpoint is missing, truncated or altered
    STORE = "store"  # the store could not be read or written
    LOST = "lost"


class _Report(Record):
    format_version: Version = FORMAT_VERSION
    chain: Name
    sequence_number: Index  # 0, 1, 2, ... within the chain
    step: Step  # step of the chain at the time
    trained: Count = 0  # steps trained by this chain so far
    train_seconds: Seconds = 0.0  # time in the trainer's step() so far
    worker_seconds: Seconds = 0.0  # total time since the worker began


class Began(_Report):
    """The trainer is set up and its start checkpoint is loaded."""

    kind: Literal["began"] = "began"
    studies: Studies = ()  # copied from the assignment
    fingerprint: Fingerprint
    start_seconds: Seconds  # from launch until setup() returned
    load_seconds: Seconds  # reading and restoring the start checkpoint


class CheckpointSaved(_Report):
    kind: Literal["checkpoint"] = "checkpoint"
    key: Name
    size: Count
    state_digest: Label
    copy_seconds: Seconds  # while training was paused
    write_seconds: Seconds  # in the background
    existed: bool = False  # another writer was first
    differs: bool = False  # ... and its state digest was different


class MetricsReported(_Report):
    kind: Literal["metrics"] = "metrics"
    key: Name
    metrics: Metrics
    evaluate_seconds: Seconds


class ControlAnswered(_Report):
    kind: Literal["control"] = "control"
    version: Index
    accepted: bool


class Arrived(_Report):
    """The chain is at the end of its route and waits ``linger_seconds`` for another one."""

    kind: Literal["arrived"] = "arrived"


During = Literal["start", "import", "setup", "load", "step", "evaluate", "save", "store"]
"""Activity of a worker. ``store``: waiting for the store or for instructions."""


class WorkerError(Record):
    """A one-line error for the user. ``step`` is the step being trained or evaluated."""

    during: During
    message: Line  # "ValueError: batch too large (trainer.py:31)"
    step: Step


class Ended(_Report):
    kind: Literal["ended"] = "ended"
    outcome: Outcome
    error: WorkerError | None = None


Report = Annotated[
    Began | CheckpointSaved | MetricsReported | ControlAnswered | Arrived | Ended,
    Field(discriminator="kind"),
]
REPORT: TypeAdapter[Report] = TypeAdapter(Report)


def build_bar(chain: str) -> Ended:
    """Returns the first report of a chain that is barred from starting: see ``PlanStore.bar``."""
    return Ended(chain=chain, sequence_number=0, step=0, outcome=Outcome.LOST)


def is_bar(report: Report) -> bool:
    """Whether the report bars a chain. No worker reports itself lost."""
    return isinstance(report, Ended) and report.outcome is Outcome.LOST
