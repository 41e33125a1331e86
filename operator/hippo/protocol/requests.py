"""Requests of a user's program to its external study, and answers of the driver."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from hippo.protocol.fields import Index, Label, Metrics, Step, Text, Tree, Version, Whole
from hippo.protocol.records import FORMAT_VERSION, Record


class _Request(Record):
    format_version: Version = FORMAT_VERSION


class Suggest(_Request):
    """A new trial; from now on it is called by the number of this request."""

    kind: Literal["suggest"] = "suggest"
    hyperparameters: Tree  # as written in a study
    steps: Whole  # report the metrics there
    origin: Label | None = None  # uid of the Trial object that asks for it


class Promote(_Request):
    """A trial is to go on, and to report at ``steps``. Waits until it has reported before."""

    kind: Literal["promote"] = "promote"
    trial: Whole  # the number of the request that suggested it
    steps: Whole


class Stop(_Request):
    """A trial is not to go on, wherever it is."""

    kind: Literal["stop"] = "stop"
    trial: Whole


class Close(_Request):
    """No more requests: the study ends once all that was asked for is trained."""

    kind: Literal["close"] = "close"


Request = Annotated[Suggest | Promote | Stop | Close, Field(discriminator="kind")]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class _Answer(Record):
    format_version: Version = FORMAT_VERSION


class Taken(_Answer):
    """A request was taken up: a decision was made for it, or (``refused``) never will be."""

    kind: Literal["taken"] = "taken"
    request: Index
    refused: Text | None = None  # why, in one line
    name: Label | None = None  # suggest: the trial's name


class Reached(_Answer):
    """A trial's metrics where a request asked for them."""

    kind: Literal["reached"] = "reached"
    trial: Index  # the number of the request that suggested it
    step: Step
    metrics: Metrics


class Over(_Answer):
    """A trial has ended, and how."""

    kind: Literal["over"] = "over"
    trial: Index
    phase: Label
    reason: Text


Answer = Annotated[Taken | Reached | Over, Field(discriminator="kind")]
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
