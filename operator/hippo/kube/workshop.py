"""A thread of somebody's own, for work that may take long: it delays nobody else.

The threads behind ``asyncio.to_thread`` are few and shared, so that some plans whose tuners think
for minutes would leave none for the others' requests. And the process does not end before they do,
whereas nobody waits for these.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

BEAT_SECONDS: Final = 10.0
"""After so long without an end, and again after each such while, the caller does what must be done
meanwhile."""


class NoThread(Exception):
    """The system lets nobody have another thread for now."""


class Workshop:
    """Calls are done one after the other, in a thread that lasts as long as there are some."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lock = threading.Lock()
        self._is_busy = False

    @property
    def is_busy(self) -> bool:
        """Whether something is being done, perhaps for somebody who no longer waits for it."""
        return self._is_busy

    async def run(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """What the call returns or raises."""
        return await asyncio.wrap_future(self._submit(lambda: call(*arguments, **options)))

    async def run_long(self, call: Callable[[], T], meanwhile: Callable[[], Awaitable[None]]) -> T:
        """The same, and every BEAT_SECONDS ``meanwhile``; what that raises is raised here, and what
        comes of the call then is nobody's.
        """
        done = asyncio.wrap_future(self._submit(call))
        done.add_done_callback(_look_at)
        while not (await asyncio.wait({done}, timeout=BEAT_SECONDS))[0]:
            await meanwhile()
        return done.result()

    def _submit(self, call: Callable[[], T]) -> Future[T]:
        future: Future[T] = Future()
        context = contextvars.copy_context()
        with self._lock:
            self._calls.append((future, lambda: context.run(call)))
            is_idle, self._is_busy = not self._is_busy, True
        if is_idle:
            try:
                threading.Thread(target=self._work, name=self._name, daemon=True).start()
            except RuntimeError as error:
                self._is_busy = False
                self._calls.clear()
                raise NoThread(str(error)) from None
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._calls:
                    self._is_busy = False
                    return
                future, call = self._calls.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = call()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            del future, call


def _look_at(future: asyncio.Future[Any]) -> None:
    """Or asyncio complains that nobody has."""
    if not future.cancelled():
        future.exception()
