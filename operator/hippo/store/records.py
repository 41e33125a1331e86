"""The records that drivers and workers exchange through the store.

All of them are small JSON objects, immutable once written (controls excepted: the newest version
stands). They are the whole protocol between the side that decides (``hippo``) and the side that
trains (``stage_runner``): a worker needs nothing but its assignment and the store.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    model_serializer,
    model_validator,
)
from pydantic.alias_generators import to_camel

from hippo.store.bounds import (
    MAX_CHAINS,
    MAX_STUDIES,
    MAX_THREADS,
    Charge,
    Count,
    Fingerprint,
    Horizon,
    Index,
    Label,
    Line,
    Marks,
    Metrics,
    Name,
    Seconds,
    Seed,
    Step,
    Studies,
    Tree,
    Version,
)

FORMAT_VERSION = 1
"""Version of everything below. A reader refuses a greater one with a clear line."""
TIMED_ASSIGNMENT_VERSION = 2
"""Of an assignment with a step timeout, which earlier runners would not heed; others stay as they
were.
"""

REOPEN_FORMAT = 2
"""Of a decision of the kind reopen: an older Hippo does not know it, and says so."""


class Record(BaseModel):
    """Frozen, strict about unknown fields, camelCase in JSON; NaN and infinities survive as
    strings.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        ser_json_inf_nan="strings",
    )


class TrainerCall(Record):
    """What to import and how to build it; the part of a study's trainer that a worker needs."""

    entrypoint: Label  # "module:Class"
    config: Tree = {}
    seed: Seed = 0
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] = 1  # CPU threads; results depend on it


class Route(Record):
    """What a chain does from here on: under which sequence, up to where, and what it leaves on the
    way.
    """

    hyperparameters: Tree  # as written in the study; hippo.model reads them
    steps: Horizon  # up to which the sequence is defined
    stop_at: Step  # leave at the first step end at or after this one
    save_at: Marks = ()  # write a checkpoint at these steps, ascending
    evaluate_at: Marks = ()  # call evaluate() at these steps, ascending, after a save
    save_at_stop: bool = True  # False: what was trained since the last checkpoint is not wanted


