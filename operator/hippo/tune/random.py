"""Random search (J. Bergstra and Y. Bengio, JMLR 13, 2012)."""

from __future__ import annotations

from hippo.model import Random, Study
from hippo.protocol.decisions import Decision
from hippo.tune.tuner import Tuner


class RandomTuner(Tuner):
    """Suggests ``maxTrials`` draws at once; a finite space is drawn without replacement."""

    def __init__(self, study: Study, settings: Random) -> None:
        super().__init__(study, seed=settings.seed)

    def decide(self, idle: int) -> list[Decision]:
        return self._suggestions(self._limit, self.steps)
