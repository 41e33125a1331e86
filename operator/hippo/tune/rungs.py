"""Rungs: the steps at which trials are compared, and who stands where on one of them."""

from __future__ import annotations

from bisect import bisect_left, insort

from hippo.tune.ordering import Rank


def rung_steps(min_steps: int, eta: int, steps: int) -> tuple[int, ...]:
    """min_steps * eta^k as long as that is below ``steps``, then ``steps``. Integers throughout.

    Raises ValueError if it would never get there.
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
    """Results at one rung, in order, and which of those trials wait there to be asked to go on.

    Adding a result and asking for the next to go on cost O(log n), beside a list's memory move.
    """

    def __init__(self) -> None:
        self._order: list[Rank] = []
        self._ranks: dict[int, Rank] = {}
        self._waiting: list[Rank] = []

    def __len__(self) -> int:
        return len(self._order)

    @property
    def waiting(self) -> list[int]:
        """Trials that may still be asked to go on, the best first."""
        return [trial for *_, trial in self._waiting]

    @property
    def is_settled(self) -> bool:
        """No trial waits here."""
        return not self._waiting

    def add(self, trial: int, rank: Rank, *, waits: bool) -> None:
        """A result, once per trial."""
        self._ranks[trial] = rank
        insort(self._order, rank)
        if waits:
            insort(self._waiting, rank)

    def settle(self, trial: int) -> None:
        """The trial goes on, or never will. Idempotent, and harmless before its result is known."""
        rank = self._ranks.get(trial)
        if rank is None:
            return
        index = bisect_left(self._waiting, rank)
        if index < len(self._waiting) and self._waiting[index] == rank:
            del self._waiting[index]

    def position(self, trial: int) -> int:
        """1 for the best trial. KeyError without a result."""
        return bisect_left(self._order, self._ranks[trial]) + 1

    def promotable(self, count: int, most: int) -> list[int]:
        """Trials among the best ``count`` that wait, the best first, ``most`` at most."""
        chosen: list[int] = []
        for rank in self._waiting[:most]:
            if bisect_left(self._order, rank) >= count:
                break
            chosen.append(rank[-1])
        return chosen
