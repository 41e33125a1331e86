"""A tuner that replays recorded decisions, to train the same trials of a study in another way.

Some algorithms decide by the results at hand and so depend on the order in which results arrive;
trained in another way, the study would have other trials. Here each recorded decision is repeated
as soon as its trial reaches the step at which it was made. Trials keep their order; verdicts follow
results.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable

from hippo.model import Study
from hippo.protocol.decisions import Decision
from hippo.tune.tuner import Tuner


class FollowingTuner(Tuner):
    """Repeats recorded suggestions, promotions and stops, limited as its own algorithm would be.

    Decisions that the engine makes itself (failures, replicates) are left to the engine.
    """

    def __init__(self, study: Study, own: Tuner, recorded: Iterable[Decision]) -> None:
        """``own`` is the study's tuner in its initial state."""
        super().__init__(study, rungs=own.rungs, seed=own.seed)
        self._own = own
        self._trials: list[Decision] = []
        self._verdicts: defaultdict[int, deque[Decision]] = defaultdict(deque)
        replicates = set()
        for decision in recorded:
            if decision.kind == "suggest":
                if decision.seed is None:
                    self._trials.append(decision)
                else:
                    replicates.add(decision.trial)
            elif decision.kind != "fail" and decision.trial not in replicates:
                self._verdicts[decision.trial].append(decision)

    @property
    def request_ends(self) -> tuple[int, ...]:
        return self._own.request_ends

    def decide(self, idle: int) -> list[Decision]:
        room = max(idle, 0) if self._own.for_idle_workers else len(self._trials)
        due = [verdicts[0] for verdicts in self._verdicts.values() if self._is_due(verdicts[0])]
        due += self._trials[len(self._targets) :][:room]
        made: list[Decision] = []
        for recorded in sorted(due, key=lambda decision: decision.index):
            if recorded.kind != "stop":
                if not room:
                    continue
                room -= 1
            made.append(recorded.model_copy(update={"index": self._count + len(made)}))
        return made if due else self._final_stops()

    def _is_due(self, verdict: Decision) -> bool:
        """Whether the trial has reached the step at which the verdict was made."""
        trial = verdict.trial
        if trial >= len(self._targets) or trial in self._failed or trial in self._stopped:
            return False
        if verdict.kind == "promote":
            return trial not in self._pending
        at = verdict.steps
        return at not in self.rungs or (trial, self.rungs.index(at)) in self._results

    def _final_stops(self) -> list[Decision]:
        """Returns stops of trials without further records, once no other decision can follow."""
        if not self.exhausted or self._pending:
            return []
        return [
            Decision(
                index=self._count + offset,
                kind="stop",
                trial=trial,
                steps=self._targets[trial],
                reason="in the run that is followed it did not go on",
            )
            for offset, trial in enumerate(self._unsettled())
        ]

    def _unsettled(self) -> list[int]:
        return [trial for trial in range(len(self._targets)) if self.may_continue(trial)]

    def _is_settled(self) -> bool:
        return not self._unsettled()

    @property
    def _limit(self) -> int:
        return len(self._trials)

    def _promoted(self, trial: int, rung: int) -> None:
        verdicts = self._verdicts.get(trial, deque())
        while verdicts and verdicts[0].kind == "promote":
            if verdicts[0].steps > self._targets[trial]:
                return
            verdicts.popleft()
        if not verdicts:
            self._verdicts.pop(trial, None)

    def _halted(self, trial: int) -> None:
        self._verdicts.pop(trial, None)
