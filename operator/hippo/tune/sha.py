"""Successive halving (K. Jamieson and A. Talwalkar, AISTATS 2016), as in Hyperband's inner loop.

All trials train to the first rung; once every result there is in, the best 1/eta go on to the next,
eta times as far, and so on up to the study's steps (L. Li et al., "Hyperband", JMLR 18, 2018, the
inner loop of algorithm 1). That the best one always goes on is ours, so that small studies end with
a fully trained trial.
"""

from __future__ import annotations

from typing import Literal

from hippo.model import Sha, Study
from hippo.store.records import Decision
from hippo.tune import reasons
from hippo.tune.brackets import Bracket
from hippo.tune.ordering import Rank
from hippo.tune.rungs import rung_steps
from hippo.tune.tuner import Tuner


class ShaTuner(Tuner):
    """Synchronous: a rung is judged when it is closed, so the order of results is of no account.

    Trials added by raising ``maxTrials`` after the first verdict form a bracket of their own.
    """

    def __init__(self, study: Study, settings: Sha) -> None:
        rungs = rung_steps(settings.min_steps, settings.eta, study.spec.steps)
        super().__init__(study, rungs=rungs, seed=settings.seed)
        self._eta = settings.eta
        self._brackets = [Bracket(len(rungs), settings.eta)]
        self._bracket_of: list[Bracket] = []
        self._known: dict[tuple[int, int], Rank] = {}

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
            steps = following if kind == "promote" else here
            decisions.append(
                Decision(index=index + offset, kind=kind, trial=trial, steps=steps, reason=reason)
            )
        return decisions

    def _suggested(self, trial: int) -> None:
        if self._brackets[-1].has_begun:
            self._brackets.append(Bracket(len(self.rungs), self._eta))
        self._bracket_of.append(self._brackets[-1])
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
        self._known[trial, rung] = rank
        if trial < len(self._bracket_of):
            self._bracket_of[trial].arrive(trial, rung, rank)

    def _is_settled(self) -> bool:
        return all(bracket.is_settled for bracket in self._brackets)
