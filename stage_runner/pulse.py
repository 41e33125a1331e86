"""A record of a worker's current activity, in memory that it shares with its server.

A worker records every call of its trainer before it makes it. A process that shares the memory can
therefore identify a call that hangs, even one that never releases Python's lock, and the call in
which a worker died.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from dataclasses import dataclass
from typing import get_args

from hippo.protocol.reports import During

OF_TRAINER: frozenset[During] = frozenset({"setup", "load", "step", "evaluate", "save"})

_NAMES: tuple[During, ...] = get_args(During)
_CODES = {name: code for code, name in enumerate(_NAMES)}
_HEAD = struct.Struct("<dqBB")  # since, step, code, length of the place
_MAX_PLACE = 200  # bytes
_SIZE = _HEAD.size + _MAX_PLACE


@dataclass(frozen=True, slots=True)
class Standing:
    """A worker's current call. ``since`` is time.perf_counter(), which all processes of a
    machine share.
    """

    during: During
    step: int
    since: float
    place: str = ""
    """File and line in the trainer's code; known once the call has lasted for a while."""


class Pulse:
    """The shared record. One worker writes it, from its main thread; other processes read it."""

    def __init__(self, descriptor: int | None = None) -> None:
        """``descriptor``: shared memory from ``share``; None: private memory."""
        self._memory = mmap.mmap(descriptor if descriptor is not None else -1, _SIZE)

    @staticmethod
    def share() -> int:
        """Return a descriptor of new memory that other processes may map."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("hippo-pulse")
        else:
            with tempfile.TemporaryFile() as file:
                descriptor = os.dup(file.fileno())
        os.ftruncate(descriptor, _SIZE)
        return descriptor

    def note(self, during: During, step: int, since: float) -> None:
        """Record that the worker does ``during`` since ``since``."""
        _HEAD.pack_into(self._memory, 0, since, step, _CODES[during], 0)

    def note_step(self, step: int, since: float) -> None:
        """Record the start of a step; a fast path, since it runs before every step."""
        _HEAD.pack_into(self._memory, 0, since, step, _STEP, 0)

    def note_place(self, standing: Standing, place: str) -> None:
        """Record the place in the trainer's code, unless the worker has moved on."""
        data = place.encode("utf-8", "replace")[:_MAX_PLACE]
        if self.read() == standing:
            self._memory[_HEAD.size : _HEAD.size + len(data)] = data
            self._memory[_HEAD.size - 1] = len(data)

    def read(self) -> Standing:
        since, step, code, length = _HEAD.unpack_from(self._memory)
        data = self._memory[_HEAD.size : _HEAD.size + length]
        return Standing(_NAMES[code], step, since, data.decode("utf-8", "replace"))

    def close(self) -> None:
        self._memory.close()


_STEP = _CODES["step"]
