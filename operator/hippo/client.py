"""Ask for trials from your own program: the client of ``algorithm: {name: external}``.

``hippo run`` trains, in a process of its own; this client talks to it through the store, a folder
or S3 alike, and may come and go, as may ``hippo run``.

    client = Client.open(".hippo", "study.yaml")
    ticket = client.submit({"lr": 0.1}, steps=10)
    view = client.wait(ticket)
    if view.metrics[10]["accuracy"] > 0.5:
        client.extend(ticket, steps=100)
    else:
        client.stop(ticket)
    client.close()

:meth:`Client.drive` is the loop around all that, for a tuner with ``ask`` and ``tell``.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from hippo.model import InvalidSpec, load_studies, parse_study
from hippo.model.study import DEFAULT_NAMESPACE
from hippo.store import (
    Blobs,
    PlanStore,
    StoredStudy,
    StoreError,
    find_studies,
    locate_store,
    open_blobs,
)
from hippo.store.mailbox import (
    Answer,
    Close,
    Mailbox,
    Over,
    Promote,
    Reached,
    Request,
    Stop,
    Suggest,
    Taken,
    Unreadable,
)

POLL_SECONDS = 0.5
OPEN_SECONDS = 60.0
"""So long ``open`` waits for ``hippo run`` to begin a study."""


class Refused(Exception):
    """A request will not be carried out; one line that says why."""


class StudyEnded(Exception):
    """The study has ended, and will not answer any more."""


@dataclass(slots=True)
class TrialView:
    """What is known of a trial."""

    ticket: int
    hyperparameters: dict[str, Any]
    steps: int
    """The farthest that it was asked to go."""
    name: str | None = None
    """As in the study's results; None until the request was taken up."""
    phase: str = "Pending"
    """Pending, Paused (it has reported where it was asked to, and may be extended), Completed,
    Stopped, Failed, Diverged or Refused.
    """
    reason: str = ""
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    """By step; only the steps that were asked for."""
    refusals: list[str] = field(default_factory=list)
    """What became of requests to extend or stop it that could not be carried out."""

    @property
    def is_over(self) -> bool:
        return self.phase not in ("Pending", "Paused")


class AskTell(Protocol):
    """A tuner of yours, for :meth:`Client.drive`."""

    def ask(self) -> tuple[Mapping[str, Any] | int, int] | None:
        """What to train next, and up to which step: hyper-parameters for a new trial, or the ticket
        of one that is to go on. None: nothing before the next result; nothing at all if no result
        is awaited.
        """

    def tell(self, trial: TrialView, step: int, metrics: Mapping[str, float] | None) -> None:
        """A result. None: the trial has failed, diverged, or was refused (``trial.reason``)."""


