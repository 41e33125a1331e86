"""What a driver tells a worker: its assignment, and controls that steer it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from hippo.protocol.fields import (
    MAX_THREADS,
    Fingerprint,
    Horizon,
    Index,
    Label,
    Marks,
    Name,
    Seconds,
    Seed,
    Step,
    Studies,
    Tree,
    Version,
)
from hippo.protocol.records import FORMAT_VERSION, Record

TIMED_ASSIGNMENT_VERSION = 2
"""Of an assignment with a step timeout, which earlier runners would not heed; others stay as they
were.
"""


class TrainerCall(Record):
    """What to import and how to build it; the part of a study's trainer that a worker needs."""

    entrypoint: Label  # "module:Class"
    config: Tree = Field(default_factory=dict)
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