class Assignment(Record):
    """All that a worker is told. ``chain`` names the attempt and is unique within the plan."""

    format_version: Version = FORMAT_VERSION
    chain: Name
    signature: Label  # what content keys are derived from, beside the sequence
    trainer: TrainerCall
    route: Route
    start: Step = 0  # of the checkpoint to start from; 0: train from scratch
    start_key: Name | None = None  # content key of that checkpoint; None exactly if start is 0
    save_every_seconds: Seconds | None = 600.0  # extra saves by time; None: none
    poll_seconds: Seconds = 0.1  # how often the control object is looked at
    linger_seconds: Seconds = 0.0  # how long to wait for a new route at the end of this one
    grace_seconds: Seconds = 60.0  # on SIGTERM: how long the step in progress may take
    exactness: Literal["strict", "relaxed"] = "strict"  # strict: refuse a foreign fingerprint
    studies: Studies = ()  # who asked for this work; its cost is split evenly over them
    fingerprint: Fingerprint | None = None  # strict: refuse to train anywhere else
    step_timeout_seconds: Seconds | None = None  # that a call of the trainer may take; None: any

    @model_validator(mode="after")
    def _leads_forward(self) -> Assignment:
        route = self.route
        if self.start > route.stop_at:
            raise ValueError(f"start: {self.start} lies beyond stopAt, {route.stop_at}")
        if (self.start == 0) != (self.start_key is None):
            raise ValueError("startKey: is needed exactly if start is not 0")
        for name, marks in (("saveAt", route.save_at), ("evaluateAt", route.evaluate_at)):
            if marks and max(marks) > route.steps:
                raise ValueError(f"route.{name}: {max(marks)} lies beyond steps, {route.steps}")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_is_unset(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A runner that does not know the timeout reads every assignment without one."""
        document: dict[str, Any] = write(self)
        if self.step_timeout_seconds is None:
            for name in ("step_timeout_seconds", "stepTimeoutSeconds"):
                document.pop(name, None)
        return document


class Control(Record):
    """Steers a running chain: replaces its whole route. Versions begin at 1; the newest stands.

    The runner takes it between two steps, at step t, if the new sequence equals the old one below t
    and no newly asked save or evaluation lies before t. Otherwise it refuses and goes on as it was.
    ``route.stop_at <= t`` means: stop now. Either way it reports ControlAnswered.
    """

    format_version: Version = FORMAT_VERSION
    chain: Name
    version: Index
    route: Route
    standing: Route | None = None  # that the chain has accepted before; for a driver's restart


class Manifest(Record):
    """Describes one checkpoint. Written last and first writer wins: no manifest, no checkpoint."""

    format_version: Version = FORMAT_VERSION
    key: Name
    step: Step
    size: Count  # bytes of the data object
    sha256: Label  # of the data object
    state_digest: Label  # of the state itself, independent of its encoding
    fingerprint: Fingerprint  # software and hardware that produced it
    chain: Name


class Outcome(StrEnum):
    """How a chain ended. ``lost`` is never reported by a worker: its driver found it gone."""

    COMPLETED = "completed"  # reached the end of its route
    STOPPED = "stopped"  # told to, by its control object
    PREEMPTED = "preempted"  # SIGTERM
    FAILED = "failed"  # the trainer raised
    INVALID = "invalid"  # the trainer broke its contract; trying again cannot help
    REFUSED = "refused"  # the start checkpoint has a foreign fingerprint
    CORRUPT = "corrupt"  # the start checkpoint is missing, truncated or altered
    STORE = "store"  # the store could not be read or written
    LOST = "lost"


class _Report(Record):
    format_version: Version = FORMAT_VERSION
    chain: Name
    sequence_number: Index  # 0, 1, 2, ... within the chain
    step: Step  # where the chain stood
    trained: Count = 0  # steps trained by this chain so far
    train_seconds: Seconds = 0.0  # time within the trainer's step() so far
    worker_seconds: Seconds = 0.0  # time since the worker began, all included


class Began(_Report):
    """The trainer is set up and its start checkpoint loaded."""

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
    copy_seconds: Seconds  # training stood still
    write_seconds: Seconds  # in the background
    existed: bool = False  # another writer was first
    differs: bool = False  # ... and its state digest was another one


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
    """At the end of its route; waits ``linger_seconds`` for another one."""

    kind: Literal["arrived"] = "arrived"


During = Literal["start", "import", "setup", "load", "step", "evaluate", "save", "store"]
"""What a worker is at. ``store``: waiting for the store, or for what to do next."""


class WorkerError(Record):
    """One line for the user. ``step`` is the step being trained, or the one being evaluated."""

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
    """The first report of a chain that is never to begin: see ``PlanStore.bar``."""
    return Ended(chain=chain, sequence_number=0, step=0, outcome=Outcome.LOST)


def is_bar(report: Report) -> bool:
    """No worker says of itself that it is lost."""
    return isinstance(report, Ended) and report.outcome is Outcome.LOST


class Decision(Record):
    """One durable decision of a study: written before it is acted on, and never derived again.

    suggest: a new trial; promote: a trial is to go on, up to ``steps``; stop: a trial is not to go
    on; fail: the engine's own verdict, after all retries: the trial cannot reach ``steps``; reopen:
    the trial's stop or failure before it is void, and it goes on, up to ``steps``.
    """

    format_version: Version = FORMAT_VERSION
    index: Index  # 0, 1, 2, ... within the study
    kind: Literal["suggest", "promote", "stop", "fail", "reopen"]
    trial: Index  # index of the trial within the study; suggest numbers them 0, 1, 2, ...
    steps: Step  # that the trial is to reach (stop: where it stays, 0 if it has no result yet)
    hyperparameters: Tree | None = None  # suggest only
    parent: Index | None = None  # suggest only: the trial whose beginning it takes over (PBT)
    marks: Marks = ()  # suggest, promote: earlier steps with a report on the way
    seed: Seed | None = None  # suggest only: a replicate, trained under this seed
    request: Index | None = None  # external studies: the number of the request that it answers
    reason: Annotated[Line, Field(min_length=1)]

    @model_validator(mode="after")
    def _says_what_to_try(self) -> Decision:
        if self.kind == "suggest" and self.hyperparameters is None:
            raise ValueError("hyperparameters: a new trial needs them")
        return self


def format_of(kind: str) -> int:
    """The version under which a decision of this kind is written: the oldest that knows it."""
    return REOPEN_FORMAT if kind == "reopen" else FORMAT_VERSION


class Spent(Record):
    """Charges to a study."""

    worker_seconds: Charge = 0.0
    steps_trained: Charge = 0.0


class Spending(Record):
    """What the studies of a plan have been charged, and the reports that this takes in.

    Of chains that stand here so many reports count; of others all, if an earlier run launched them.
    """

    format_version: Version = FORMAT_VERSION
    generation: Index  # of the lock, under which the run goes on
    counted: Annotated[dict[Name, Index], Field(max_length=MAX_CHAINS)] = {}  # by chain
    studies: Annotated[dict[Name, Spent], Field(max_length=MAX_STUDIES)] = {}  # by name
