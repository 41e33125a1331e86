"""Which study lends each worker, so that no study has more than its ``parallelism``.

Each worker is lent by one study, which asks for what it trains; others that ask for the same share
its cost and lend nothing. What holds after every event:

- A study lends at most ``parallelism`` workers. Those told to leave count until they are gone, so
  whoever comes in their place comes after them.
- Whoever lends a worker asks for something that it is still to train. When a lender's part is done,
  another that asks takes over; if none of them may have one more, the worker leaves.
- If ``parallelism`` is lowered, workers that others ask for too are taken over by these, and the
  rest beyond the limit is told to leave at the end of the step. Until they are gone the study has
  more than it may, and gets none.

A study at its limit may have another worker if one that it lends can be taken over by a study that
asks for the same and is not at its limit, or that can pass on one of its own likewise. So a way is
searched through studies that share chains. If there is none, all studies that were met form a
*closed group*: all are at their limits, and every worker that trains what one of them asks for is
lent by one of them. A path of such a group can begin only if a worker of the group leaves
(``preemption.py``), and the group's work takes as long as so many workers take (``laxity.py``).

A limit that is not below the number of workers binds nobody, and counts as none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun
from hippo.plan import Claim

Asking = Callable[[Claim, int], tuple[str, ...]]
"""The studies that ask for anything from a step on, on a chain's way or behind it."""
Group = frozenset[str]


class Lending:
    """The lenders of one plan. Call ``look`` first, then ask about that moment, and lend."""

    def __init__(
        self,
        pool: WorkerPool,
        studies: Mapping[str, StudyRun],
        asking: Asking,
        default: int | None,
    ) -> None:
        """``default``: the limit of studies that do not say; None: there is none."""
        self._pool = pool
        self._studies = studies
        self._asking = asking
        self._default = default
        self.limits: dict[str, int] = {}
        """Limits of active studies that are below the number of workers, or what they lend."""
        self.workers = 0
        """How many workers limits let all studies use together."""
        self._moved: dict[str, None] = {}  # chains whose askers are not known yet

    def look(self, workers: int) -> None:
        """Heed limits as they are now."""
        limits = {
            name: run.study.spec.parallelism or self._default
            for name, run in self._studies.items()
            if run.is_active
        }
        had_none = not self.limits
        lent = self._pool.lent
        self.limits = {
            name: limit
            for name, limit in limits.items()
            if limit is not None and (limit < workers or limit < lent[name])
        }
        self.workers = workers
        self.workers = self.capacity(limits)
        if self.limits and had_none:
            self._moved = dict.fromkeys(self._pool.chains)

    def settle(self, moved: Iterable[Claim]) -> list[ChainRun]:
        """Heed chains that have moved on, or of which something else is wanted than before.

        Returns those that no study may lend any longer.
        """
        names = [*self._moved, *sorted(claim.name for claim in moved)] if self.limits else ()
        self._moved = {}
        chains, lost = self._pool.chains, []
        for chain in [chains[name] for name in dict.fromkeys(names) if name in chains]:
            askers = self._asking(chain.claim, chain.step)
            self._pool.note_askers(chain, askers)
            if askers and chain.study not in askers and not chain.is_leaving:
                study = next((study for study in askers if self.may_have_another(study)), None)
                if study is None:
                    lost.append(chain)
                else:
                    self.make_room(study)
                    self._pool.lend(chain, study, chain.studies)
        return lost

    # -- questions ---------------------------------------------------------------------------------

    def room(self, study: str) -> int:
        """How many more workers a study may have, if nobody takes over one of its own."""
        limit = self.limits.get(study)
        return self.workers if limit is None else max(0, limit - self._pool.lent[study])

    def may_have_another(self, study: str, *, without: ChainRun | None = None) -> bool:
        """Whether one more worker would be within all limits; or would be, were a chain gone."""
        if not self._studies[study].is_active:
            return False
        return self._find_way(study, without)[0] is not None

    def closed_group(self, study: str) -> Group | None:
        """The closed group of a study that may have no other worker; None if it may."""
        way, met = self._find_way(study)
        return met if way is None else None

    def capacity(self, studies: Iterable[str]) -> int:
        """How many workers these studies may have together."""
        return min(self.workers, sum(self.limits.get(study, self.workers) for study in studies))

    def excess(self) -> str | None:
        """A study with more workers than it may have that stay, and that nobody can take over."""
        for study, limit in self.limits.items():
            while self._staying(study) > limit:
                way, _ = self._find_way(study)
                if way is None:
                    return study
                self._shift(way)
        return None

    # -- lending -----------------------------------------------------------------------------------

    def make_room(self, study: str) -> None:
        """Have others take over what they must, so that the study may have another worker."""
        way, _ = self._find_way(study)
        assert way is not None
        self._shift(way)

    def hand_over(self, chain: ChainRun, study: str, studies: tuple[str, ...]) -> None:
        """A study lends a worker from now on that another has lent; ``studies`` share its cost."""
        if study != chain.study:
            way, _ = self._find_way(study, chain)
            assert way is not None
            self._shift(way)
        self._pool.lend(chain, study, studies)

    # -- the search --------------------------------------------------------------------------------

    def _find_way(
        self, study: str, without: ChainRun | None = None
    ) -> tuple[list[tuple[ChainRun, str]] | None, Group]:
        """Which chains are to be taken over by whom, so that a study is below its limit.

        And the studies that were met; if there is no way, they are the closed group.
        """
        came: dict[str, tuple[str, ChainRun] | None] = {study: None}
        queue = [study]
        for at in queue:
            if self._has_room(at, without):
                way = []
                while (step := came[at]) is not None:
                    way.append((step[1], at))
                    at = step[0]
                return way, frozenset(came)
            for crew in self._pool.crews((at,)):
                new = [s for s in crew.askers if s not in came and self._studies[s].is_active]
                staying = (chain for chain in crew.chains.values() if not chain.is_leaving)
                if new and (chain := next(staying, None)) is not None:
                    came |= dict.fromkeys(new, (at, chain))
                    queue += new
        return None, frozenset(came)

    def _has_room(self, study: str, without: ChainRun | None) -> bool:
        limit, lent = self.limits.get(study), self._pool.lent[study]
        if without is not None and study == without.study:
            lent -= 1
        return limit is None or lent < limit

    def _staying(self, study: str) -> int:
        return self._pool.lent[study] - self._pool.leaving_of[study]

    def _shift(self, way: list[tuple[ChainRun, str]]) -> None:
        for chain, study in way:
            self._pool.lend(chain, study, chain.studies)
