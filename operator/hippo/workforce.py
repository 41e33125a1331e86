"""The chains that run: who lends them, who shares them, who waits, and who is done first.

All of it is kept up to date as chains come, change and go, so that no event costs in proportion to
the number of workers.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field
from itertools import count

from hippo.lifecycles import WorkerState
from hippo.runs import ChainRun

_Estimate = tuple[float, int, str]  # (when, order, chain)


@dataclass(slots=True, eq=False)
class Workforce:
    """Chains by name, in the order in which they came."""

    chains: dict[str, ChainRun] = field(default_factory=dict)
    lent: Counter[str] = field(default_factory=Counter)  # chains by the study that lends the worker
    arrived: dict[str, ChainRun] = field(default_factory=dict)  # at the ends of their routes
    leaving: set[str] = field(default_factory=set)  # told to stop
    queued: frozenset[str] = frozenset()  # that the driver has no room for yet, as it told last
    parties: dict[tuple[str, ...], dict[str, ChainRun]] = field(default_factory=dict)
    """Chains by the studies that share their cost."""
    total: float = 0.0  # of the moments at which each is done, by estimate
    _shares: dict[str, Counter[int]] = field(default_factory=dict)
    """For each study, its chains by the number of studies that share them."""
    _done_at: dict[str, _Estimate] = field(default_factory=dict)
    _soonest: list[_Estimate] = field(default_factory=list)
    _latest: list[_Estimate] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def add(self, chain: ChainRun) -> None:
        self.chains[chain.name] = chain
        self.lent[chain.study] += 1
        self._join(chain)
        if chain.is_leaving:
            self.leaving.add(chain.name)
        elif chain.state is WorkerState.ARRIVED:
            self.arrived[chain.name] = chain

    def remove(self, chain: ChainRun) -> None:
        del self.chains[chain.name]
        self.arrived.pop(chain.name, None)
        self.leaving.discard(chain.name)
        self.lent[chain.study] -= 1
        self._part(chain)
        done = self._done_at.pop(chain.name, None)
        if done is not None:
            self.total = self.total - done[0] if self._done_at else 0.0

    def lend(self, chain: ChainRun, study: str, studies: tuple[str, ...]) -> None:
        """Another study lends the worker, or others share its cost."""
        self.lent[chain.study] -= 1
        self.lent[study] += 1
        chain.study = study
        self.share(chain, studies)

    def share(self, chain: ChainRun, studies: tuple[str, ...]) -> None:
        if studies != chain.studies:
            self._part(chain)
            chain.studies = studies
            self._join(chain)

    def held(self, study: str) -> float:
        """Workers that train for a study; one that trains for several counts in parts."""
        return sum(number / sharers for sharers, number in self._shares.get(study, {}).items())

    def _join(self, chain: ChainRun) -> None:
        self.parties.setdefault(chain.studies, {})[chain.name] = chain
        for study in chain.studies:
            self._shares.setdefault(study, Counter())[len(chain.studies)] += 1

    def _part(self, chain: ChainRun) -> None:
        party = self.parties[chain.studies]
        del party[chain.name]
        if not party:
            del self.parties[chain.studies]
        for study in chain.studies:
            self._shares[study][len(chain.studies)] -= 1

    # -- estimates ---------------------------------------------------------------------------------

    def expect(self, chain: ChainRun, moment: float) -> None:
        """The longest path that begins with this chain is done at this moment, by estimate."""
        before = self._done_at.get(chain.name)
        done = (moment, before[1] if before is not None else next(self._order), chain.name)
        if done == before:
            return
        self._done_at[chain.name] = done
        self.total += moment - (before[0] if before is not None else 0.0)
        heapq.heappush(self._soonest, done)
        heapq.heappush(self._latest, (-moment, *done[1:]))

    def done_at(self, chain: ChainRun) -> tuple[float, int]:
        """When it is done, and its place among those that are done at once."""
        moment, order, _ = self._done_at[chain.name]
        return moment, order

    def soonest(self) -> ChainRun:
        while self._done_at.get(self._soonest[0][2]) != self._soonest[0]:
            heapq.heappop(self._soonest)
        return self.chains[self._soonest[0][2]]

    def latest_moment(self) -> float:
        while True:
            negative, order, name = self._latest[0]
            if self._done_at.get(name) == (-negative, order, name):
                return -negative
            heapq.heappop(self._latest)
