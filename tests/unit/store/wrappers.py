"""Wrappers of Blobs, for tests that observe or disturb calls."""

from __future__ import annotations

from typing import Any

from hippo.store import Blobs


class Passing:
    """Forwards everything; subclasses override parts."""

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs

    def __getattr__(self, name: str) -> Any:
        return getattr(self.blobs, name)


class Counting(Passing):
    """Records the calls that are made."""

    def __init__(self, blobs: Blobs) -> None:
        super().__init__(blobs)
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        found = super().__getattr__(name)
        if callable(found):
            self.calls.append(name)
        return found
