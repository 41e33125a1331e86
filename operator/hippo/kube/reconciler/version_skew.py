"""Version skew between the Hippo in a plan's image and the operator's: no study is charged for such
an image, and it is not tried again until a study of the plan has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from hippo.kube import names


class Requested(Protocol):
    """The part of a study that shows whether its user has asked for something new."""

    @property
    def uid(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def retry(self) -> str | None: ...


class Launching(Protocol):
    """Says whether something forbids to launch pods."""

    problem: tuple[str, str] | None
    """Reason and message, if so."""
    is_changed: bool
    """There is a problem that was not there before."""


@dataclass(slots=True)
class VersionSkew:
    """Whether the image of one plan is known to be incompatible. Outlives its reconcilers."""

    message: str | None = None
    """The incompatibility and its remedy; None if none is known."""
    _asked: frozenset[tuple[str, int, str | None]] = field(default_factory=frozenset)

    def note(self, message: str, studies: Mapping[str, Requested]) -> None:
        """A worker has reported it. The first report is kept."""
        if self.message is None:
            self.message, self._asked = message, _describe(studies)

    def clear_if_changed(self, studies: Mapping[str, Requested]) -> bool:
        """Forget it, and return True, if a study is new, was edited, or asks for a retry."""
        if self.message is None or _describe(studies) <= self._asked:
            return False
        self.message = None
        return True

    def apply(self, watch: Launching, studies: Mapping[str, Requested]) -> None:
        """Forbid launches while the image is known not to fit, and allow them again afterwards."""
        problem = watch.problem
        if self.clear_if_changed(studies) and problem is not None:
            watch.problem = None if problem[0] == names.REASON_IMAGE_UNFIT else problem
        if self.message is not None and watch.problem is None:
            watch.problem = (names.REASON_IMAGE_UNFIT, self.message)
            watch.is_changed = True


def _describe(studies: Mapping[str, Requested]) -> frozenset[tuple[str, int, str | None]]:
    return frozenset((item.uid, item.generation, item.retry) for item in studies.values())
