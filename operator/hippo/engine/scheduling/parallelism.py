"""Which study lends each worker, so that no study exceeds its ``parallelism``.

Each worker is lent by one study that wants what it trains: it counts against the parallelism of
that study only. Other studies that want the same share its cost. These invariants hold after every
event:

- A study lends at most ``parallelism`` workers. Stopping workers count until they are gone, so
  their successors start after them.
- The lender of a worker wants something that it has yet to train. When the lender's part is done,
  another study that wants the rest takes over; if none may have another worker, the worker stops.
- If ``parallelism`` is lowered, other studies take over the workers that they want too, and the
  rest beyond the limit is stopped at the end of the step. Until they are gone, the study exceeds
  its limit and gets no worker.

A study at its limit may have another worker if one that it lends can be taken over by a study that
wants the same and is below its limit, or that can pass on one of its own likewise. So a path is
searched through studies that share chains. If there is none, the visited studies form a *closed
group*: all are at their limits, and every worker that trains what one of them wants is lent by one
of them. A path of such a group can only start if a worker of the group stops (``preemption.py``),
and the group's work takes as long as that many workers take (``laxity.py``).

A limit that is not below the number of workers has no effect, and counts as none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from hippo.engine.scheduling.worker_pool import WorkerPool
from hippo.engine.state import ChainRun, StudyRun
from hippo.plan import Claim

Asking = Callable[[Claim, int], tuple[str, ...]]
"""Returns the studies that want anything from a step on, on a chain's route or below its end."""
Group = frozenset[str]


class Lending:
    """The lenders of one plan. Call ``look`` first, then query about that moment, and lend."""

    def __init__(
        self,
        pool: WorkerPool,
        studies: Mapping[str, StudyRun],
        asking: Asking,
        default: int | None,
    ) -> None:
        """``default`` is the limit of studies without one; None means no limit."""
        self._pool = pool
        self._studies = studies
        self._asking = asking
        self._default = default
        self.limits: dict[str, int] = {}
        """Limits of active studies that are below the number of workers, or below what they
        lend."""
        self.workers = 0
        """Workers that all studies may use together."""
        self._moved: dict[str, None] = {}  # chains whose askers are not known yet

    def look(self, workers: int) -> None:
        """Updates limits and the number of workers."""
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
        """Updates lenders after chains moved on or the studies that want their work changed.

        Returns the chains that no study may lend any longer.
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
        """Returns how many more workers a study may have without take-overs of its own."""
        limit = self.limits.get(study)
        return self.workers if limit is None else max(0, limit - self._pool.lent[study])

    def may_have_another(self, study: str, *, without: ChainRun | None = None) -> bool:
        """Whether one more worker would keep all limits, optionally ``without`` a chain."""
        if not self._studies[study].is_active:
            return False
        return self._find_way(study, without)[0] is not None

    def closed_group(self, study: str) -> Group | None:
        """Returns the closed group of a study that may have no other worker; None if it may."""
        way, met = self._find_way(study)
        return met if way is None else None

    def capacity(self, studies: Iterable[str]) -> int:
        """Returns the workers that these studies may have together."""
        return min(self.workers, sum(self.limits.get(study, self.workers) for study in studies))

    def excess(self) -> str | None:
        """Returns a study that exceeds its limit, after take-overs and stops; None without one."""
        for study, limit in self.limits.items():
            while self._staying(study) > limit:
                way, _ = self._find_way(study)
                if way is None:
                    return study
                self._shift(way)
        return None

    # -- lending -----------------------------------------------------------------------------------

    def make_room(self, study: str) -> None:
        """Lets others take over workers, so that the study may have another one."""
        way, _ = self._find_way(study)
        assert way is not None
        self._shift(way)

    def hand_over(self, chain: ChainRun, study: str, studies: tuple[str, ...]) -> None:
        """Makes ``study`` the lender of another study's worker; ``studies`` share its cost."""
        if study != chain.study:
            way, _ = self._find_way(study, chain)
            assert way is not None
            self._shift(way)
        self._pool.lend(chain, study, studies)

    # -- the search --------------------------------------------------------------------------------

    def _find_way(
        self, study: str, without: ChainRun | None = None
    ) -> tuple[list[tuple[ChainRun, str]] | None, Group]:
        """Returns the take-overs (chain, new lender) that bring a study below its limit, or None.

        Also returns the studies visited; if there is no way, they are the closed group.
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
