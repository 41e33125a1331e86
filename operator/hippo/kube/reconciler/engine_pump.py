"""Feeds the engine, and has its commands carried out until nothing more comes of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from hippo.engine import Engine
from hippo.engine.commands import Command
from hippo.engine.events import Event
from hippo.kube.reconciler.executor import Executor
from hippo.kube.serial_executor import SerialExecutor
from hippo.store import PlanLock

T = TypeVar("T")


class PlanThread:
    """A plan's own thread; however long a call in it takes, the lock is kept."""

    def __init__(self, executor: SerialExecutor, lock: PlanLock) -> None:
        self._executor = executor
        self._lock = lock

    async def run(self, call: Callable[[], T]) -> T:
        """Call it there. Raises what it raises, and NoThread, StoreError and LockLost."""
        return await self._executor.run_long(call, self._keep_lock)

    async def _keep_lock(self) -> None:
        await asyncio.to_thread(self._lock.renew_if_due)


class EnginePump:
    """``clock`` counts seconds."""

    def __init__(
        self, engine: Engine, thread: PlanThread, executor: Executor, clock: Callable[[], float]
    ) -> None:
        self._engine = engine
        self._thread = thread
        self._executor = executor
        self._clock = clock

    async def feed(self, *events: Event) -> None:
        """Tell the engine of events; returns once all that follows from them is done."""
        waiting: Sequence[Event] = events
        while waiting:
            commands = await self._thread.run(partial(self._handle, waiting))
            waiting = await self._executor.carry_out(commands)

    def _handle(self, events: Sequence[Event]) -> list[Command]:
        now = self._clock()
        return [command for event in events for command in self._engine.handle(event, now)]
