"""Many small requests at once: over a network their number counts, not their size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 8

S = TypeVar("S")
T = TypeVar("T")


def map_together(function: Callable[[S], T], items: Iterable[S], *, is_remote: bool) -> Iterator[T]:
    """The results in order. The first exception ends it; what has begun by then is still done."""
    if not is_remote:  # threads would only be in each other's way
        yield from map(function, items)
        return
    with ThreadPoolExecutor(AT_ONCE, "store") as threads:
        yield from threads.map(function, items)
