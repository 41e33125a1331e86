"""Population-based training (M. Jaderberg et al., arXiv:1711.09846, 2017), synchronous.

A population trains side by side. At each multiple of ``interval``, once all members have a result
there, the worst are replaced (truncation selection): each by a copy of one of the best, chosen at
random (exploit), whose hyper-parameters are varied from there on (explore). Here the copy is a new
trial with its donor's sequence up to this step. The plan merges the two up to there, and training
continues from the donor's checkpoint; nothing is copied.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from hippo.model import Explorer, InvalidSpec, Pbt, Sequence, Study, canonical_json
from hippo.model.spaces.sampling import below
from hippo.protocol.decisions import Decision
from hippo.tune import reasons
from hippo.tune.ordering import Rank
from hippo.tune.tuner import Tuner

TRIES = 16
"""Perturbations tried until one differs from all twins; then as many fresh draws."""


class PbtTuner(Tuner):
    """Each round is judged when all its results are in, so their order does not matter.

    Failed members count as worst and are all replaced, even beyond the quantile, so that the
    population keeps its size. If all have failed, there is no donor and the study ends.
    """

    def __init__(self, study: Study, settings: Pbt) -> None:
        steps = study.spec.steps
        rungs = (*range(settings.interval, steps, settings.interval), steps)
        super().__init__(study, rungs=rungs, seed=settings.seed)
        self._size = settings.population
        self._quantile = settings.replaced
        self._explorer = Explorer(
            self._space, settings.seed, settings.resample, tuple(settings.factors)
        )
        self._members: list[list[int]] = [[] for _ in rungs]
        """Trials that were sent to each rung."""
        self._ranks: list[dict[int, Rank]] = [{} for _ in rungs]
        self._first_rungs: list[int] = []  # first rung by trial, ascending
        self._hyperparameters: list[dict[str, Any]] = []
        self._sequences: list[Sequence] = []

    @property
    def _limit(self) -> int:
        return self._size  # only the initial population is drawn from the space

    @property
    def draws_from_space(self) -> bool:
        return len(self._targets) < self._size

    @property
    def exhausted(self) -> bool:
        rung = self._current_rung()
        return rung is None or (self._is_closed(rung) and len(self._failed_at(rung)) == self._size)

    def decide(self, idle: int) -> list[Decision]:
        if self.draws_from_space:
            return self._suggestions(self._size, self.rungs[0])
        rung = self._current_rung()
        if rung is None or not self._is_closed(rung):
            return []
        return self._verdicts(rung)

    # -- rounds ------------------------------------------------------------------------------------

    def _current_rung(self) -> int | None:
        """Returns the lowest rung that some members have not left; None if all go on to the end."""
        for rung, beyond in enumerate(self._members[1:]):
            if len(beyond) < self._size:
                return rung
        return None

    def _is_closed(self, rung: int) -> bool:
        members = self._members[rung]
        return len(members) == self._size and all(t in self._ranks[rung] for t in members)

    def _failed_at(self, rung: int) -> list[int]:
        return [trial for trial in self._members[rung] if self._ranks[rung][trial][0]]

    def _verdicts(self, rung: int) -> list[Decision]:
        """Returns the decisions of a closed rung, without those recorded already."""
        order = [rank[-1] for rank in sorted(self._ranks[rung][t] for t in self._members[rung])]
        failed = set(self._failed_at(rung))
        if len(failed) == self._size:
            return []
        count = max(self._quantile, len(failed))
        kept, worst = order[: self._size - count], order[: self._size - count - 1 : -1]
        donors = order[: min(self._quantile, self._size - len(failed))]
        here, following = self.rungs[rung], self.rungs[rung + 1]
        decisions: list[Decision] = []

        def decide(**fields: Any) -> None:
            decisions.append(Decision(index=self._count + len(decisions), **fields))

        for position, trial in enumerate(kept, start=1):
            if self._targets[trial] == here:
                reason = reasons.promoted(
                    rung=rung,
                    step=here,
                    position=position,
                    of=str(self._size),
                    share=len(kept),
                    following=following,
                )
                decide(kind="promote", trial=trial, steps=following, reason=reason)
        children: list[Sequence] = []
        first_child = bisect_right(self._first_rungs, rung)
        for child, trial in enumerate(worst, start=first_child):
            position = order.index(trial) + 1
            if trial not in failed and trial not in self._stopped:
                reason = reasons.replaced(
                    step=here, position=position, size=self._size, count=count
                )
                decide(kind="stop", trial=trial, steps=here, reason=reason)
            if child < len(self._targets):
                children.append(self._sequences[child])
                continue
            donor = donors[below(self.seed, child, "donor", len(donors))]
            twins = [*(self._sequences[other] for other in kept), *children]
            written, sequence = self._explored(donor, child, rung, twins)
            children.append(sequence)
            decide(
                kind="suggest",
                trial=child,
                steps=following,
                parent=donor,
                hyperparameters=written,
                reason=f"in place of trial {trial}"
                + (", which failed; " if trial in failed else "; ")
                + f"goes on from trial {donor}"
                f" ({reasons.ordinal(order.index(donor) + 1)} of {self._size} at step {here})"
                + self._changes(donor, written),
            )
        return decisions

    def _explored(
        self, donor: int, child: int, rung: int, twins: list[Sequence]
    ) -> tuple[dict[str, Any], Sequence]:
        """Returns the donor's hyper-parameters, varied so that the child differs from all of its
        twins before the next rung.

        If no attempt achieves that, they stay unchanged and the child duplicates the donor.
        """
        here, following = self.rungs[rung], self.rungs[rung + 1]
        for attempt in range(2 * TRIES):
            written = self._explorer.vary(
                self._hyperparameters[donor],
                here,
                child,
                attempt=attempt,
                afresh=attempt >= TRIES,
            )
            try:
                sequence = Sequence.of(written, self.steps)
            except InvalidSpec:
                continue  # too many pieces
            if all(sequence.agreement(twin) < following for twin in twins):
                return written, sequence
        return self._hyperparameters[donor], self._sequences[donor]

    def _changes(self, donor: int, written: dict[str, Any]) -> str:
        before = self._explorer.in_force(self._hyperparameters[donor])
        after = self._explorer.in_force(written)
        changes = [
            f"{name} {canonical_json(before[name])} -> {canonical_json(after[name])}"
            for name in before
            if canonical_json(before[name]) != canonical_json(after[name])
        ]
        return f": {', '.join(changes)}" if changes else ", unchanged: there is nothing new to try"

    # -- what is known -----------------------------------------------------------------------------

    def apply(self, decision: Decision) -> None:
        super().apply(decision)
        if decision.kind == "suggest":
            assert decision.hyperparameters is not None
            self._hyperparameters.append(decision.hyperparameters)
            self._sequences.append(Sequence.of(decision.hyperparameters, self.steps))

    def _suggested(self, trial: int) -> None:
        rung = self.rung_of(trial)
        self._first_rungs.append(rung)
        self._members[rung].append(trial)

    def _promoted(self, trial: int, rung: int) -> None:
        self._members[self.rung_of(trial)].append(trial)

    def _ranked(self, trial: int, rung: int, rank: Rank) -> None:
        failed = rank[0]
        # A failure counts at later rungs too: the trial may have been sent beyond this one.
        for at in range(rung, len(self.rungs) if failed else rung + 1):
            self._ranks[at].setdefault(trial, rank)
