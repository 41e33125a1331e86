"""Rungs: the steps at which trials are compared, and the ranking at each of them."""

from __future__ import annotations

from bisect import bisect_left, insort

from hippo.tune.ordering import Rank


def rung_steps(min_steps: int, eta: int, steps: int) -> tuple[int, ...]:
    """Returns min_steps * eta^k as long as it is below ``steps``, then ``steps``. All integers.

    Raises ValueError if ``steps`` would never be reached.
    """
    if not 1 <= min_steps <= steps or eta < 2:
        raise ValueError(f"no rungs with minSteps {min_steps}, eta {eta} and {steps} steps")
    rungs = []
    step = min_steps
    while step < steps:
        rungs.append(step)
        step *= eta
    return (*rungs, steps)


class Standing:
    """Ranked results at one rung, and the trials that are paused there.

    Adding a result and finding the next promotion take O(log n), apart from moving list entries.
    """

    def __init__(self) -> None:
        self._order: list[Rank] = []
        self._ranks: dict[int, Rank] = {}
        self._waiting: list[Rank] = []

    def __len__(self) -> int:
        return len(self._order)

    @property
    def waiting(self) -> list[int]:
        """Paused trials that may still be promoted, best first."""
        return [trial for *_, trial in self._waiting]

    @property
    def is_settled(self) -> bool:
        """Whether no trial is paused here."""
        return not self._waiting

    def add(self, trial: int, rank: Rank, *, waits: bool) -> None:
        """Adds a result; once per trial."""
        self._ranks[trial] = rank
        insort(self._order, rank)
        if waits:
            insort(self._waiting, rank)

    def settle(self, trial: int) -> None:
        """Records that the trial was promoted or never will be. Idempotent."""
        rank = self._ranks.get(trial)
        if rank is None:
            return
        index = bisect_left(self._waiting, rank)
        if index < len(self._waiting) and self._waiting[index] == rank:
            del self._waiting[index]

    def position(self, trial: int) -> int:
        """Returns the rank of a trial, 1 for the best. Raises KeyError without a result."""
        return bisect_left(self._order, self._ranks[trial]) + 1

    def promotable(self, count: int, most: int) -> list[int]:
        """Returns paused trials among the best ``count``, best first, at most ``most``."""
        chosen: list[int] = []
        for rank in self._waiting[:most]:
            if bisect_left(self._order, rank) >= count:
                break
            chosen.append(rank[-1])
        return chosen
