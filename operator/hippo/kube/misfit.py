"""An image whose Hippo does not fit the operator's: nobody pays for it, and it is not tried again
until somebody has changed something.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


class Wanted(Protocol):
    """What a user has asked for: a study of the cluster."""

    @property
    def uid(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def retry(self) -> str | None: ...


@dataclass(slots=True)
class Misfit:
    """What is known of one plan's image."""

    message: str | None = None
    """What does not fit, and what to do; None: nothing is known to be wrong."""
    _asked: frozenset[tuple[str, int, str | None]] = field(default_factory=frozenset)

    def note(self, message: str, studies: Mapping[str, Wanted]) -> None:
        """A worker has said so. The first word stands."""
        if self.message is None:
            self.message, self._asked = message, _describe(studies)

    def look(self, studies: Mapping[str, Wanted]) -> bool:
        """Whether it is to be tried again: a study is new, was edited, or is to be tried again."""
        if self.message is None or _describe(studies) <= self._asked:
            return False
        self.message = None
        return True


def _describe(studies: Mapping[str, Wanted]) -> frozenset[tuple[str, int, str | None]]:
    return frozenset((item.uid, item.generation, item.retry) for item in studies.values())
