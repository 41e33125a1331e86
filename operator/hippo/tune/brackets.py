"""A bracket: trials that climb the rungs together and are thinned out at each.

This is successive halving in its synchronous form; an algorithm has one bracket or several.
"""

from __future__ import annotations

from hippo.tune.ordering import Rank


class Bracket:
    """Keeps who has entered which rung, with which result, and whose verdict is still due."""

    def __init__(self, rungs: int, eta: int) -> None:
        self._eta = eta
        # None: sent to the rung, and no result yet.
        self._ranks: list[dict[int, Rank | None]] = [{} for _ in range(rungs)]
        self._unknown = [0] * rungs  # results that verdicts wait for
        self._waived: set[tuple[int, int]] = set()
        """Rungs and trials that were judged, and whose results a damaged store has lost since."""
        self._due: list[set[int]] = [set() for _ in range(rungs - 1)]
        self.has_begun = False
        """A verdict has been recorded: the bracket takes no new trial any more."""

    def enter(self, trial: int, rung: int, rank: Rank | None) -> None:
        """The trial is to reach the rung; ``rank`` if its result there is known already."""
        self._ranks[rung][trial] = None
        self._unknown[rung] += 1
        if rung < len(self._due):
            self._due[rung].add(trial)
        if rank is not None:
            self.arrive(trial, rung, rank)

    def arrive(self, trial: int, rung: int, rank: Rank) -> None:
        """A result. Of no account at a rung that the trial was not sent to."""
        if self._ranks[rung].get(trial, rank) is not None:
            return
        self._ranks[rung][trial] = rank
        if (rung, trial) not in self._waived:
            self._unknown[rung] -= 1
        failed = rank[0]
        if failed and rung < len(self._due):
            self._due[rung].discard(trial)

    def judge(self, trial: int) -> None:
        """The trial's verdict has been recorded."""
        self.has_begun = True
        for rung, due in enumerate(self._due):
            due.discard(trial)
            if self._ranks[rung].get(trial, self) is None and (rung, trial) not in self._waived:
                self._waived.add((rung, trial))
                self._unknown[rung] -= 1

    @property
    def is_settled(self) -> bool:
        """No verdict is due, at any rung."""
        return not any(self._due)

    def verdicts(self) -> tuple[int, list[tuple[int, int]], int, int] | None:
        """The lowest closed rung with verdicts due, or None.

        That is (rung, [(trial, position)], size, share): trials in order, the best first, at
        positions from 1 to ``size``; those up to position ``share`` go on.
        """
        for rung, due in enumerate(self._due):
            if self._unknown[rung]:
                return None
            if due:
                order = sorted(rank for rank in self._ranks[rung].values() if rank is not None)
                standing = [
                    (trial, position)
                    for position, (*_, trial) in enumerate(order, start=1)
                    if trial in due
                ]
                size = len(self._ranks[rung])
                return rung, standing, size, max(1, size // self._eta)
        return None
