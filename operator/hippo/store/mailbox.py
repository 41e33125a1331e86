"""The mailbox of an external study: requests of a user's program, answers of the driver.

Requests are numbered 0, 1, 2, ... by the first writer of each number, so they have one order
however many programs write. Answers are immutable, and each follows from durable decisions and
reports, so a driver rewrites missing ones after it was killed. Only refusals follow from nothing
else: they are read back, and a refused request stays refused.
"""

from __future__ import annotations

from collections.abc import Container

from hippo.protocol.requests import (
    ANSWER,
    REQUEST,
    Answer,
    Close,
    Over,
    Promote,
    Reached,
    Request,
    Stop,
    Suggest,
    Taken,
)
from hippo.store.blobs import Blobs, Unreadable
from hippo.store.bounds import Kind
from hippo.store.encoding import decode, encode, fetch
from hippo.store.layout import Layout, number_of


class Mailbox:
    """The requests and answers of one study. Every failure is a StoreError."""

    def __init__(self, blobs: Blobs, plan: str, study: str) -> None:
        layout = Layout(plan)
        self._blobs = blobs
        self._requests = layout.requests_of(study)
        self._answers = layout.answers_of(study)

    def post(self, request: Request) -> int:
        """Writes a request; returns its number."""
        number, data = self.count(), encode(request, Kind.REQUEST)
        while not self._blobs.put(self._request(number), data, if_absent=True):
            number += 1
        return number

    def count(self) -> int:
        """Returns the number of requests. Takes one LIST."""
        numbers = {number_of(info.name) for info in self._blobs.list(self._requests)}
        return next(n for n in range(len(numbers) + 1) if n not in numbers)

    def read(self, number: int) -> Request:
        """Returns a request. Raises MissingBlob, or Unreadable if it is not a request."""
        name = self._request(number)
        data = fetch(self._blobs, name, Kind.REQUEST)
        return decode(REQUEST.validate_json, data, f"request {number}")

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
        """Writes an answer. Idempotent: the first answer of its kind stays."""
        self._blobs.put(self.name_of(answer), encode(answer, Kind.ANSWER), if_absent=True)

    def withdraw(self, answer: Answer) -> None:
        """Deletes an answer that no longer holds. Idempotent."""
        self._blobs.delete(self.name_of(answer))

    def read_answers(self, known: Container[str] = ()) -> dict[str, Answer]:
        """Returns all answers but the known ones, by name.

        Takes one LIST, and one read per answer.
        """
        found: dict[str, Answer] = {}
        for info in self._blobs.list(self._answers):
            if info.name not in known:
                data = fetch(self._blobs, info.name, Kind.ANSWER)
                found[info.name] = decode(ANSWER.validate_json, data, f"the answer {info.name}")
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
