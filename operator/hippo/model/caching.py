"""A cache bounded by bytes rather than entries: an entry takes from a hundred bytes to millions."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """A cache of the most recently used entries, of at most ``most`` bytes.

    It has two generations: when the young one is full, the old one is dropped. Every operation
    leaves it in a state that is valid for other threads.
    """

    __slots__ = ("_bytes", "_old", "_young", "most")

    def __init__(self, most: int) -> None:
        self.most = most
        self._young: dict[K, tuple[V, int]] = {}
        self._old: dict[K, tuple[V, int]] = {}
        self._bytes = 0  # of the young generation

    def get(self, key: K) -> V | None:
        """Returns the value, or None if it is absent or was evicted."""
        found = self._young.get(key)
        if found is not None:
            return found[0]
        found = self._old.get(key)
        if found is None:
            return None
        self.put(key, *found)
        return found[0]

    def put(self, key: K, value: V, size: int) -> None:
        """Stores a value of ``size`` bytes. A value larger than half the cache is not kept."""
        if 2 * size > self.most:
            return
        if 2 * (self._bytes + size) > self.most:
            self._old, self._young, self._bytes = self._young, {}, 0
        self._young[key] = value, size
        self._bytes += size

    @property
    def size(self) -> int:
        """Bytes of all entries."""
        halves = (list(self._young.values()), list(self._old.values()))
        return sum(size for half in halves for _, size in half)

    def __len__(self) -> int:
        return len({*self._young, *self._old})
