"""Memory that states are copied into, again and again.

Fresh memory costs more than the copy itself: the system clears it page by page when it is touched
first, and takes it back when it is freed. Training waits for the copy, so what was copied into once
is kept for the next state, and is made ready by a thread of its own.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import threading

_ALIGNMENT = 64  # bytes
_WORTHWHILE = 1 << 20  # bytes; less than that the allocator keeps by itself
_PIECE = 4 << 20  # bytes made ready at a time


class Memory:
    """Room for one copy of a state at a time, as large as was needed last; at first there is none.

    Used by one thread between ``acquire`` and ``release``.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # held while it is used, or made larger
        self._held: mmap.mmap | None = None
        self._used = 0  # bytes that were asked for since it was acquired

    def acquire(self) -> bool:
        """Whether it may be used now; then ``release`` must follow."""
        if not self._lock.acquire(blocking=False):
            return False
        self._used = 0
        return True

    def take(self, size: int) -> memoryview | None:
        """So many bytes, whatever they hold; None if that is more than is left."""
        start = self._used
        self._used += size + -size % _ALIGNMENT
        if self._held is None or not size or self._used > len(self._held):
            return None
        return memoryview(self._held)[start : start + size]

    def release(self) -> None:
        """Nobody looks any more at what was taken. Next time there is enough of it."""
        size = self._used
        self._lock.release()
        self.expect(size)

    def expect(self, size: int) -> None:
        """A state of about that many bytes will be copied: be ready. Returns at once."""
        held = 0 if self._held is None else len(self._held)
        if size > max(held, _WORTHWHILE):
            with contextlib.suppress(RuntimeError):  # no thread is to be had: it stays as it is
                threading.Thread(
                    target=self._grow, args=(size,), name="memory", daemon=True
                ).start()

    def _grow(self, size: int) -> None:
        if not self._lock.acquire(blocking=False):
            return  # in use, or being made larger already
        try:
            self._held = None  # first, so that there are never two
            with contextlib.suppress(OSError):  # too large: each copy then asks for its own
                held = mmap.mmap(-1, size)
                _touch(held)
                self._held = held
        finally:
            self._lock.release()


def _touch(held: mmap.mmap) -> None:
    """Let the system give all of it now, while other threads go on."""
    zero = os.open("/dev/zero", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with memoryview(held) as view:
            for start in range(0, len(view), _PIECE):
                os.readv(zero, [view[start : start + _PIECE]])
    finally:
        os.close(zero)
