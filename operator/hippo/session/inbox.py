"""Passes requests of users' programs to the engine, and answers back to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from hippo.engine import Engine
from hippo.engine.events import Requested
from hippo.engine.state import StudyRun
from hippo.lifecycles import blame
from hippo.model import External, Study
from hippo.protocol.requests import Answer, Over, Reached, Taken
from hippo.store import RESTORE, PlanStore, StoreError
from hippo.store.mailbox import Mailbox, Unreadable

POLL_SECONDS = 0.5
"""Minimum seconds between two polls of the mailboxes: each poll is a LIST."""


@dataclass(slots=True)
class _Box:
    """A study's mailbox, and the requests and answers that have passed through it."""

    mailbox: Mailbox
    refused: set[int]  # in earlier runs
    answered: set[str]  # by name of the answer
    requests: int = 0  # number passed to the engine


class Inbox:
    """The mailboxes of all external studies of a run. Nothing it keeps is needed again."""

    def __init__(
        self,
        store: PlanStore,
        engine: Engine,
        studies: Iterable[Study],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the answers of earlier runs. Raises StoreError."""
        self.damaged: dict[str, str] = {}  # studies whose answers cannot be read, and why
        self._engine = engine
        self._clock = clock
        self._due = clock()
        self._boxes: dict[str, _Box] = {}
        for study in studies:
            if isinstance(study.spec.algorithm, External):
                mailbox = Mailbox(store.blobs, store.plan, study.name)
                try:
                    answers = mailbox.read_answers()
                except Unreadable as error:
                    self.damaged[study.name] = f"{error}: {RESTORE}"
                    continue
                refused = {
                    answer.request
                    for answer in answers.values()
                    if isinstance(answer, Taken) and answer.refused is not None
                }
                self._boxes[study.name] = _Box(mailbox, refused, set(answers))

    def collect(self) -> list[Requested]:
        """Return the requests since the last call, in order. Raises StoreError."""
        if not self._boxes or self._clock() < self._due:
            return []
        self._due = self._clock() + POLL_SECONDS
        found: list[Requested] = []
        for name, box in self._boxes.items():
            if self._engine.studies[name].is_active:
                with blame(name, StoreError):
                    found += self._read(name, box)
        return found

    @staticmethod
    def _read(name: str, box: _Box) -> Iterator[Requested]:
        count = box.mailbox.count()
        for number in range(box.requests, count):
            try:
                request = box.mailbox.read(number)
            except Unreadable as error:
                box.mailbox.answer(Taken(request=number, refused=str(error)))
                continue
            yield Requested(name, number, request, number in box.refused)
        box.requests = count

    def refuse(self, study: str, number: int, message: str) -> None:
        """Answer a request with a refusal. Raises StoreError."""
        self._boxes[study].mailbox.answer(Taken(request=number, refused=message))

    def publish(self) -> None:
        """Write the answers that are due. Raises StoreError."""
        for name, box in self._boxes.items():
            run = self._engine.studies.get(name)
            if run is not None and run.void:
                _take_back(run, box)
            for answer in _due_answers(run) if run is not None else ():
                blob = box.mailbox.name_of(answer)
                if blob not in box.answered:
                    box.mailbox.answer(answer)
                    box.answered.add(blob)


def _take_back(run: StudyRun, box: _Box) -> None:
    """Withdraw the ends of trials that are open again because their study resumed."""
    for trial in run.trials:
        if trial.request is None or trial.state.is_final:
            continue
        over = Over(trial=trial.request, phase=str(trial.state), reason=trial.reason)
        if (blob := box.mailbox.name_of(over)) in box.answered:
            box.mailbox.withdraw(over)
            box.answered.discard(blob)


def _due_answers(run: StudyRun) -> Iterator[Answer]:
    secret = run.study.spec.objective.test_metric  # hidden: no program may select by it
    for trial in run.trials:
        request = trial.request
        if request is None:
            continue
        yield Taken(request=request, name=trial.name)
        for step, metrics in sorted(trial.results.items()):
            told = {name: value for name, value in metrics.items() if name != secret}
            yield Reached(trial=request, step=step, metrics=told)
        if trial.state.is_final:
            yield Over(trial=request, phase=str(trial.state), reason=trial.reason)