class Client:
    """Requests to one external study, and their results. Not thread-safe.

    Trials are called by their tickets: the number of the request that made them. Any number of
    programs may use one study.
    """

    def __init__(self, mailbox: Mailbox, steps: int, is_over: Callable[[], bool]) -> None:
        """Use :meth:`open`."""
        self._mailbox = mailbox
        self._steps = steps
        self._is_over = is_over
        self._requests: dict[int, Request] = {}
        self._known = 0  # requests looked at
        self._answers: dict[str, Answer] = {}
        self._refusals: dict[int, str] = {}

    @classmethod
    def open(
        cls,
        store: str | Path,
        study: str | Path,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        timeout: float = OPEN_SECONDS,
    ) -> Client:
        """A study by its name and namespace, or by its file, once ``hippo run`` has begun it.

        Raises StoreError if it does not within ``timeout`` seconds, InvalidSpec if its algorithm is
        another one.
        """
        name = str(study)
        if name.endswith((".yaml", ".yml")):
            studies = load_studies([Path(study)])
            if len(studies) != 1:
                raise InvalidSpec.at(name, "holds several studies: give the name of one")
            name, namespace = studies[0].name, studies[0].namespace
        blobs = open_blobs(locate_store(str(store)))
        deadline = time.monotonic() + timeout
        while (found := _find(blobs, name, namespace)) is None:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the store {store} has no study {name!r} in {namespace}: start `hippo run`"
                )
            time.sleep(POLL_SECONDS)
        spec = parse_study(found.document["study"]).spec
        if spec.algorithm.name != "external":
            raise InvalidSpec.at("spec.algorithm.name", f"is {spec.algorithm.name}, not external")

        plan = PlanStore(blobs, found.plan)

        def is_over() -> bool:
            return bool(plan.read_study(name)["status"].get("state"))

        return cls(Mailbox(blobs, found.plan, name), spec.steps, is_over)

    # -- requests ----------------------------------------------------------------------------------

    def submit(self, hyperparameters: Mapping[str, Any], steps: int | None = None) -> int:
        """Ask for a trial that reports at ``steps`` (the study's, by default). Its ticket."""
        steps = self._steps if steps is None else steps
        return self._post(Suggest(hyperparameters=dict(hyperparameters), steps=steps))

    def extend(self, ticket: int, steps: int) -> int:
        """Ask for a trial to go on, and to report at ``steps``. The number of the request.

        Nothing is trained again. It goes on once it has reported where it was asked to before.
        """
        return self._post(Promote(trial=ticket, steps=steps))

    def stop(self, ticket: int) -> int:
        """Ask for a trial to be ended where it is. The number of the request."""
        return self._post(Stop(trial=ticket))

    def close(self) -> None:
        """There will be no more requests: the study ends once all is trained."""
        self._post(Close())

    # -- results -----------------------------------------------------------------------------------

    def results(self) -> dict[int, TrialView]:
        """All trials of the study, by ticket, also those of other programs and of earlier runs."""
        self._refresh()
        views: dict[int, TrialView] = {}
        for number, request in sorted(self._requests.items()):
            if isinstance(request, Suggest):
                views[number] = TrialView(number, request.hyperparameters, request.steps)
        for answer in self._answers.values():
            self._apply(answer, views)
        for number, request in self._requests.items():
            if not isinstance(request, Promote) or self._refusal(number):
                continue
            if request.trial in views:
                view = views[request.trial]
                view.steps = max(view.steps, request.steps)
        for view in views.values():
            if view.phase == "Pending" and view.steps in view.metrics:
                view.phase = "Paused"
        return views

    def wait(self, ticket: int, step: int | None = None, timeout: float | None = None) -> TrialView:
        """A trial once it has metrics at ``step`` (by default as far as it was asked to go), or is
        over. Raises Refused, StudyEnded, and TimeoutError after ``timeout`` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            has_ended = self._is_over()  # before looking: what it has answered is there then
            view = self.results()[ticket]
            if view.phase == "Refused":
                raise Refused(view.reason)
            if view.is_over or (view.steps if step is None else step) in view.metrics:
                return view
            if has_ended:
                raise StudyEnded("the study has ended: see its results")
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"no result after {timeout:g} s: is `hippo run` at work?")
            time.sleep(POLL_SECONDS)

    def drive(self, tuner: AskTell, *, in_flight: int = 4) -> dict[int, TrialView]:
        """Ask and tell until the tuner asks for nothing more, then close the study.

        ``in_flight``: most requests without a result. Returns all results.
        """
        flying: dict[int, int] = {}  # ticket -> step
        promotions: dict[int, int] = {}  # ticket -> number of its latest request to go on
        while True:
            while len(flying) < in_flight and (asked := tuner.ask()) is not None:
                what, step = asked
                if isinstance(what, int):
                    promotions[what] = self.extend(what, step)
                    flying[what] = step
                else:
                    flying[self.submit(what, step)] = step
            if not flying:
                break
            has_ended = self._is_over()
            views = self.results()
            arrived = 0
            for ticket, step in sorted(flying.items()):
                view = views[ticket]
                if step in view.metrics:
                    tuner.tell(view, step, view.metrics[step])
                elif view.is_over or self._refusal(promotions.get(ticket, ticket)):
                    tuner.tell(view, step, None)
                elif has_ended:
                    raise StudyEnded("the study has ended: see its results")
                else:
                    continue
                del flying[ticket]
                arrived += 1
            if not arrived:
                time.sleep(POLL_SECONDS)
        self.close()
        return self.results()

    # -- within ------------------------------------------------------------------------------------

    def _post(self, request: Request) -> int:
        return self._mailbox.post(request)

    def _refresh(self) -> None:
        found = self._mailbox.read_answers(self._answers)
        self._answers.update(found)
        self._refusals.update(
            (answer.request, answer.refused)
            for answer in found.values()
            if isinstance(answer, Taken) and answer.refused is not None
        )
        while self._known < (count := self._mailbox.count()):
            for number in range(self._known, count):
                with contextlib.suppress(Unreadable):  # another program's; it is refused
                    self._requests[number] = self._mailbox.read(number)
            self._known = count

    def _refusal(self, number: int) -> str | None:
        return self._refusals.get(number)

    def _apply(self, answer: Answer, views: dict[int, TrialView]) -> None:
        match answer:
            case Taken(request=number, refused=refused, name=name):
                request = self._requests.get(number)
                if number in views:
                    views[number].name = name
                    if refused is not None:
                        views[number].phase, views[number].reason = "Refused", refused
                elif refused and isinstance(request, Promote | Stop) and request.trial in views:
                    views[request.trial].refusals.append(refused)
            case Reached(trial=trial, step=step, metrics=metrics):
                views[trial].metrics[step] = metrics
            case Over(trial=trial, phase=phase, reason=reason):
                views[trial].phase, views[trial].reason = phase, reason


def _find(blobs: Blobs, name: str, namespace: str) -> StoredStudy | None:
    """The study of this name that was worked on last."""
    found = find_studies(blobs, name, namespace)
    return found[0] if found and not found[0].is_deleted else None
