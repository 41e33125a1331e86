"""Tracks retries: of chains that ended because of the store, and of failed chains.

Produces messages for people, and limits how many workers may try a store that has just failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from hippo.engine.state import ChainRun
from hippo.plan import Node

TOLD_AFTER = 2
"""Chains in a row that must end because of the store before people are told; one may be a
glitch."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a study is not progressing normally."""

    message: str  # one line
    is_store: bool = False  # the store fails, so the study cannot progress at all


@dataclass(slots=True)
class StoreTrouble:
    """Whether workers can use the store, inferred from the ends of their chains.

    Chains that had begun are all retried at once. If the store fails those as well, or chains that
    had not begun, one chain at a time tries it, after growing pauses. As soon as one has reported
    anything, all may. Times are in seconds of the engine's clock.
    """

    pause: Callable[[int], float]  # after the n-th failed attempt in a row
    failures: int = 0  # chains in a row that ended because of the store
    message: str = ""  # the first one's
    _kind: str = ""  # the message without the chain's name
    _attempts: int = 0
    _failed_at: float = -math.inf
    _closed_until: float = -math.inf
    _is_open: bool = True
    _is_late: bool = False  # a chain had begun, so only a save shows that the store works

    @property
    def is_told(self) -> bool:
        """Whether people should be told."""
        return self.failures >= TOLD_AFTER and not self._is_open

    def note_failure(self, chain: ChainRun, message: str, now: float) -> float:
        """Records such an end of a chain; returns when the next one may try."""
        self.failures += 1
        kind = message.replace(chain.name, "")
        if kind != self._kind or self.failures == 1:  # else the same would be told again
            self._kind, self.message = kind, message
        self._is_late |= chain.begun
        if chain.launched >= self._failed_at:  # others had already failed when it was launched
            self._attempts += 1
            self._failed_at = now
            self._is_open = self._attempts == 1 and chain.begun  # an outage, perhaps over by now
            self._closed_until = now if self._is_open else now + self.pause(self._attempts)
        return self._closed_until

    def note_report(self) -> None:
        """Records that a worker has written something."""
        self._is_open = True
        if not self._is_late:
            self.note_saved()

    def note_saved(self) -> None:
        """Records that a worker has saved a checkpoint: the store works."""
        self.failures = self._attempts = 0
        self._is_open, self._is_late = True, False

    def limit(self, workers: int, chains: Collection[ChainRun], now: float) -> int:
        """Returns the number of workers allowed, given these running chains."""
        if self._is_open:
            return workers
        is_tried = any(c.launched >= self._failed_at and not c.begun for c in chains)
        return min(workers, len(chains) + (now >= self._closed_until and not is_tried))

    def note_launch(self, now: float) -> float | None:
        """Records a launch; returns when the next chain may try, or None if the store works."""
        if self._is_open:
            return None
        self._closed_until = now + self.pause(self._attempts)
        return self._closed_until


@dataclass(slots=True)
class Retries:
    """Failed chains whose work is still to be done."""

    _told: dict[str, tuple[tuple[str, ...], Node, str]] = field(default_factory=dict)  # by origin

    def note(self, chain: ChainRun, message: str) -> None:
        """Records that the chain has failed and is retried."""
        self.forget(chain.origin)
        self._told[chain.origin] = (chain.studies, chain.claim.node, message)

    def forget(self, origin: str) -> None:
        """Forgets a chain that continued, or that is no longer retried."""
        self._told.pop(origin, None)

    def find(self, study: str) -> str | None:
        """Returns the message of a study's latest retry whose work is still wanted, or None."""
        for studies, node, message in reversed(self._told.values()):
            if study in studies and any(below.wants for below in node.below()):
                return message
        return None
