"""The running chains: their lenders and sharers, which ones wait, and which one ends first.

Everything is updated incrementally, so that no event takes time proportional to the workers.
``parallelism.py`` decides who may lend how many.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count

from hippo.engine.state import ChainRun
from hippo.lifecycles import WorkerState

_Estimate = tuple[float, int, str]  # (when, order, chain)

MOST_STALE = 16
"""A heap of estimates is rebuilt when it holds this many entries per chain."""


@dataclass(slots=True, eq=False)
class Crew:
    """Chains that one study lends and the same studies want, with their estimated ends."""

    lender: str
    askers: tuple[str, ...]  # empty: unknown
    chains: dict[str, ChainRun] = field(default_factory=dict)
    total: float = 0.0  # sum of their estimated ends
    _done_at: dict[str, _Estimate] = field(default_factory=dict)
    _soonest: list[_Estimate] = field(default_factory=list)
    _latest: list[_Estimate] = field(default_factory=list)

    def add(self, chain: ChainRun, done: _Estimate | None) -> None:
        self.chains[chain.name] = chain
        if done is not None:
            self.expect(done)

    def remove(self, chain: ChainRun) -> None:
        del self.chains[chain.name]
        done = self._done_at.pop(chain.name, None)
        if done is not None:
            self.total = self.total - done[0] if self._done_at else 0.0

    def expect(self, done: _Estimate) -> None:
        before = self._done_at.get(done[2])
        self.total += done[0] - (before[0] if before is not None else 0.0)
        self._done_at[done[2]] = done
        if len(self._soonest) > MOST_STALE * len(self._done_at):  # otherwise it would grow for ever
            self._soonest = sorted(self._done_at.values())
            self._latest = sorted((-moment, n, name) for moment, n, name in self._soonest)
        else:
            heapq.heappush(self._soonest, done)
            heapq.heappush(self._latest, (-done[0], *done[1:]))

    def work(self, now: float) -> float:
        """Returns the estimated seconds of its chains."""
        return self.total - now * len(self._done_at)

    def soonest(self) -> tuple[float, int, ChainRun] | None:
        """Returns (end, order among equal ends, chain) of the chain that ends first, or None."""
        heap = self._soonest
        while heap and self._done_at.get(heap[0][2]) != heap[0]:
            heapq.heappop(heap)
        return (*heap[0][:2], self.chains[heap[0][2]]) if heap else None

    def latest_moment(self) -> float:
        """Returns the last estimated end; minus infinity if there is no estimate."""
        heap = self._latest
        while heap:
            negative, order, name = heap[0]
            if self._done_at.get(name) == (-negative, order, name):
                return -negative
            heapq.heappop(heap)
        return -math.inf


@dataclass(slots=True, eq=False)
class WorkerPool:
    """Chains by name, in the order of their launch or adoption."""

    chains: dict[str, ChainRun] = field(default_factory=dict)
    lent: Counter[str] = field(default_factory=Counter)  # number of chains by lender
    arrived: dict[str, ChainRun] = field(default_factory=dict)  # at the ends of their routes
    leaving: set[str] = field(default_factory=set)  # told to stop
    queued: frozenset[str] = frozenset()  # without resources, as the driver reported last
    leaving_of: Counter[str] = field(default_factory=Counter)  # number of stopping chains by lender
    by_sharers: dict[tuple[str, ...], dict[str, ChainRun]] = field(default_factory=dict)
    """Chains by the studies that share their cost."""
    total: float = 0.0  # sum of their estimated ends
    _shares: dict[str, Counter[int]] = field(default_factory=dict)
    """For each study, its chains by the number of studies that share them."""
    _crews: dict[str, dict[tuple[str, ...], Crew]] = field(default_factory=dict)
    """By lender, and by the studies that want what is left to train."""
    _askers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _done_at: dict[str, _Estimate] = field(default_factory=dict)
    _order: count[int] = field(default_factory=count)

    def add(self, chain: ChainRun) -> None:
        self.chains[chain.name] = chain
        self.lent[chain.study] += 1
        self._join(chain)
        self._enlist(chain)
        if chain.is_leaving:
            self.note_leaving(chain)
        elif chain.state is WorkerState.ARRIVED:
            self.arrived[chain.name] = chain

    def remove(self, chain: ChainRun) -> None:
        """Removes a chain that has ended."""
        del self.chains[chain.name]
        self.arrived.pop(chain.name, None)
        if chain.name in self.leaving:
            self.leaving.discard(chain.name)
            self.leaving_of[chain.study] -= 1
        self.lent[chain.study] -= 1
        self._part(chain)
        self._discharge(chain)
        self._askers.pop(chain.name, None)
        done = self._done_at.pop(chain.name, None)
        if done is not None:
            self.total = self.total - done[0] if self._done_at else 0.0

    def note_leaving(self, chain: ChainRun) -> None:
        """Records that a chain was told to stop. It counts for its lender until it is gone."""
        self.arrived.pop(chain.name, None)
        self.leaving.add(chain.name)
        self.leaving_of[chain.study] += 1

    def note_askers(self, chain: ChainRun, askers: tuple[str, ...]) -> None:
        """Records the studies that want the rest of a chain's work; only used under limits."""
        if askers and askers != self._askers.get(chain.name):
            self._discharge(chain)
            self._askers[chain.name] = askers
            self._enlist(chain)

    def lend(self, chain: ChainRun, study: str, studies: tuple[str, ...]) -> None:
        """Changes the lender of a worker, or the studies that share its cost."""
        if study != chain.study:
            self.lent[chain.study] -= 1
            self.lent[study] += 1
            self._discharge(chain)
            chain.study = study
            self._enlist(chain)
        self.share(chain, studies)

    def share(self, chain: ChainRun, studies: tuple[str, ...]) -> None:
        if studies != chain.studies:
            self._part(chain)
            chain.studies = studies
            self._join(chain)

    def held(self, study: str) -> float:
        """Returns the workers that train for a study; a shared worker counts as a fraction."""
        return sum(number / sharers for sharers, number in self._shares.get(study, {}).items())

    def _join(self, chain: ChainRun) -> None:
        self.by_sharers.setdefault(chain.studies, {})[chain.name] = chain
        for study in chain.studies:
            self._shares.setdefault(study, Counter())[len(chain.studies)] += 1

    def _part(self, chain: ChainRun) -> None:
        chains = self.by_sharers[chain.studies]
        del chains[chain.name]
        if not chains:
            del self.by_sharers[chain.studies]
        for study in chain.studies:
            self._shares[study][len(chain.studies)] -= 1

    # -- crews -------------------------------------------------------------------------------------

    def crews(self, lenders: Iterable[str] | None = None) -> Iterator[Crew]:
        """Iterates over the crews that these studies lend, or all crews."""
        for lender in self._crews if lenders is None else lenders:
            yield from self._crews.get(lender, {}).values()

    def _enlist(self, chain: ChainRun) -> None:
        askers = self._askers.get(chain.name, ())
        crews = self._crews.setdefault(chain.study, {})
        if (crew := crews.get(askers)) is None:
            crew = crews[askers] = Crew(chain.study, askers)
        crew.add(chain, self._done_at.get(chain.name))

    def _discharge(self, chain: ChainRun) -> None:
        askers, crews = self._askers.get(chain.name, ()), self._crews[chain.study]
        crews[askers].remove(chain)
        if not crews[askers].chains:
            del crews[askers]

    # -- estimates ---------------------------------------------------------------------------------

    def expect(self, chain: ChainRun, moment: float) -> None:
        """Records the estimated end of the longest path that begins with this chain."""
        before = self._done_at.get(chain.name)
        done = (moment, before[1] if before is not None else next(self._order), chain.name)
        if done == before:
            return
        self._done_at[chain.name] = done
        self.total += moment - (before[0] if before is not None else 0.0)
        self._crews[chain.study][self._askers.get(chain.name, ())].expect(done)

    def done_at(self, chain: ChainRun) -> tuple[float, int]:
        """Returns its estimated end, and its order among equal ends."""
        moment, order, _ = self._done_at[chain.name]
        return moment, order
