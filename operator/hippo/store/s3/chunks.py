"""Cuts a blob's chunks into parts, with as little copying as their owner allows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Part = bytes | bytearray | memoryview


class Parts:
    """Takes one part after the other from chunks.

    The chunks of a sequence are in memory and stay unchanged, so parts are views of large enough
    chunks. Chunks of any other iterable are copied before the next one is requested, because it may
    reuse the memory.
    """

    def __init__(self, chunks: bytes | Iterable[bytes | memoryview]) -> None:
        self.is_held = isinstance(chunks, (bytes, Sequence))
        self._chunks = iter((chunks,) if isinstance(chunks, bytes) else chunks)
        self._rest = memoryview(b"")

    @property
    def has_more(self) -> bool:
        """Whether bytes are left. May request the next chunk."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            view = memoryview(chunk)
            self._rest = view.cast("B") if view.nbytes else memoryview(b"")
        return True

    def take(self, size: int) -> Part:
        """Returns the next ``size`` bytes; fewer only at the end."""
        if not self.has_more:
            return b""
        if self.is_held and len(self._rest) >= size:
            return self._cut(size)
        head = self._cut(size)
        if self.is_held and not self.has_more:
            return head
        buffer = bytearray(head)
        del head
        while len(buffer) < size and self.has_more:
            buffer += self._cut(size - len(buffer))
        return buffer

    def _cut(self, size: int) -> memoryview:
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
