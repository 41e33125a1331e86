"""No study waits for ever: one that has waited long goes before all others, for a while.

Priorities are strict otherwise, so an endless stream of urgent studies would keep the others from
every worker. A study without a worker for ``seconds`` becomes overdue: its tuner may ask for a
trial although no worker is idle, and it gets the next one, which no higher priority takes away for
a tenth of that time. So of a worker that others could use always, a waiting study has at least an
eleventh, and ends.
"""

from __future__ import annotations

from collections.abc import Mapping

from hippo.runs import StudyRun
from hippo.workforce import Workforce

GUARDED_SHARE = 0.1
FIRST_OF_ALL = -(2**62)
"""As a place in line: before every priority."""


class Patience:
    """Looks at who waits. Times in seconds of the engine's clock."""

    def __init__(
        self,
        workforce: Workforce,
        studies: Mapping[str, StudyRun],
        seconds: float,
    ) -> None:
        self._workforce = workforce
        self._studies = studies
        self._seconds = seconds
        self._since: dict[str, float] = {}  # by waiting study
        self._guarded: dict[str, float] = {}  # by chain: until when
        self._now = 0.0

    def look(self, now: float) -> None:
        self._now = now
        for name, run in self._studies.items():
            if run.is_active and not self._workforce.held(name):
                self._since.setdefault(name, now)
            else:
                self._since.pop(name, None)
        if self._guarded:
            self._guarded = {c: until for c, until in self._guarded.items() if until > now}

    def is_overdue(self, study: str) -> bool:
        since = self._since.get(study)
        return since is not None and self._now - since >= self._seconds

    def rank(self, study: str) -> int:
        """Its place in line, the least first: by priority, unless it has waited too long."""
        if self.is_overdue(study):
            return FIRST_OF_ALL
        return -self._studies[study].study.spec.priority

    def launched(self, chain: str, study: str) -> None:
        """A worker was given to a study."""
        if self.is_overdue(study):
            self._guarded[chain] = self._now + GUARDED_SHARE * self._seconds
        self._since.pop(study, None)

    def is_guarded(self, chain: str) -> bool:
        """Whether no higher priority may have the worker yet."""
        return self._guarded.get(chain, self._now) > self._now
