"""A bracket: trials that climb the rungs together, with a cut at each rung.

This is successive halving in its synchronous form; an algorithm has one bracket or several.
"""

from __future__ import annotations

from hippo.tune.ordering import Rank


class Bracket:
    """Records which trials have entered which rung, their results, and the verdicts still due."""

    def __init__(self, rungs: int, eta: int) -> None:
        self._eta = eta
        # None: sent to the rung, without a result yet.
        self._ranks: list[dict[int, Rank | None]] = [{} for _ in range(rungs)]
        self._unknown = [0] * rungs  # results that verdicts wait for
        self._waived: set[tuple[int, int]] = set()
        """(rung, trial) pairs that were judged but whose results a damaged store has lost since."""
        self._due: list[set[int]] = [set() for _ in range(rungs - 1)]
        self.has_begun = False
        """Whether a verdict has been recorded; the bracket then takes no new trial."""

    def enter(self, trial: int, rung: int, rank: Rank | None) -> None:
        """Sends a trial to a rung; ``rank`` is its result there if known already."""
        self._ranks[rung][trial] = None
        self._unknown[rung] += 1
        if rung < len(self._due):
            self._due[rung].add(trial)
        if rank is not None:
            self.arrive(trial, rung, rank)

    def arrive(self, trial: int, rung: int, rank: Rank) -> None:
        """Records a result. Ignored at a rung that the trial was not sent to."""
        if self._ranks[rung].get(trial, rank) is not None:
            return
        self._ranks[rung][trial] = rank
        if (rung, trial) not in self._waived:
            self._unknown[rung] -= 1
        failed = rank[0]
        if failed and rung < len(self._due):
            self._due[rung].discard(trial)

    def judge(self, trial: int) -> None:
        """Records that the trial's verdict was made."""
        self.has_begun = True
        for rung, due in enumerate(self._due):
            due.discard(trial)
            if self._ranks[rung].get(trial, self) is None and (rung, trial) not in self._waived:
                self._waived.add((rung, trial))
                self._unknown[rung] -= 1

    @property
    def is_settled(self) -> bool:
        """Whether no verdict is due at any rung."""
        return not any(self._due)

    def verdicts(self) -> tuple[int, list[tuple[int, int]], int, int] | None:
        """Returns the lowest closed rung with verdicts due, or None.

        The result is (rung, [(trial, position)], size, share): trials in order, best first, at
        positions from 1 to ``size``; those up to position ``share`` are promoted.
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
