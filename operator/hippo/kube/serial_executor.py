"""An executor with one thread of its own, for a plan or namespace whose work may take long.

The threads behind ``asyncio.to_thread`` are few and shared: a few tuners that compute for minutes
would leave none for the requests of other plans. The process also waits for those threads when it
ends, whereas the threads of this module are daemons.
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

HEARTBEAT_SECONDS: Final = 10.0
"""Period of the callback that a caller runs while a long call is in progress."""


class NoThread(Exception):
    """The system cannot start another thread for now."""


class SerialExecutor:
    """Runs calls one after the other, in a thread that lives as long as there are calls."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._calls: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._lock = threading.Lock()
        self._is_busy = False

    @property
    def is_busy(self) -> bool:
        """Whether a call is running or queued, even if its caller no longer waits for it."""
        return self._is_busy

    async def run(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        """Returns what the call returns, and raises what it raises."""
        return await asyncio.wrap_future(self._submit(lambda: call(*arguments, **options)))

    async def run_long(self, call: Callable[[], T], meanwhile: Callable[[], Awaitable[None]]) -> T:
        """As ``run``, awaiting ``meanwhile`` every HEARTBEAT_SECONDS; raises what that raises, and
        then discards the result of the call.
        """
        done = asyncio.wrap_future(self._submit(call))
        done.add_done_callback(_consume)
        while not (await asyncio.wait({done}, timeout=HEARTBEAT_SECONDS))[0]:
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
                with self._lock:
                    self._is_busy = False
                    queued = [other for other, _ in self._calls if other is not future]
                    self._calls.clear()
                for other in queued:
                    other.set_exception(NoThread(str(error)))
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


def _consume(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception, which asyncio would otherwise log as never retrieved."""
    if not future.cancelled():
        future.exception()
