"""Interning of computed schedules: equal text gives the identical object.

An object that is in use is found as long as it lives. Unused objects are kept for a while, up to a
number of bytes, because trials come back to them.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakValueDictionary

from hippo.model.bounds import MAX_INTERNED_BYTES
from hippo.model.caching import ByteCache
from hippo.model.sequences.canonical import Runs

Key = tuple[str, int]
"""The text, and the horizon."""


class Interned:
    """Runs by their writing. Threads may share it: at worst they work out the same twice."""

    def __init__(self, most: int = MAX_INTERNED_BYTES) -> None:
        self._living: WeakValueDictionary[Key, Runs] = WeakValueDictionary()
        self._recent: ByteCache[Key, Runs] = ByteCache(most)

    @property
    def size(self) -> int:
        """Estimated bytes of what is kept, whether somebody holds it or not."""
        return self._recent.size

    def find(self, text: str, steps: int, work_out: Callable[[], Runs]) -> Runs:
        """The runs of a text, from here or worked out; what ``work_out`` raises is not kept."""
        key = (text, steps)
        runs = self._living.get(key)
        if runs is None:
            runs = self._living[key] = work_out()
        if self._recent.get(key) is None:
            self._recent.put(key, runs, runs.size + len(text))
        return runs
