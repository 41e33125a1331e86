"""Remembers what is being tried again: chains that ended because of the store, and failed chains.

Says so in messages for people, and limits how many workers may try a store that has just failed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from hippo.engine.state import ChainRun
from hippo.plan import Node

TOLD_AFTER = 2
"""People are told once this many chains in a row have ended because of the store: a single one may
have met a bad moment."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a study does not go on as it should."""

    message: str  # one line
    is_store: bool = False  # the store fails, so nothing of the study goes on


@dataclass(slots=True)
class StoreTrouble:
    """Whether workers can use the store, as far as the ends of their chains tell.

    Chains that had begun are tried again at once, all of them. If the store fails those as well, or
    chains that had not begun, one at a time tries it, after growing pauses; as soon as one has
    reported anything, all may. Times in seconds of the engine's clock.
    """

    pause: Callable[[int], float]  # after the n-th attempt in a row that failed
    failures: int = 0  # chains in a row that ended because of the store
    message: str = ""  # of the first one that said so
    _kind: str = ""  # the message without the chain's name
    _attempts: int = 0
    _failed_at: float = -math.inf
    _closed_until: float = -math.inf
    _is_open: bool = True
    _is_late: bool = False  # one had begun, so that only a save shows that the store works

    @property
    def is_told(self) -> bool:
        """Whether people are to know."""
        return self.failures >= TOLD_AFTER and not self._is_open

    def note_failure(self, chain: ChainRun, message: str, now: float) -> float:
        """A chain has ended so; returns when the next one may try."""
        self.failures += 1
        kind = message.replace(chain.name, "")
        if kind != self._kind or self.failures == 1:  # else people would be told the same anew
            self._kind, self.message = kind, message
        self._is_late |= chain.begun
        if chain.launched >= self._failed_at:  # when it was launched, others had failed already
            self._attempts += 1
            self._failed_at = now
            self._is_open = self._attempts == 1 and chain.begun  # an outage, by now perhaps over
            self._closed_until = now if self._is_open else now + self.pause(self._attempts)
        return self._closed_until

    def note_report(self) -> None:
        """A worker has written something."""
        self._is_open = True
        if not self._is_late:
            self.note_saved()

    def note_saved(self) -> None:
        """A worker has written a checkpoint: the store works."""
        self.failures = self._attempts = 0
        self._is_open, self._is_late = True, False

    def limit(self, workers: int, chains: Collection[ChainRun], now: float) -> int:
        """How many of the workers may be at work, beside these chains' or in their place."""
        if self._is_open:
            return workers
        is_tried = any(c.launched >= self._failed_at and not c.begun for c in chains)
        return min(workers, len(chains) + (now >= self._closed_until and not is_tried))

    def note_launch(self, now: float) -> float | None:
        """Chains were launched; returns when the next one may try. None: there is no trouble."""
        if self._is_open:
            return None
        self._closed_until = now + self.pause(self._attempts)
        return self._closed_until


@dataclass(slots=True)
class Retries:
    """Chains that have failed and whose work is still to be done."""

    _told: dict[str, tuple[tuple[str, ...], Node, str]] = field(default_factory=dict)  # by origin

    def note(self, chain: ChainRun, message: str) -> None:
        """The chain has failed, and is tried again."""
        self.forget(chain.origin)
        self._told[chain.origin] = (chain.studies, chain.claim.node, message)

    def forget(self, origin: str) -> None:
        """It went on from there, or nobody tries it any more."""
        self._told.pop(origin, None)

    def find(self, study: str) -> str | None:
        """What the latest one of a study says, if its work is still wanted."""
        for studies, node, message in reversed(self._told.values()):
            if study in studies and any(below.wants for below in node.below()):
                return message
        return None
