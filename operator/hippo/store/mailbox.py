"""The mailbox of an external study: requests of a user's program, answers of the driver.

Requests are numbered 0, 1, 2, ... by whoever is first to write a number, so that they have one
order however many programs write. Answers are immutable and each follows from what is durable
already (decisions and reports), so a driver that was killed writes the missing ones again. Only
refusals follow from nothing else: they are read back, and what was refused stays refused.
"""

from __future__ import annotations

from collections.abc import Container
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from hippo.store.blobs import Blobs, Unreadable
from hippo.store.bounds import Index, Kind, Label, Metrics, Step, Text, Tree, Version, Whole
from hippo.store.encoding import decode, encode, fetch
from hippo.store.layout import Layout, number_of
from hippo.store.records import FORMAT_VERSION, Record


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
_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)


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
_ANSWER: TypeAdapter[Answer] = TypeAdapter(Answer)


class Mailbox:
    """The requests and answers of one study. Every failure is a StoreError."""

    def __init__(self, blobs: Blobs, plan: str, study: str) -> None:
        layout = Layout(plan)
        self._blobs = blobs
        self._requests = layout.requests_of(study)
        self._answers = layout.answers_of(study)

    def post(self, request: Request) -> int:
        """Write a request; returns its number."""
        number, data = self.count(), encode(request, Kind.REQUEST)
        while not self._blobs.put(self._request(number), data, if_absent=True):
            number += 1
        return number

    def count(self) -> int:
        """How many requests there are. One LIST."""
        numbers = {number_of(info.name) for info in self._blobs.list(self._requests)}
        return next(n for n in range(len(numbers) + 1) if n not in numbers)

    def read(self, number: int) -> Request:
        """Raises MissingBlob, and Unreadable for what is no request."""
        name = self._request(number)
        data = fetch(self._blobs, name, Kind.REQUEST)
        return decode(_REQUEST.validate_json, data, f"request {number}")

    def name_of(self, answer: Answer) -> str:
        match answer:
            case Taken(request=number):
                name = f"taken-{number:06d}"
            case Reached(trial=trial, step=step):
                name = f"reached-{trial:06d}-{step:013d}"
            case Over(trial=trial):
                name = f"over-{trial:06d}"
        return f"{self._answers}{name}.json"

    def answer(self, answer: Answer) -> None:
        """Idempotent: the first answer of its kind stands."""
        self._blobs.put(self.name_of(answer), encode(answer, Kind.ANSWER), if_absent=True)

    def withdraw(self, answer: Answer) -> None:
        """An answer does not hold any more. Idempotent."""
        self._blobs.delete(self.name_of(answer))

    def read_answers(self, known: Container[str] = ()) -> dict[str, Answer]:
        """All answers but the known ones, by their names. One LIST, and one read for each."""
        found: dict[str, Answer] = {}
        for info in self._blobs.list(self._answers):
            if info.name not in known:
                data = fetch(self._blobs, info.name, Kind.ANSWER)
                found[info.name] = decode(_ANSWER.validate_json, data, f"the answer {info.name}")
        return found

    def _request(self, number: int) -> str:
        return f"{self._requests}{number:06d}.json"


__all__ = [
    "Answer",
    "Close",
    "Mailbox",
    "Over",
    "Promote",
    "Reached",
    "Request",
    "Stop",
    "Suggest",
    "Taken",
    "Unreadable",
]
