"""Records from a driver to a worker: its assignment, and controls that steer it."""

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
"""Format version of an assignment with a step timeout, which older runners would ignore; other
assignments keep version 1.
"""


class TrainerCall(Record):
    """The part of a study's trainer that a worker needs: what to import and how to build it."""

    entrypoint: Label  # "module:Class"
    config: Tree = Field(default_factory=dict)
    seed: Seed = 0
    threads: Annotated[int, Field(ge=1, le=MAX_THREADS)] = 1  # CPU threads; results depend on them


class Route(Record):
    """A chain's work from here on: its sequence, where it stops, and what it saves on the way."""

    hyperparameters: Tree  # as written in the study; parsed by hippo.model
    steps: Horizon  # length of the sequence
    stop_at: Step  # stop at the first step end at or after this one
    save_at: Marks = ()  # steps at which to save a checkpoint, ascending
    evaluate_at: Marks = ()  # steps at which to call evaluate(), ascending, after a save
    save_at_stop: bool = True  # False: training since the last checkpoint may be discarded


class Assignment(Record):
    """A worker's complete instructions. ``chain`` names the attempt, uniquely within the plan."""

    format_version: Version = FORMAT_VERSION
    chain: Name
    signature: Label  # content keys are derived from it and the sequence
    trainer: TrainerCall
    route: Route
    start: Step = 0  # step of the start checkpoint; 0: train from scratch
    start_key: Name | None = None  # content key of that checkpoint; None exactly if start is 0
    save_every_seconds: Seconds | None = 600.0  # extra saves by time; None: none
    poll_seconds: Seconds = 0.1  # poll interval of the control object
    linger_seconds: Seconds = 0.0  # how long to wait for a new route at the end of this one
    grace_seconds: Seconds = 60.0  # on SIGTERM: how long the current step may take
    exactness: Literal["strict", "relaxed"] = "strict"  # strict: refuse a foreign fingerprint
    studies: Studies = ()  # studies that need this work; its cost is split evenly over them
    fingerprint: Fingerprint | None = None  # strict: refuse to train anywhere else
    step_timeout_seconds: Seconds | None = None  # limit of one call of the trainer; None: none

    @model_validator(mode="after")
    def _check_route(self) -> Assignment:
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
    def _omit_unset_timeout(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Omits an unset timeout, so that older runners can read the assignment."""
        document: dict[str, Any] = write(self)
        if self.step_timeout_seconds is None:
            for name in ("step_timeout_seconds", "stepTimeoutSeconds"):
                document.pop(name, None)
        return document


class Control(Record):
    """Steers a running chain by replacing its whole route. Versions begin at 1; the newest counts.

    The runner applies it between two steps, at step t, if the new sequence equals the old one below
    t and no newly requested save or evaluation lies before t. Otherwise it refuses and continues
    unchanged. ``route.stop_at <= t`` means: stop now. In both cases it reports ControlAnswered.
    """

    format_version: Version = FORMAT_VERSION
    chain: Name
    version: Index
    route: Route
    standing: Route | None = None  # last accepted route; for a driver's restart
