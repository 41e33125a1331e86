"""Reusable memory for copies of states.

Fresh memory costs more than the copy itself: the system clears it page by page on first access, and
takes it back when it is freed. Training waits for the copy, so the memory is kept for the next
state, and prepared by a separate thread.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading

_ALIGNMENT = 64  # bytes
_WORTHWHILE = 1 << 20  # bytes; the allocator itself keeps smaller pieces
_PIECE = 4 << 20  # bytes prepared at a time


class Memory:
    """Room for one copy of a state at a time, as large as last needed; initially empty.

    Used by one thread between ``acquire`` and ``release``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held during use and growth
        self._held: mmap.mmap | None = None
        self._used = 0  # bytes requested since ``acquire``

    def acquire(self) -> bool:
        """Return whether it may be used now; if so, ``release`` must follow."""
        if not self._lock.acquire(blocking=False):
            return False
        self._used = 0
        return True

    def take(self, size: int) -> memoryview | None:
        """Return ``size`` uninitialised bytes; None if fewer are left."""
        start = self._used
        self._used += size + -size % _ALIGNMENT
        if self._held is None or not size or self._used > len(self._held):
            return None
        return memoryview(self._held)[start : start + size]

    def release(self) -> None:
        """End the use of all taken memory, and grow to the size that was requested."""
        size = self._used
        self._lock.release()
        self.expect(size)

    def expect(self, size: int) -> None:
        """Prepare for the copy of a state of about ``size`` bytes. Returns at once."""
        held = 0 if self._held is None else len(self._held)
        if size > max(held, _WORTHWHILE):
            with contextlib.suppress(RuntimeError):  # no thread available: keep the current size
                threading.Thread(
                    target=self._grow, args=(size,), name="memory", daemon=True
                ).start()

    def _grow(self, size: int) -> None:
        if not self._lock.acquire(blocking=False):
            return  # in use, or growing already
        try:
            self._held = None  # freed first, so that there are never two
            with contextlib.suppress(OSError):  # too large: each copy then allocates its own
                held = mmap.mmap(-1, size)
                _touch(held)
                self._held = held
        finally:
            self._lock.release()


def _touch(held: mmap.mmap) -> None:
    """Make the system allocate all of it now, while other threads run."""
    zero = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with memoryview(held) as view:
            for start in range(0, len(view), _PIECE):
                os.readv(zero, [view[start : start + _PIECE]])
    finally:
        os.close(zero)
