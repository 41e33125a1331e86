"""Grid search: every point of a finite space, in order."""

from __future__ import annotations

from typing import Any

from hippo.model import Study
from hippo.protocol.decisions import Decision
from hippo.tune.tuner import Tuner


class GridTuner(Tuner):
    """Suggests all points at once, or the first ``maxTrials``; the last name varies fastest."""

    def __init__(self, study: Study) -> None:
        super().__init__(study)

    def decide(self, idle: int) -> list[Decision]:
        return self._suggestions(self._limit, self.steps)

    def _point(self, trial: int) -> dict[str, Any]:
        return self._space.pick(trial)

    def _why(self, trial: int) -> str:
        return f"point {trial + 1} of {self._limit} of the grid"
