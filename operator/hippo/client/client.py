"""The client of an external study: sends requests through the store, and reads their answers."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsIndex

from hippo.client.errors import Closed, Refused, StudyEnded
from hippo.client.trials import AskTell, TrialView
from hippo.model import InvalidSpec, load_studies, parse_study
from hippo.model.scalars import to_plain, to_whole
from hippo.model.sequences.numbers import describe
from hippo.model.study import DEFAULT_NAMESPACE
from hippo.protocol.requests import (
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
from hippo.store import (
    Blobs,
    PlanStore,
    StoredStudy,
    StoreError,
    find_studies,
    locate_store,
    open_blobs,
)
from hippo.store.mailbox import Mailbox, Unreadable

POLL_SECONDS = 0.5
OPEN_SECONDS = 60.0
"""Seconds for which ``open`` waits for ``hippo run`` to begin a study, by default."""


class Client:
    """Requests to one external study, and their results. Not thread-safe.

    A trial is identified by its ticket: the number of the request that created it. Any number of
    programs may use one study. As a context manager, it closes the study when the block ends.
    """

    def __init__(
        self, mailbox: Mailbox, steps: int, objective: str, is_over: Callable[[], bool]
    ) -> None:
        """Use :meth:`open`."""
        self._mailbox = mailbox
        self._steps = steps
        self._objective = objective
        self._is_over = is_over
        self._is_closed = False
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
        """Open a study by its name and namespace, or by its file, once ``hippo run`` has begun it.

        ``store`` is a folder or ``s3://bucket/prefix``. Raises StoreError if the study does not
        exist within ``timeout`` seconds, InvalidSpec if its algorithm is not ``external``.
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
            return bool((plan.read_study(name).get("status") or {}).get("state"))

        mailbox = Mailbox(blobs, found.plan, name)
        return cls(mailbox, spec.steps, spec.objective.metric, is_over)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the study, unless the block raised: the program can then be restarted."""
        if kind is None:
            self.close()

    # -- requests ----------------------------------------------------------------------------------

    def submit(self, hyperparameters: Mapping[str, Any], steps: SupportsIndex | None = None) -> int:
        """Request a trial that reports at ``steps`` (default: the study's), and return its ticket.

        Numbers may be NumPy's or PyTorch's; each is converted exactly. Raises InvalidSpec for
        values that are not finite or that JSON cannot express, Closed, StoreError. If only the
        study can detect the problem, such as an unknown name, :meth:`wait` raises Refused.
        """
        if not isinstance(hyperparameters, Mapping):
            message = f"must be a mapping, not {describe(hyperparameters)}"
            raise InvalidSpec.at("hyperparameters", message)
        plain = to_plain(hyperparameters, "hyperparameters")
        steps = self._steps if steps is None else to_whole(steps, "steps")
        return self._post(Suggest(hyperparameters=plain, steps=steps))

    def extend(self, ticket: SupportsIndex, steps: SupportsIndex) -> int:
        """Request that a trial continues and reports at ``steps``; return the number of the
        request.

        Nothing is trained again. The trial continues once it has reported at its earlier ``steps``.
        Raises InvalidSpec, Closed, StoreError.
        """
        trial = to_whole(ticket, "ticket")
        return self._post(Promote(trial=trial, steps=to_whole(steps, "steps")))

    def stop(self, ticket: SupportsIndex) -> int:
        """Request that a trial ends where it is; return the number of the request.

        Raises InvalidSpec, Closed, StoreError.
        """
        return self._post(Stop(trial=to_whole(ticket, "ticket")))

    def close(self) -> None:
        """Announce that no more requests follow: the study ends once everything is trained.

        Results can still be read. Closing again changes nothing. Raises StoreError.
        """
        if not self._is_closed:
            self._mailbox.post(Close())
            self._is_closed = True

    # -- results -----------------------------------------------------------------------------------

    def results(self) -> dict[int, TrialView]:
        """Return all trials of the study by ticket, including those of other programs and earlier
        runs.

        Raises StoreError.
        """
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
                has_diverged = self._has_diverged(view.metrics[view.steps])
                view.phase = "Diverged" if has_diverged else "Paused"
        return views

    def wait(
        self,
        ticket: SupportsIndex,
        step: SupportsIndex | None = None,
        timeout: float | None = None,
    ) -> TrialView:
        """Wait until a trial has metrics at ``step`` (default: the last step requested), or is
        over.

        The objective of a diverged trial is not finite. Raises Refused if the trial was refused, or
        if no pending request asks for ``step``; StudyEnded; TimeoutError after ``timeout`` seconds
        (None: no limit); InvalidSpec, StoreError.
        """
        ticket = to_whole(ticket, "ticket")
        step = None if step is None else to_whole(step, "step")
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            has_ended = self._is_over()  # read first, so that the results include its last answers
            view = self.results().get(ticket)
            if view is None:
                raise InvalidSpec.at("ticket", f"no trial was asked for by request {ticket}")
            if view.phase == "Refused":
                raise Refused(view.reason)
            if view.is_over or (view.steps if step is None else step) in view.metrics:
                return view
            if step is not None:
                self._check_asked(ticket, step)
            if has_ended:
                raise StudyEnded("the study has ended: see its results")
            if deadline is not None and time.monotonic() > deadline:
                raise TimeoutError(f"no result after {timeout:g} s: is `hippo run` at work?")
            time.sleep(POLL_SECONDS)

    def drive(self, tuner: AskTell, *, in_flight: int = 4) -> dict[int, TrialView]:
        """Ask and tell until the tuner asks for nothing more, then close the study.

        ``in_flight`` is the maximum number of requests without a result. Returns all results.
        Raises what the tuner raises, InvalidSpec, Closed, StudyEnded, StoreError; the study then
        stays open.
        """
        flying: dict[int, int] = {}  # ticket -> step
        promotions: dict[int, int] = {}  # ticket -> number of its latest request to go on
        while True:
            while len(flying) < in_flight and (asked := tuner.ask()) is not None:
                what, steps = asked
                step = to_whole(steps, "steps")
                if isinstance(what, Mapping):
                    flying[self.submit(what, step)] = step
                else:
                    ticket = to_whole(what, "ticket")
                    promotions[ticket] = self.extend(ticket, step)
                    flying[ticket] = step
            if not flying:
                break
            has_ended = self._is_over()
            views = self.results()
            arrived = 0
            for ticket, step in sorted(flying.items()):
                view = views[ticket]
                if step in view.metrics:
                    metrics = view.metrics[step]
                    tuner.tell(view, step, None if self._has_diverged(metrics) else metrics)
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
        if self._is_closed:
            raise Closed("this client has closed the study: open another study to go on")
        return self._mailbox.post(request)

    def _has_diverged(self, metrics: Mapping[str, float]) -> bool:
        return not math.isfinite(metrics.get(self._objective, 0.0))

    def _check_asked(self, ticket: int, step: int) -> None:
        """Raise Refused unless a pending or carried out request asks for the step."""
        refusals = []
        for number, request in self._requests.items():
            asks = number == ticket or (isinstance(request, Promote) and request.trial == ticket)
            if asks and isinstance(request, Suggest | Promote) and request.steps == step:
                refusal = self._refusal(number)
                if refusal is None:
                    return
                refusals.append(refusal)
        raise Refused(refusals[-1] if refusals else f"nobody asked trial {ticket} for step {step}")

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
                with contextlib.suppress(Unreadable):  # from another program; the study refuses it
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
    """Return the study of this name that was worked on last; None if it is missing or deleted."""
    found = find_studies(blobs, name, namespace)
    return found[0] if found and not found[0].is_deleted else None
