"""A lock made of blobs that ensures one driver per plan, on one machine or on many.

Each holding is a generation, an object ``lock/<generation>.json``; the highest one holds the lock.
A driver takes over by creating the next generation with ``if_absent``, so only one of several
succeeds. The highest generation is not deleted, not even on release, so that no number is ever used
by two live holders (it goes with the plan itself, by :meth:`PlanLock.remove`).

A holder renews its lock before it expires. A dead holder on this machine is recognised at once, by
its process ID and start time, so ``kill -9`` causes no wait. Clocks of different machines should
agree within seconds.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from hippo.model.bounds import MAX_INDEX
from hippo.protocol.fields import Label, Moment, Process, Text, Version
from hippo.protocol.records import FORMAT_VERSION, Record
from hippo.store.blobs import MissingBlob, StoreError, Unreadable
from hippo.store.bounds import Kind
from hippo.store.encoding import decode, encode, fetch
from hippo.store.layout import Layout
from hippo.store.plan_store import PlanStore

_ATTEMPTS = 100  # each failure means that another process acquired or released the lock
_MOST_AHEAD = 24 * 3600.0  # seconds; no lock is valid for so long, whatever the clocks say
_DELETE = "delete it if no other hippo uses this store"


class LockHeld(StoreError):
    """Another driver works on this plan. ``by`` says which."""

    def __init__(self, plan: str, by: str, remedy: str) -> None:
        super().__init__(f"plan {plan} is {by}: {remedy}")
        self.by = by


class LockLost(StoreError):
    """Another driver took over because this one did not renew in time. Stop at once."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Identity of a process, distinct from a later process with the same ID."""

    host: str
    boot: str  # kernel boot ID and PID namespace; "" if unknown
    pid: int
    process_start: str  # in ticks since boot; "" if unknown
    command: str

    @classmethod
    def current(cls) -> Holder:
        pid = os.getpid()
        return cls(
            host=platform.node(),
            boot=_read_boot(),
            pid=pid,
            process_start=_read_start(pid) or "",
            command=shlex.join(sys.orig_argv),
        )

    def is_gone(self, *, seen_from: Holder) -> bool:
        """True only if the process has certainly ended; never for one on another machine."""
        if (self.host, self.boot) != (seen_from.host, seen_from.boot):
            return False
        start = _read_start(self.pid)
        if start is not None:
            return bool(self.process_start) and start != self.process_start
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _is_zombie(self.pid)


class _LockRecord(Record):
    format_version: Version = FORMAT_VERSION
    host: Label
    boot: Label
    pid: Process
    process_start: Label
    command: Text
    acquired: Moment
    expires: Moment  # 0 once released

    def holder(self) -> Holder:
        return Holder(self.host, self.boot, self.pid, self.process_start, self.command)


