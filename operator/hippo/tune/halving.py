"""Successive halving within brackets, shared by SHA and Hyperband.

All trials of a bracket train to its first rung. Once every result there is in, the best 1/eta go on
to the next rung, eta times as far, and so on up to the study's steps. Unlike in the papers, the
best trial always goes on, so that small brackets end with a fully trained trial.
"""

from __future__ import annotations

from typing import Literal

from hippo.model import Hyperband, Sha, Study
from hippo.protocol.decisions import Decision
from hippo.tune import reasons
from hippo.tune.brackets import Bracket
from hippo.tune.ordering import Rank
from hippo.tune.rungs import rung_steps
from hippo.tune.tuner import Tuner


class HalvingTuner(Tuner):
    """Synchronous: decisions do not depend on the order of results.

    A trial's index determines its bracket. If ``maxTrials`` is raised after a bracket's first
    verdict, the additional trials form a bracket of their own.
    """

    def __init__(self, study: Study, settings: Sha | Hyperband) -> None:
        rungs = rung_steps(settings.min_steps, settings.eta, study.spec.steps)
        super().__init__(study, rungs=rungs, seed=settings.seed)
        self._eta = settings.eta
        self._brackets: list[Bracket] = []
        self._open: dict[int, Bracket] = {}  # brackets that take new trials, by number
        self._bracket_of: list[Bracket] = []
        self._known: dict[tuple[int, int], Rank] = {}

    def _number_of(self, trial: int) -> int:
        """Returns the bracket of a trial: 0, 1, ... in the order in which they are filled."""
        return 0

    def _label(self, trial: int) -> str:
        """Returns the prefix of reasons if there are several brackets."""
        return ""

    def decide(self, idle: int) -> list[Decision]:
        if not self.exhausted:
            return self._suggestions(self._limit, self.rungs[0])
        decisions: list[Decision] = []
        for bracket in self._brackets:
            decisions += self._verdicts(bracket, self._count + len(decisions))
        return decisions

    def _verdicts(self, bracket: Bracket, index: int) -> list[Decision]:
        found = bracket.verdicts()
        if found is None:
            return []
        rung, standing, size, share = found
        here, following = self.rungs[rung], self.rungs[rung + 1]
        decisions = []
        for offset, (trial, position) in enumerate(standing):
            if position <= share:
                kind: Literal["promote", "stop"] = "promote"
                reason = reasons.promoted(
                    rung=rung,
                    step=here,
                    position=position,
                    of=str(size),
                    share=share,
                    following=following,
                )
            else:
                kind = "stop"
                reason = reasons.stopped(step=here, position=position, size=size, share=share)
            decisions.append(
                Decision(
                    index=index + offset,
                    kind=kind,
                    trial=trial,
                    steps=following if kind == "promote" else here,
                    reason=self._label(trial) + reason,
                )
            )
        return decisions

    def _suggested(self, trial: int) -> None:
        number = self._number_of(trial)
        bracket = self._open.get(number)
        if bracket is None or bracket.has_begun:
            bracket = self._open[number] = Bracket(len(self.rungs), self._eta)
            self._brackets.append(bracket)
        self._bracket_of.append(bracket)
        self._enter(trial)

    def _promoted(self, trial: int, rung: int) -> None:
        self._bracket_of[trial].judge(trial)
        self._enter(trial)

    def _halted(self, trial: int) -> None:
        self._bracket_of[trial].judge(trial)

    def _enter(self, trial: int) -> None:
        rung = self.rung_of(trial)
        self._bracket_of[trial].enter(trial, rung, self._known.get((trial, rung)))

    def _ranked(self, trial: int, rung: int, rank: Rank) -> None:
        failed = rank[0]
        # A failure counts at later rungs too: the trial may have been sent beyond this one.
        for at in range(rung, len(self.rungs) if failed else rung + 1):
            self._known.setdefault((trial, at), rank)
            if trial < len(self._bracket_of):
                self._bracket_of[trial].arrive(trial, at, rank)

    def _is_settled(self) -> bool:
        return all(bracket.is_settled for bracket in self._brackets)
