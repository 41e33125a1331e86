"""Requests of a user's program to its external study, and answers of the driver."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from hippo.protocol.fields import Index, Label, Metrics, Step, Text, Tree, Version, Whole
from hippo.protocol.records import FORMAT_VERSION, Record


class _Request(Record):
    format_version: Version = FORMAT_VERSION


class Suggest(_Request):
    """Suggests a new trial, which is referred to by the number of this request from then on."""

    kind: Literal["suggest"] = "suggest"
    hyperparameters: Tree  # as written in a study
    steps: Whole  # step at which to report metrics
    origin: Label | None = None  # uid of the Trial object behind the request


class Promote(_Request):
    """Promotes a trial to ``steps``, to report there. Waits until its previous report."""

    kind: Literal["promote"] = "promote"
    trial: Whole  # number of the request that suggested it
    steps: Whole


class Stop(_Request):
    """Stops a trial wherever it is."""

    kind: Literal["stop"] = "stop"
    trial: Whole


class Close(_Request):
    """Ends the requests: the study ends once everything requested is trained."""

    kind: Literal["close"] = "close"


Request = Annotated[Suggest | Promote | Stop | Close, Field(discriminator="kind")]
REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


class _Answer(Record):
    format_version: Version = FORMAT_VERSION


class Taken(_Answer):
    """A decision was made for a request, or (``refused``) never will be."""

    kind: Literal["taken"] = "taken"
    request: Index
    refused: Text | None = None  # the reason, in one line
    name: Label | None = None  # suggest: the trial's name


class Reached(_Answer):
    """A trial's metrics at a requested step."""

    kind: Literal["reached"] = "reached"
    trial: Index  # number of the request that suggested it
    step: Step
    metrics: Metrics


class Over(_Answer):
    """A trial has ended, with its final phase."""

    kind: Literal["over"] = "over"
    trial: Index
    phase: Label
    reason: Text


Answer = Annotated[Taken | Reached | Over, Field(discriminator="kind")]
ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)
