"""Which checkpoints to give up for room: those that are cheapest to train again, per byte.

What it takes to have a checkpoint again depends on the nearest one before it on its way that is
still stored, so each one given up raises the price of those that follow it. Prices only ever rise:
a heap of old prices, looked at again when they come up, finds the least at every turn.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Identity = tuple[str, str]
"""Path of the plan, content key."""


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """A checkpoint and what it is worth."""

    identity: Identity
    step: int
    size: int  # bytes
    seconds: Callable[[int], float]
    """From a step before it: how long it takes to train from there to here."""
    before: Stored | None  # the nearest one before it on its way; None: it is trained from step 0
    is_protected: bool = False


def choose_evictions(stored: Iterable[Stored], excess: int) -> list[Stored]:
    """What to give up, in order, until ``excess`` bytes are free or nothing more may go."""
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
    """Seconds per byte, as things stand."""
    before = item.before
    while before is not None and before.identity in gone:
        before = before.before
    return item.seconds(before.step if before is not None else 0) / max(1, item.size)