class PlanLock:
    """The right to decide and delete in one plan. For one thread at a time.

    ``seconds`` is how long the lock lasts without ``renew``; renew about three times as often.
    ``clock`` returns Unix time.
    """

    def __init__(
        self,
        store: PlanStore,
        holder: Holder | None = None,
        *,
        seconds: float = 60.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._blobs = store.blobs
        self._plan = store.plan
        self._layout = Layout(store.plan)
        self._holder = holder or Holder.current()
        self._seconds = seconds
        self._clock = clock
        self._generation: int | None = None  # None: not held
        self._acquired = 0.0
        self._renewed = 0.0

    @property
    def generation(self) -> int:
        """Generation of this holding, greater than all before it. Raises LockLost."""
        if self._generation is None:
            raise LockLost(f"the lock of plan {self._plan} is not held")
        return self._generation

    def acquire(self, *, above: int = 0, own: Collection[int] = ()) -> None:
        """Acquires the lock. Raises LockHeld, which says by whom; StoreError.

        ``above`` is a generation known from elsewhere; the new one will be greater. ``own`` are
        generations that this process held and no longer uses, but could not release because the
        store failed.
        """
        for _ in range(_ATTEMPTS):
            generation = 0
            with contextlib.suppress(MissingBlob):  # removed by a newer holder: look again
                generations = self._list()
                if generations:
                    generation = generations[-1]
                    if generation not in own:
                        self._check_free(generation)
                if self._create(max(generation, above) + 1):
                    return
        raise LockHeld(self._plan, "wanted by too many others at once", "try again")

    def check(self) -> None:
        """Checks that the lock is free, without acquiring it. Raises LockHeld; StoreError."""
        generations = self._list()
        if generations:
            with contextlib.suppress(MissingBlob):  # removed meanwhile
                self._check_free(generations[-1])

    def renew(self) -> None:
        """Extends the lock by its ``seconds``. Raises LockLost; StoreError."""
        if self._generation is None:
            raise LockLost(f"the lock of plan {self._plan} is not held")
        self._renewed = self._clock()
        self._write(self._generation, expires=self._renewed + self._seconds)
        highest = self._list()[-1:]
        if highest != [self._generation]:
            # Our lock may just have been rewritten after the newer holder removed it.
            self._blobs.delete(self._layout.lock(self._generation))
            self._generation = None
            raise LockLost(
                f"plan {self._plan} was taken over{self._by(highest)}, because this process did not"
                f" renew its lock for {self._seconds:.0f} s"
            )

    def renew_if_due(self) -> None:
        """Renews once a third of the time has passed. Raises LockLost; StoreError."""
        if self._generation is None or self._clock() - self._renewed > self._seconds / 3:
            self.renew()

    def remove(self) -> None:
        """Releases the lock and removes its last object, for a plan that was deleted.

        Raises StoreError.
        """
        if self._generation is not None and self._list()[-1:] == [self._generation]:
            self._blobs.delete(self._layout.lock(self._generation))
        self._generation = None

    def release(self) -> None:
        """Releases the lock. Idempotent; harmless after the lock was lost. Raises StoreError."""
        if self._generation is not None and self._list()[-1:] == [self._generation]:
            self._write(self._generation, expires=0.0)
        self._generation = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()

    def _list(self) -> list[int]:
        """Returns the generations, ascending."""
        infos = self._blobs.list(self._layout.locks)
        numbers = (self._layout.generation_of(info.name) for info in infos)
        return sorted(number for number in numbers if number is not None)

    def _read(self, generation: int) -> _LockRecord:
        name = self._layout.lock(generation)
        try:
            data = fetch(self._blobs, name, Kind.LOCK)
            return decode(_LockRecord.model_validate_json, data, name)
        except Unreadable as error:
            raise Unreadable(f"{error}: {_DELETE}") from None

    def _check_free(self, generation: int) -> None:
        record = self._read(generation)
        if record.expires <= self._clock() or record.holder().is_gone(seen_from=self._holder):
            return
        if record.expires > self._clock() + _MOST_AHEAD:
            name = self._layout.lock(generation)
            raise Unreadable(f"{name} does not expire for more than a day: {_DELETE}")
        since = datetime.fromtimestamp(record.acquired, UTC).astimezone()
        raise LockHeld(
            self._plan,
            f"in use by another hippo on host {record.host}: pid {record.pid}, `{record.command}`,"
            f" since {since:%Y-%m-%d %H:%M:%S %z}",
            "wait for it, stop it, or use another store",
        )

    def _create(self, generation: int) -> bool:
        """Becomes the holder; returns False if another process was faster."""
        self._acquired = self._renewed = self._clock()
        name = self._layout.lock(generation)
        if generation > MAX_INDEX:
            last = self._layout.lock(MAX_INDEX)
            raise Unreadable(f"{last} is the last lock that there can be: {_DELETE}")
        record = self._record(self._acquired + self._seconds)
        if not self._blobs.put(name, encode(record, Kind.LOCK), if_absent=True):
            return False
        generations = self._list()
        if generations[-1:] != [generation]:
            # We were slow: this number was used, released and removed before.
            self._blobs.delete(name)
            return False
        self._generation = generation
        for older in generations[:-1]:
            self._blobs.delete(self._layout.lock(older))
        return True

    def _write(self, generation: int, *, expires: float) -> None:
        self._blobs.put(self._layout.lock(generation), encode(self._record(expires), Kind.LOCK))

    def _record(self, expires: float) -> _LockRecord:
        return _LockRecord(
            host=self._holder.host,
            boot=self._holder.boot,
            pid=self._holder.pid,
            process_start=self._holder.process_start,
            command=self._holder.command,
            acquired=self._acquired,
            expires=expires,
        )

    def _by(self, generations: list[int]) -> str:
        with contextlib.suppress(StoreError):
            for generation in generations:
                record = self._read(generation)
                return f" by host {record.host}, pid {record.pid}, `{record.command}`"
        return ""


def _read_boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _read_stat(pid: int) -> list[str]:
    """Returns the fields of /proc/<pid>/stat from the state on; [] if it cannot be read."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def _read_start(pid: int) -> str | None:
    """Returns when a running process started; None if there is none, or /proc does not say."""
    fields = _read_stat(pid)
    if len(fields) < 20 or fields[0] in "ZX":
        return None
    return fields[19]


def _is_zombie(pid: int) -> bool:
    return _read_stat(pid)[:1] in (["Z"], ["X"])
