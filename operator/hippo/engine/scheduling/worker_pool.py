"""The running chains: who lends and shares their workers, which wait, and which is done first.

All of it is kept up to date as chains come, change and go, so that no event costs in proportion to
the number of workers. Who may lend how many is for ``parallelism.py`` to say.
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
    """Chains that one study lends and the same studies ask for; and when they are done."""

    lender: str
    askers: tuple[str, ...]  # empty: not known
    chains: dict[str, ChainRun] = field(default_factory=dict)
    total: float = 0.0  # of the moments at which each is done, by estimate
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
        if len(self._soonest) > MOST_STALE * len(self._done_at):  # or it would grow for ever
            self._soonest = sorted(self._done_at.values())
            self._latest = sorted((-moment, n, name) for moment, n, name in self._soonest)
        else:
            heapq.heappush(self._soonest, done)
            heapq.heappush(self._latest, (-done[0], *done[1:]))

    def work(self, now: float) -> float:
        """Seconds that its chains take, by estimate."""
        return self.total - now * len(self._done_at)

    def soonest(self) -> tuple[float, int, ChainRun] | None:
        """The chain that is done first: when, its place among those done at once, and it."""
        heap = self._soonest
        while heap and self._done_at.get(heap[0][2]) != heap[0]:
            heapq.heappop(heap)
        return (*heap[0][:2], self.chains[heap[0][2]]) if heap else None

    def latest_moment(self) -> float:
        """When the last is done; minus infinity if no estimate was made yet."""
        heap = self._latest
        while heap:
            negative, order, name = heap[0]
            if self._done_at.get(name) == (-negative, order, name):
                return -negative
            heapq.heappop(heap)
        return -math.inf


@dataclass(slots=True, eq=False)
class WorkerPool:
    """Chains by name, in the order in which they came."""

    chains: dict[str, ChainRun] = field(default_factory=dict)
    lent: Counter[str] = field(default_factory=Counter)  # chains by the study that lends the worker
    arrived: dict[str, ChainRun] = field(default_factory=dict)  # at the ends of their routes
    leaving: set[str] = field(default_factory=set)  # told to stop
    queued: frozenset[str] = frozenset()  # that the driver has no room for yet, as it told last
    leaving_of: Counter[str] = field(default_factory=Counter)  # these, by the study that lends
    by_sharers: dict[tuple[str, ...], dict[str, ChainRun]] = field(default_factory=dict)
    """Chains by the studies that share their cost."""
    total: float = 0.0  # of the moments at which each is done, by estimate
    _shares: dict[str, Counter[int]] = field(default_factory=dict)
    """For each study, its chains by the number of studies that share them."""
    _crews: dict[str, dict[tuple[str, ...], Crew]] = field(default_factory=dict)
    """By the study that lends, and those that ask for what is still to be trained."""
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
        """It has ended."""
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
        """It has been told to stop. It counts for its lender until it is gone."""
        self.arrived.pop(chain.name, None)
        self.leaving.add(chain.name)
        self.leaving_of[chain.study] += 1

    def note_askers(self, chain: ChainRun, askers: tuple[str, ...]) -> None:
        """These studies ask for what it is still to train; kept up to date where limits bind."""
        if askers and askers != self._askers.get(chain.name):
            self._discharge(chain)
            self._askers[chain.name] = askers
            self._enlist(chain)

    def lend(self, chain: ChainRun, study: str, studies: tuple[str, ...]) -> None:
        """Another study lends the worker, or others share its cost."""
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
        """Workers that train for a study; one that trains for several counts in parts."""
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
        """The crews that these studies lend, or all crews."""
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
        """The longest path that begins with this chain is done at this moment, by estimate."""
        before = self._done_at.get(chain.name)
        done = (moment, before[1] if before is not None else next(self._order), chain.name)
        if done == before:
            return
        self._done_at[chain.name] = done
        self.total += moment - (before[0] if before is not None else 0.0)
        self._crews[chain.study][self._askers.get(chain.name, ())].expect(done)

    def done_at(self, chain: ChainRun) -> tuple[float, int]:
        """When it is done, and its place among those that are done at once."""
        moment, order, _ = self._done_at[chain.name]
        return moment, order
