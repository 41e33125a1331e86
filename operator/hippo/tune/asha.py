"""Asynchronous successive halving (ASHA), promotion type.

L. Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020, algorithm 2. A
trial that reaches a rung pauses there. When a worker is idle, a trial among the best 1/eta of a
rung's results so far resumes from its checkpoint; only if there is none, a new trial begins at the
first rung. The paper's algorithm never ends; here it ends with ``maxTrials``: when all trials have
been suggested, no result is awaited and none can be promoted, the paused trials are stopped.

Promotions depend on the order in which results arrive. Therefore every decision is recorded.
"""

from __future__ import annotations

from hippo.model import Asha, Study
from hippo.protocol.decisions import Decision
from hippo.tune import reasons
from hippo.tune.ordering import Rank
from hippo.tune.rungs import Standing, rung_steps
from hippo.tune.tuner import Tuner


class AshaTuner(Tuner):
    """Decides for idle workers only; each decision takes O(rungs + log trials)."""

    by_order = "which trials go on"
    for_idle_workers = True

    def __init__(self, study: Study, settings: Asha) -> None:
        rungs = rung_steps(settings.min_steps, settings.eta, study.spec.steps)
        super().__init__(study, rungs=rungs, seed=settings.seed)
        self._eta = settings.eta
        self._standings = [Standing() for _ in rungs]

    def decide(self, idle: int) -> list[Decision]:
        promotions = self._promotions(idle)
        new = self._suggestions(
            max(idle, 0) - len(promotions), self.rungs[0], after=len(promotions)
        )
        return promotions + new or self._final_stops()

    def _promotions(self, most: int) -> list[Decision]:
        decisions: list[Decision] = []
        for rung in range(len(self.rungs) - 2, -1, -1):
            standing = self._standings[rung]
            share = len(standing) // self._eta
            for trial in standing.promotable(share, max(0, most - len(decisions))):
                here, following = self.rungs[rung], self.rungs[rung + 1]
                decisions.append(
                    Decision(
                        index=self._count + len(decisions),
                        kind="promote",
                        trial=trial,
                        steps=following,
                        reason=reasons.promoted(
                            rung=rung,
                            step=here,
                            position=standing.position(trial),
                            of=f"{len(standing)} so far",
                            share=share,
                            following=following,
                        ),
                    )
                )
        return decisions

    def _final_stops(self) -> list[Decision]:
        """Returns stops of all paused trials, once no other decision can follow."""
        if not self.exhausted or self._pending or self._is_settled() or self._promotions(1):
            return []
        waiting = sorted(
            (trial, rung)
            for rung, standing in enumerate(self._standings[:-1])
            for trial in standing.waiting
        )
        return [
            Decision(
                index=self._count + offset,
                kind="stop",
                trial=trial,
                steps=self.rungs[rung],
                reason=self._why_stopped(trial, rung),
            )
            for offset, (trial, rung) in enumerate(waiting)
        ]

    def _why_stopped(self, trial: int, rung: int) -> str:
        standing = self._standings[rung]
        return reasons.left_over(
            step=self.rungs[rung],
            position=standing.position(trial),
            size=len(standing),
            share=len(standing) // self._eta,
            eta=self._eta,
        )

    def _promoted(self, trial: int, rung: int) -> None:
        self._standings[rung].settle(trial)

    def _halted(self, trial: int) -> None:
        self._standings[self.rung_of(trial)].settle(trial)

    def _ranked(self, trial: int, rung: int, rank: Rank) -> None:
        failed = rank[0]
        stays = rung == len(self.rungs) - 1 or failed or trial in self._stopped
        gone = trial < len(self._targets) and self._targets[trial] > self.rungs[rung]
        self._standings[rung].add(trial, rank, waits=not (stays or gone))

    def _is_settled(self) -> bool:
        return all(standing.is_settled for standing in self._standings)
