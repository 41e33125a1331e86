"""Interning of expanded schedules: equal text gives the identical object.

An object is found as long as anything refers to it. Unused objects are kept in a cache of bounded
bytes, because trials come back to them.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

from hippo.model.bounds import MAX_INTERNED_BYTES
from hippo.model.caching import ByteCache
from hippo.model.sequences.canonical import Runs

Key = tuple[str, int]
"""The text and the horizon."""


class Interned:
    """Interned runs by their text. Safe for threads: at worst two expand the same schedule."""

    def __init__(self, most: int = MAX_INTERNED_BYTES) -> None:
        self._living: WeakValueDictionary[Key, Runs] = WeakValueDictionary()
        self._recent: ByteCache[Key, Runs] = ByteCache(most)

    @property
    def size(self) -> int:
        """Estimated bytes of the cache, including objects that are in use."""
        return self._recent.size

    def find(self, text: str, steps: int, work_out: Callable[[], Runs]) -> Runs:
        """Returns the runs of a text, calling ``work_out`` if they are unknown.

        Errors are not cached.
        """
        key = (text, steps)
        runs = self._living.get(key)
        if runs is None:
            runs = self._living[key] = work_out()
        if self._recent.get(key) is None:
            self._recent.put(key, runs, runs.size + len(text))
        return runs
