"""A cache bounded by bytes, not by entries, because an entry may take anything from a hundred bytes
to millions.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Keeps what was put or asked for last, of ``most`` bytes at most by the sizes that it is told.

    In two halves: once the young one is full, the old one is dropped. No operation leaves it in a
    state that another thread could not go on from.
    """

    __slots__ = ("_bytes", "_old", "_young", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._bytes = 0  # of the young half

    def get(self, key: K) -> V | None:
        """None: it is not there, or no longer."""
        found = self._young.get(key)
        if found is not None:
            return found[0]
        found = self._old.get(key)
        if found is None:
            return None
        self.put(key, *found)
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """``size`` in bytes. An entry of more than half of the room is not kept."""
        if 2 * size > self.most:
            return
        if 2 * (self._bytes + size) > self.most:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = value, size
        self._bytes += size

    @property
    def size(self) -> int:
        """Bytes of all that is kept."""
        halves = (list(self._young.values()), list(self._old.values()))
        return sum(size for half in halves for _, size in half)

    def __len__(self) -> int:
        return len({*self._young, *self._old})
