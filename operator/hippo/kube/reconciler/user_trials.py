"""Trials that users make: they become requests in the mailbox of their external study.

A Trial says what is wanted; the mailbox gives that one order, durably. Each request names the Trial
it comes from, so a restarted operator asks for nothing twice.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from hippo.kube.client import Api, NotFound, Refused
from hippo.kube.reconciler.trial_objects import TrialObjects
from hippo.kube.resources import TRIAL
from hippo.kube.spec_parser import SHARED, ParserFailed, SpecParser, TooCostly
from hippo.kube.status.models import TrialStatus
from hippo.model import InvalidSpec, Study
from hippo.model.trial import TrialSpec, parse_trial_spec
from hippo.protocol.requests import Promote, Stop, Suggest, Taken
from hippo.store import PlanStore
from hippo.store.mailbox import Mailbox, Unreadable

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Asked:
    """Requests that were posted on behalf of a Trial."""

    number: int  # of the request that suggests it
    steps: int
    is_stopped: bool = False


class UserTrials:
    """The Trials of one external study that users made."""

    def __init__(
        self,
        store: PlanStore,
        study: Study,
        book: TrialObjects,
        live: Collection[str],
        parser: SpecParser = SHARED,
    ) -> None:
        """Reads the mailbox. ``live``: uids of all Trials there are; others were deleted while
        nobody looked. Raises StoreError.
        """
        self._mailbox = Mailbox(store.blobs, store.plan, study.name)
        self._study = study
        self._book = book
        self._parser = parser
        self._seen: dict[str, Any] = {}  # specs that all was done for, by uid
        self._asked: dict[str, _Asked] = {}  # by uid
        self._names: dict[str, str] = {}  # of the objects that there are, by uid
        self._problems: dict[str, str] = {}  # of Trials that cannot be taken, by uid
        self._told: dict[str, str] = {}  # as written to their statuses
        self._answers: set[str] = set()  # names of those that were read
        by_number: dict[int, _Asked] = {}
        for number in range(self._mailbox.count()):
            try:
                request = self._mailbox.read(number)
            except Unreadable:
                continue
            match request:
                case Suggest(origin=str() as uid, steps=steps):
                    self._asked[uid] = by_number[number] = _Asked(number, steps)
                case Promote(trial=trial, steps=steps) if trial in by_number:
                    by_number[trial].steps = max(steps, by_number[trial].steps)
                case Stop(trial=trial) if trial in by_number:
                    by_number[trial].is_stopped = True
                case _:
                    pass
        for uid, asked in self._asked.items():
            book.user_trials[asked.number] = None
            if uid not in live:
                self._stop(asked)

    def post(self, objects: Mapping[str, Mapping[str, Any]]) -> None:
        """Ask for what Trials want that was not asked for yet. Raises StoreError.

        ``objects``: all Trials of the study that the operator did not make, by name.
        """
        present = {document["metadata"]["uid"]: name for name, document in objects.items()}
        for uid in self._names.keys() - present.keys():
            del self._names[uid]
            self._seen.pop(uid, None)
            self._problems.pop(uid, None)
            self._told.pop(uid, None)
            if (asked := self._asked.get(uid)) is not None:
                self._book.user_trials[asked.number] = None
                self._stop(asked)
        for uid, name in present.items():
            self._names[uid] = name
            written = objects[name].get("spec")
            if uid in self._seen and self._seen[uid] == written:
                continue
            try:
                self._take(uid, name, written)
            except InvalidSpec as error:
                self._problems[uid] = "; ".join(str(error).splitlines())
            except ParserFailed as error:
                log.error("trial %s: %s", name, error)
                continue  # until the next time
            self._seen[uid] = written

    def _take(self, uid: str, name: str, written: Any) -> None:
        """Raises InvalidSpec, ParserFailed, StoreError."""
        spec = parse_trial_spec(written)
        if uid not in self._asked:
            try:
                study = self._study
                self._parser.check_sequence(spec.hyperparameters, study.spec.steps, study.namespace)
            except TooCostly:
                raise
            except InvalidSpec:
                pass  # the tuner says so, as to whoever asks in another way
        self._ask(uid, spec)
        self._book.user_trials[self._asked[uid].number] = name

    def _stop(self, asked: _Asked) -> None:
        if not asked.is_stopped:
            self._mailbox.post(Stop(trial=asked.number))
            asked.is_stopped = True

    def _ask(self, uid: str, spec: TrialSpec) -> None:
        asked = self._asked.get(uid)
        if asked is None:
            request = Suggest(hyperparameters=spec.hyperparameters, steps=spec.steps, origin=uid)
            asked = self._asked[uid] = _Asked(self._mailbox.post(request), spec.steps)
        if spec.steps > asked.steps:
            self._mailbox.post(Promote(trial=asked.number, steps=spec.steps))
            asked.steps = spec.steps
        if spec.stop:
            self._stop(asked)

    def read_refusals(self) -> None:
        """Which requests were refused, and why. Raises StoreError."""
        news = self._mailbox.read_answers(self._answers)
        self._answers.update(news)
        refused = {
            answer.request: answer.refused
            for answer in news.values()
            if isinstance(answer, Taken) and answer.refused is not None
        }
        if refused:
            for uid, asked in self._asked.items():
                if asked.number in refused:
                    self._problems[uid] = refused[asked.number]

    async def write_refusals(self, api: Api) -> None:
        """Say in its status why a Trial was not taken. Raises ApiError."""
        for uid, problem in self._problems.items():
            name = self._names.get(uid)
            if name is None or self._told.get(uid) == problem:
                continue
            status = TrialStatus(phase="Rejected", reason=problem)
            with contextlib.suppress(NotFound, Refused):
                await api.set_status(TRIAL, self._study.namespace, name, status)
            self._told[uid] = problem
