"""Hyperband (L. Li et al., "Hyperband", JMLR 18, 2018), algorithm 1.

How early a trial can be judged depends on the problem, so Hyperband hedges: bracket s begins with
ceil((s_max + 1) / (s + 1) * eta^s) trials at rung s_max - s, for s = s_max, ..., 0; the last one
trains all of its few trials in full. The rungs are those of successive halving. As in the paper,
s_max is floor(log_eta(steps / minSteps)) if ``steps`` is minSteps times a power of eta; otherwise
it is one more, since the last rung is then less than eta times as far as the one before.

The paper runs one bracket after the other. They do not depend on each other, so here all trials are
suggested at once and the scheduler orders the work.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from hippo.model import Hyperband, Study
from hippo.model.algorithms import bracket_sizes
from hippo.tune.halving import HalvingTuner


class HyperbandTuner(HalvingTuner):
    """All brackets side by side; bracket number k begins at rung k.

    ``maxTrials`` trials fill the brackets in order, then those of another pass; without it there is
    one pass.
    """

    def __init__(self, study: Study, settings: Hyperband) -> None:
        super().__init__(study, settings)
        self._ends = list(accumulate(bracket_sizes(len(self.rungs), settings.eta)))
        """For each bracket of a pass, the index after its last trial."""

    @property
    def _limit(self) -> int:
        most = self._ends[-1] if self._max_trials is None else self._max_trials
        return most if self._space.size is None else min(most, self._space.size)

    def _place_of(self, trial: int) -> tuple[int, int]:
        """Returns (pass, first rung), both from 0."""
        passed, place = divmod(trial, self._ends[-1])
        return passed, bisect_right(self._ends, place)

    def _number_of(self, trial: int) -> int:
        passed, first = self._place_of(trial)
        return passed * len(self.rungs) + first

    def _first_target(self, trial: int, steps: int) -> int:
        return self.rungs[self._place_of(trial)[1]]

    def _label(self, trial: int) -> str:
        passed, first = self._place_of(trial)
        repeated = f"pass {passed + 1}, " if passed else ""
        return f"{repeated}bracket {first + 1} of {len(self.rungs)}, "

    def _why(self, trial: int) -> str:
        return self._label(trial) + super()._why(trial)
