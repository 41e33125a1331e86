"""Schedules that were worked out before: equal writing gives the identical object.

What somebody holds is found as long as it lives. What nobody holds any more is kept for a while, up
to a number of bytes, the least recently used leaving first: trials come back to it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from weakref import WeakValueDictionary

from hippo.model.bounds import MAX_INTERNED_BYTES
from hippo.model.runs import Runs

Key = tuple[str, int]
"""What is written, and the horizon."""

_RECOUNT = 1_000
"""Entries after which bytes are counted anew: threads may lose count of one another's."""


class Interned:
    """Runs by their writing. Threads may share it: at worst they work out the same twice."""

    def __init__(self, most: int = MAX_INTERNED_BYTES) -> None:
        self.most = most
        self.bytes = 0
        """Estimated, of what is kept beside what somebody holds."""
        self._living: WeakValueDictionary[Key, Runs] = WeakValueDictionary()
        self._recent: OrderedDict[Key, tuple[Runs, int]] = OrderedDict()
        self._added = 0

    def find(self, text: str, steps: int, work_out: Callable[[], Runs]) -> Runs:
        """The runs of a text, from here or worked out; what ``work_out`` raises is not kept."""
        key = (text, steps)
        runs = self._living.get(key)
        if runs is None:
            runs = self._living[key] = work_out()
        self._keep(key, runs)
        return runs

    def _keep(self, key: Key, runs: Runs) -> None:
        try:
            self._recent.move_to_end(key)
            return
        except KeyError:
            pass
        size = estimate_bytes(runs) + len(key[0])
        if size > self.most // 4:
            return  # it would drive out too much
        self._recent[key] = runs, size
        self.bytes += size
        self._added += 1
        if self._added % _RECOUNT == 0:
            self.bytes = sum(size for _, size in list(self._recent.values()))
        while self.bytes > self.most and self._recent:
            _, (_, size) = self._recent.popitem(last=False)
            self.bytes -= size


def estimate_bytes(runs: Runs) -> int:
    """About what runs take with their pieces."""
    functions = {id(function): function for function in (*runs.pieces.functions, *runs.functions)}
    texts = sum(len(function.token) for function in functions.values() if function is not None)
    plain = 150 * len(runs.pieces.ends) + 110 * len(runs.ends)
    return 500 + plain + texts + 300 * max(len(functions) - len(runs.pieces.functions), 0)
