"""Polls a chain's control object in a thread, so that training never waits for it."""

from __future__ import annotations

import threading
import time

from hippo.protocol.assignments import Control
from hippo.protocol.records import FORMAT_VERSION
from hippo.protocol.routes import Course, InvalidRoute
from hippo.store import PlanStore, StoreError

_MAX_FAILURES = 20  # consecutive failures of the store after which the chain fails
_URGENT_SECONDS = 0.1  # poll interval while the chain waits for a route
_FIRST_LOCAL_SECONDS = 0.002  # first one for a local store, where a poll is one open()
_SLACKENING = 1.05  # growth factor of these intervals: 80 polls in 2 s
_GLANCE_SECONDS = 0.02


class Poller:
    """Reads controls. ``has_news`` says whether ``take`` would return or raise, and is cheap."""

    def __init__(self, store: PlanStore, chain: str, *, poll_seconds: float) -> None:
        self._store = store
        self._chain = chain
        self._poll_seconds = max(poll_seconds, 0.001)
        self._version = 0
        self._failures = 0
        self._is_urgent = False
        self._waits = 0  # number of waits so far; the thread compares it with _waits_seen
        self._waits_seen = 0
        self._first_pause = _URGENT_SECONDS if store.blobs.is_remote else _FIRST_LOCAL_SECONDS
        self._urgent_pause = self._first_pause
        self._is_stopped = False
        self._stirred = threading.Event()
        self._lock = threading.Lock()
        self._news: Control | None = None
        self._error: StoreError | None = None
        self.has_news = False
        threading.Thread(target=self._work, name="control", daemon=True).start()

    def take(self) -> Control | None:
        """Return the newest control, once. Raises StoreError if the store can no longer be read."""
        if self._error is not None:
            raise self._error
        with self._lock:
            control, self._news, self.has_news = self._news, None, False
        return control

    def wait(self, seconds: float, *, interrupted: threading.Event) -> None:
        """Wait for news or an error, at most ``seconds``, or until the event is set."""
        deadline = time.monotonic() + seconds
        self._waits += 1
        self._is_urgent = True
        self._stirred.set()
        try:
            self._wait(deadline, interrupted)
        finally:
            self._is_urgent = False

    def _wait(self, deadline: float, interrupted: threading.Event) -> None:
        while not self.has_news and not interrupted.is_set():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return
            glance = min(self._poll_seconds, self._urgent_pause, _GLANCE_SECONDS)
            interrupted.wait(min(remaining, glance))

    def close(self) -> None:
        self._is_stopped = True
        self._stirred.set()

    def _pause(self) -> None:
        if self._waits != self._waits_seen:
            self._waits_seen, self._urgent_pause = self._waits, self._first_pause
        seconds = self._poll_seconds
        if self._is_urgent:
            seconds = min(seconds, self._urgent_pause)
            self._urgent_pause = min(self._urgent_pause * _SLACKENING, _URGENT_SECONDS)
        self._stirred.wait(seconds)
        self._stirred.clear()

    def _work(self) -> None:
        while True:
            self._pause()
            if self._is_stopped:
                return
            try:
                control = self._store.read_control(self._chain)
                self._failures = 0
            except StoreError as error:
                self._failures += 1
                self._urgent_pause = (
                    _URGENT_SECONDS  # else a brief outage would exhaust the failures
                )
                if self._failures == _MAX_FAILURES:
                    self._error = error
                    self.has_news = True
                    return
                continue
            if control is not None and control.version > self._version:
                self._version = control.version
                with self._lock:
                    self._news = control
                    self.has_news = True


def choose_course(
    control: Control, current: Course, step: int, *, saved: set[int], evaluated: set[int]
) -> Course | None:
    """Return the course that a control asks for; None if it cannot follow from the current one.

    ``saved`` and ``evaluated`` are the steps at which the chain has done so.
    """
    try:
        course = Course(control.route)
    except InvalidRoute:
        return None
    if control.format_version > FORMAT_VERSION or not course.may_follow(
        current, step, saved=saved, evaluated=evaluated
    ):
        return None
    return course
