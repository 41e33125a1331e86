"""Concurrent small requests: over a network their number matters more than their size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

AT_ONCE = 8

S = TypeVar("S")
T = TypeVar("T")


def map_together(function: Callable[[S], T], items: Iterable[S], *, is_remote: bool) -> Iterator[T]:
    """Yields the results in order; concurrent if ``is_remote``.

    The first exception ends it; calls that have begun by then still finish.
    """
    if not is_remote:  # threads would only contend with each other
        yield from map(function, items)
        return
    with ThreadPoolExecutor(AT_ONCE, "store") as threads:
        yield from threads.map(function, items)
