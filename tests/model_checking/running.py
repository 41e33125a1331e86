"""Runs what operators do, one at a time; one may be held up at a request while others go on."""

from __future__ import annotations

import asyncio
import contextvars
import warnings
from collections.abc import Coroutine
from typing import Any
from weakref import WeakKeyDictionary

from tests.model_checking.faults import Faults, Killed

_owner: contextvars.ContextVar[int] = contextvars.ContextVar("owner")


class Runner:
    """An event loop in which each operator, by number, has at most one piece of work."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._owners: WeakKeyDictionary[asyncio.Task[Any], int | None] = WeakKeyDictionary()
        self._loop.set_task_factory(self._make_task)
        self._held: dict[int, asyncio.Task[Any]] = {}

    def _make_task(self, loop: Any, work: Any, **options: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
        self._owners[task] = _owner.get(None)
        return task

    def is_held(self, number: int) -> bool:
        return number in self._held

    def run(self, number: int, faults: Faults, work: Coroutine[Any, Any, Any]) -> None:
        """To its end, or until it is held up. Raises Killed."""
        token = _owner.set(number)
        try:
            task = self._loop.create_task(self._finish(number, work))
        finally:
            _owner.reset(token)
        self._go_on(number, faults, task)

    def resume(self, number: int, faults: Faults) -> None:
        """What was held up goes on to its end. Raises Killed."""
        faults.gate.set()
        self._go_on(number, faults, self._held.pop(number))

    def _go_on(self, number: int, faults: Faults, task: asyncio.Task[Any]) -> None:
        self._loop.run_until_complete(_until(task, faults))
        if not task.done():
            self._held[number] = task
            return
        if not faults.lasts:
            faults.clear()
        task.result()

    def kill(self, number: int) -> None:
        """Whatever it was about to do is not done."""
        held = self._held.pop(number, None)
        if held is not None:
            held.cancel()
            self._loop.run_until_complete(asyncio.gather(held, return_exceptions=True))

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Somebody else's work, at once."""
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        for number in list(self._held):
            self.kill(number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            self._loop.close()

    async def _finish(self, number: int, work: Coroutine[Any, Any, Any]) -> None:
        """With all that it leaves for later; if it is killed, that is over as well."""
        try:
            await work
        except (Killed, asyncio.CancelledError):
            others = self._others(number)
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)
            raise
        await asyncio.gather(*self._others(number), return_exceptions=True)

    def _others(self, number: int) -> list[asyncio.Task[Any]]:
        current = asyncio.current_task()
        return [
            task
            for task in asyncio.all_tasks(self._loop)
            if task is not current and self._owners.get(task) == number
        ]


async def _until(task: asyncio.Task[Any], faults: Faults) -> None:
    held = asyncio.ensure_future(faults.held.wait())
    await asyncio.wait({task, held}, return_when=asyncio.FIRST_COMPLETED)
    held.cancel()
    faults.held.clear()
