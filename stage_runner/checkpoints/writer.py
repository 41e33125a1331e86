"""Writes checkpoints and reports in the background, in the given order."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from hippo.protocol.reports import CheckpointSaved, Report
from hippo.store import PlanStore, StoreError
from stage_runner.checkpoints.codec import Snapshot, encode
from stage_runner.checkpoints.digest import state_digest
from stage_runner.checkpoints.memory import Memory

MakeReport = Callable[[int], Report]
"""Builds a report from its sequence number."""


class Counts(TypedDict):
    """Fields of every report, with their values at the time of the event."""

    chain: str
    step: int
    trained: int
    train_seconds: float
    worker_seconds: float


@dataclass(frozen=True, slots=True)
class Save:
    """A checkpoint to write; ``memory`` holds the snapshot."""

    taken: Snapshot
    memory: Memory | None
    key: str
    fingerprint: dict[str, str]
    copy_seconds: float
    counts: Counts


class Writer:
    """Writes from a queue in one thread. Saving waits while two snapshots are in memory; memory for
    one of them is kept.

    After the first StoreError nothing more is written, and every later call except ``finish``
    raises it.
    """

    def __init__(self, store: PlanStore, *, on_report: Callable[[Report], None]) -> None:
        self._store = store
        self._on_report = on_report
        self._queue: queue.Queue[MakeReport | Save | None] = queue.Queue()
        self._room = threading.BoundedSemaphore(2)
        self._memory = Memory()
        self._number = 0
        self._finished = threading.Lock()
        self._error: StoreError | None = None
        threading.Thread(target=self._work, name="writer", daemon=True).start()

    def expect(self, size: int) -> None:
        """Prepare for snapshots of about ``size`` bytes."""
        self._memory.expect(size)

    def wait_for_room(self) -> Memory | None:
        """Wait until a snapshot may be taken, and return memory for it, or None if that is in
        use. ``save`` or ``give_up_room`` must follow.
        """
        self._wait_if_finished()
        self._room.acquire()
        self.check()
        return self._memory if self._memory.acquire() else None

    def give_up_room(self, memory: Memory | None) -> None:
        if memory is not None:
            memory.release()
        self._room.release()

    def save(self, save: Save) -> None:
        self._wait_if_finished()
        self._queue.put(save)
        self.check()

    def report(self, make: MakeReport) -> None:
        self._wait_if_finished()
        self.check()
        self._queue.put(make)

    def flush(self) -> None:
        """Return once everything submitted is in the store."""
        self._queue.join()
        self.check()

    def finish(self, make: MakeReport) -> None:
        """Write the last report, after all others, even after an error.

        The first caller wins; other callers, and later reports, wait for ever. Raises StoreError.
        """
        self._finished.acquire()
        self._queue.join()
        report = make(self._number)
        self._store.write_report(report)
        self._on_report(report)

    def _wait_if_finished(self) -> None:
        if self._finished.locked():
            threading.Event().wait()  # the process is about to exit

    def close(self) -> None:
        """End the thread once everything submitted is written."""
        self._queue.put(None)

    def check(self) -> None:
        """Raise the StoreError of an earlier write, if there was one."""
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            try:
                if self._error is None:
                    self._write(job)
            except StoreError as error:
                self._error = error
            except BaseException as error:  # else callers would wait for this thread for ever
                self._error = StoreError(f"writing failed: {type(error).__name__}: {error}")
            finally:
                if isinstance(job, Save):
                    self.give_up_room(job.memory)
                del job  # a snapshot may be large
                self._queue.task_done()

    def _write(self, job: MakeReport | Save) -> None:
        report = self._write_checkpoint(job) if isinstance(job, Save) else job(self._number)
        self._store.write_report(report)
        self._number += 1
        self._on_report(report)

    def _write_checkpoint(self, save: Save) -> CheckpointSaved:
        began = time.perf_counter()
        digest = state_digest(save.taken)
        manifest, existed = self._store.write_checkpoint(
            key=save.key,
            step=save.counts["step"],
            chunks=encode(save.taken),
            state_digest=digest,
            fingerprint=save.fingerprint,
            chain=save.counts["chain"],
        )
        return CheckpointSaved(
            sequence_number=self._number,
            key=save.key,
            size=manifest.size,
            state_digest=digest,
            copy_seconds=save.copy_seconds,
            write_seconds=time.perf_counter() - began,
            existed=existed,
            differs=existed and manifest.state_digest != digest,
            **save.counts,
        )
