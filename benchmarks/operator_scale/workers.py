"""One pod's ``stage_runner``, for a thousand of them in one process.

It follows ``stage_runner.chain`` act by act, with the same routes, records, codec and store; where
that blocks a thread, this one awaits. Steps are slept through up to the next mark.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from hippo.protocol.assignments import Assignment, Control
from hippo.protocol.reports import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Outcome,
)
from hippo.protocol.routes import Course
from hippo.store import PlanStore
from stage_runner.checkpoints.codec import decode, encode, snapshot
from stage_runner.checkpoints.digest import state_digest
from tests.world import evaluate, train

FINGERPRINT = {"standin": "1"}

T = TypeVar("T")


@dataclass(eq=False)
class Worker:
    """Carries out one assignment. ``stir`` it when it has got a control, or is told to leave."""

    assignment: Assignment
    store: PlanStore
    threads: Executor
    launched: float = field(default_factory=time.monotonic)
    control: Control | None = None
    """The newest that was read for it."""
    is_told_to_leave: bool = False
    is_waiting: bool = False
    """At the end of its route: a control is urgent."""
    ended_at: float | None = None
    """When its last report was in the store; Unix time."""
    _stirred: asyncio.Event = field(default_factory=asyncio.Event)
    _number: int = 0
    _version: int = 0
    _step: int = 0
    _trained: int = 0
    _state: str = ""

    def stir(self) -> None:
        self._stirred.set()

    async def run(self) -> Outcome:
        """Train, and report how it ended."""
        start = self.assignment.start
        self._course, self._step = Course(self.assignment.route), start
        self._saved, self._evaluated = {start}, set[int]()
        began = time.monotonic()
        if start:
            await self._load()
        await self._report(
            Began,
            studies=self.assignment.studies,
            fingerprint=FINGERPRINT,
            start_seconds=began - self.launched,
            load_seconds=time.monotonic() - began,
        )
        outcome = await self._train()
        await self._report(Ended, outcome=outcome)
        self.ended_at = time.time()
        return outcome

    async def _train(self) -> Outcome:
        if self._step:
            await self._do_marks()
        while True:
            if self.is_told_to_leave:
                await self._save()
                return Outcome.PREEMPTED
            if await self._take_control() and self._is_at_end:
                await self._save_at_stop()
                return Outcome.STOPPED
            if self._is_at_end:
                await self._save_at_stop()
                if not await self._wait_for_route():
                    return Outcome.COMPLETED
                continue
            mark = self._course.next_mark(self._step)
            await self._train_until(mark)
            if self._step >= mark:
                await self._do_marks()

    @property
    def _is_at_end(self) -> bool:
        return self._step >= self._course.stop_at

    async def _train_until(self, mark: int) -> None:
        """Steps up to the mark, or until it is stirred."""
        pace, began = self._pace, time.monotonic()
        await self._rest((mark - self._step) * pace)
        # A step in progress is finished first, as anywhere.
        done = min(mark - self._step, int((time.monotonic() - began) / pace + 0.999))
        remaining = done * pace - (time.monotonic() - began)
        if remaining > 0:
            await asyncio.sleep(remaining)
        for _ in range(done):
            values = self._course.sequence.values(self._step)
            self._state = train(self._state, self._step, values)
            self._step += 1
            self._trained += 1

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stirred.wait()
        except TimeoutError:
            return
        self._stirred.clear()

    async def _do_marks(self) -> None:
        if self._step in self._course.saves:
            await self._save()
        if self._step in self._course.evaluations and self._step not in self._evaluated:
            await self._report(
                MetricsReported,
                key=self._key(),
                metrics=evaluate(self._state),
                evaluate_seconds=0.0,
            )
            self._evaluated.add(self._step)

    async def _save_at_stop(self) -> None:
        if self._course.route.save_at_stop:
            await self._save()

    async def _save(self) -> None:
        if self._step in self._saved:
            return
        self._saved.add(self._step)
        taken = snapshot({"state": self._state, "trained": self._step})
        key, digest, began = self._key(), state_digest(taken), time.monotonic()
        manifest, existed = await self._in_thread(
            lambda: self.store.write_checkpoint(
                key=key,
                step=self._step,
                chunks=encode(taken),
                state_digest=digest,
                fingerprint=FINGERPRINT,
                chain=self.assignment.chain,
            )
        )
        await self._report(
            CheckpointSaved,
            key=key,
            size=manifest.size,
            state_digest=digest,
            copy_seconds=0.0,
            write_seconds=time.monotonic() - began,
            existed=existed,
            differs=existed and manifest.state_digest != digest,
        )

    async def _load(self) -> None:
        key = self._key()
        assert key == self.assignment.start_key
        data = await self._in_thread(
            lambda: self.store.read_checkpoint(self.store.read_manifest(key))
        )
        self._state = decode(data)["state"]

    async def _take_control(self) -> bool:
        """Answer the newest control; True if the chain now follows it."""
        control = self.control
        if control is None or control.version <= self._version:
            return False
        self._version = control.version
        course = Course(control.route)
        accepted = course.may_follow(
            self._course, self._step, saved=self._saved, evaluated=self._evaluated
        )
        if accepted:
            self._course = course
        await self._report(ControlAnswered, version=control.version, accepted=accepted)
        if accepted and self._step:
            await self._do_marks()
        return accepted

    async def _wait_for_route(self) -> bool:
        """At the end of the route: whether there is another one to follow, beyond this step."""
        if self.assignment.linger_seconds <= 0:
            return False
        await self._report(Arrived)
        deadline = time.monotonic() + self.assignment.linger_seconds
        self.is_waiting = True
        try:
            while (remaining := deadline - time.monotonic()) > 0:
                await self._rest(remaining)
                if self.is_told_to_leave:
                    return False
                if await self._take_control():
                    if not self._is_at_end:
                        return True
                    await self._save_at_stop()
                    return False
            return False
        finally:
            self.is_waiting = False

    @property
    def _pace(self) -> float:
        """Seconds a step: no two workers are equally fast, or all would end at once."""
        speed = int(hashlib.sha256(self.assignment.chain.encode()).hexdigest()[:4], 16) / 0xFFFF
        return float(self.assignment.trainer.config["sleep"]) * (0.75 + 0.5 * speed)

    def _key(self) -> str:
        return self._course.sequence.key(self._step, self.assignment.signature)

    async def _report(self, kind: Callable[..., Any], **fields: Any) -> None:
        report = kind(
            chain=self.assignment.chain,
            sequence_number=self._number,
            step=self._step,
            trained=self._trained,
            train_seconds=self._trained * self._pace,
            worker_seconds=time.monotonic() - self.launched,
            **fields,
        )
        self._number += 1
        await self._in_thread(lambda: self.store.write_report(report))

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.threads, work)
