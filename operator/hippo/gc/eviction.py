"""Chooses checkpoints to evict: those that are cheapest to retrain per byte.

The cost of retraining a checkpoint depends on the nearest stored one before it on its path, so each
eviction raises the price of those that follow. Since prices only rise, a heap of old prices,
recomputed when they come up, yields the least at every turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Identity = tuple[str, str]
"""Path of the plan, content key."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A checkpoint with its size and cost."""

    identity: Identity
    step: int
    size: int  # bytes
    seconds: Callable[[int], float]
    """Seconds to train from an earlier step to this one."""
    before: Stored | None  # nearest one before it on its path; None: step 0
    is_protected: bool = False


def choose_evictions(stored: Iterable[Stored], excess: int) -> list[Stored]:
    """Returns checkpoints to evict, in order, until ``excess`` bytes are free or none may go."""
    gone: set[Identity] = set()
    heap = [(_price(item, gone), item.identity, item) for item in stored if not item.is_protected]
    heapq.heapify(heap)
    chosen: list[Stored] = []
    while excess > 0 and heap:
        price, identity, item = heapq.heappop(heap)
        current = _price(item, gone)
        if current > price:
            heapq.heappush(heap, (current, identity, item))
            continue
        gone.add(identity)
        chosen.append(item)
        excess -= item.size
    return chosen


def _price(item: Stored, gone: set[Identity]) -> float:
    """Returns the current price, in seconds per byte."""
    before = item.before
    while before is not None and before.identity in gone:
        before = before.before
    return item.seconds(before.step if before is not None else 0) / max(1, item.size)
