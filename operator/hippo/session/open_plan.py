"""A plan of the store while a driver works on it: its lock, records, engine, inbox and charges.

Every driver opens and closes its plan here. All methods block on the store, so a driver with an
event loop calls them from a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from hippo.engine import Engine
from hippo.engine.events import StudyAdded
from hippo.engine.options import EngineOptions
from hippo.engine.state import StudyRun
from hippo.gc import forget_missing
from hippo.model import Study
from hippo.session.charges import chain_prefix
from hippo.session.inbox import Inbox
from hippo.session.session import Session
from hippo.store import STALE_SECONDS, PlanLock, PlanStore, StoreError, Unreadable, reading


@dataclass(slots=True)
class OpenPlan:
    """A plan whose lock this process holds. It keeps no state that reopening the plan needs.

    ``counted``, of several methods: the number of reports of each chain that the engine has
    received. Every method may raise StoreError, or its subclass LockLost if another process has
    taken the lock.
    """

    lock: PlanLock
    session: Session
    engine: Engine
    inbox: Inbox
    not_cleaned: str | None = None  # why unfinished writes of killed writers remain
    has_news: bool = False  # reports have been read since charges were recorded

    @classmethod
    def open(
        cls,
        store: PlanStore,
        lock: PlanLock,
        document: dict[str, Any],
        studies: Iterable[Study],
        options: EngineOptions,
        *,
        clock: Callable[[], float],
        on_read: Callable[[Session], None],
        unix_clock: Callable[[], float] = time.time,
        keeps_orphans: bool = False,
        live: Collection[str] | None = None,
    ) -> OpenPlan:
        """Read the plan, whose ``lock`` is held, and build an engine with its results.

        ``document``: the plan's signature document. ``studies``: those that this run will admit;
        checkpoints that others retain are kept. ``options``: their chain prefix is replaced by one
        after the lock's generation. ``clock``: monotonic seconds. ``on_read``: called with the
        records, before anything is removed. ``keeps_orphans``: set it if live workers may be about
        to write the manifests of data that has none. ``live``: uids of all studies in the cluster;
        a plan's other studies were deleted. None if there is no cluster.
        """
        studies = list(studies)
        with reading(f"plan {store.plan}"):
            session = Session.open(store, document, unix_clock)
        on_read(session)
        if not keeps_orphans:
            for key in session.records.orphans:
                store.delete_checkpoint(key)
        not_cleaned = None
        try:
            store.blobs.clean(older_than_seconds=STALE_SECONDS)
        except StoreError as error:  # cleaning needs a right that nothing else needs
            not_cleaned = str(error)
        if live is not None:
            forget_missing(store, session.documents, live, now=unix_clock())
        engine = Engine(
            session.build_plan(),
            replace(options, chain_prefix=chain_prefix(lock.generation)),
            costs=session.build_costs(),
            kept=session.kept_by_others({study.name for study in studies}),
        )
        inbox = Inbox(store, engine, studies, clock)
        return cls(lock, session, engine, inbox, not_cleaned)

    @property
    def store(self) -> PlanStore:
        return self.session.store

    def admit(self, study: Study, *, uid: str | None = None) -> StudyAdded:
        """Return a study as stored; ``uid`` and errors as in :meth:`Session.admit`. Raises
        Unreadable also if the study's requests or answers are damaged.
        """
        if study.name in self.inbox.damaged:
            raise Unreadable(self.inbox.damaged[study.name])
        return self.session.admit(study, uid=uid)

    def write_study(self, run: StudyRun) -> None:
        """Record a study's state, and for how long it has been active."""
        active = self.engine.now - run.started if run.is_active else 0.0
        self.session.write_study(run.study, run, wall_seconds=run.wall_before + active)

    def note_charges(self, counted: Mapping[str, int]) -> None:
        """Record what every study was charged so far."""
        self.session.note_spending(
            list(self.engine.studies.values()),
            generation=self.lock.generation,
            counted=dict(counted),
        )

    def note_costs(self, counted: Mapping[str, int], studies: Iterable[str]) -> None:
        """Record what a killed process would otherwise lose: charges, if there is news, and the
        wall time of active ``studies`` that have a budget of it.
        """
        if self.has_news:
            self.has_news = False
            self.note_charges(counted)
        for name in studies:
            run = self.engine.studies[name]
            if run.is_active and run.study.spec.budget.wall_time is not None:
                self.write_study(run)

    def settle(self, counted: Mapping[str, int]) -> None:
        """Record charges and publish answers. Call it before a study's end is written, so that
        readers of the end find both.
        """
        self.note_charges(counted)
        self.inbox.publish()

    def close(self, ended: Iterable[str], *, is_idle: bool) -> None:
        """Clean up in the store, after all else is noted; the lock stays held.

        ``ended``: chains whose reports may be folded into the ledger. ``is_idle``: no worker is
        left that may write.
        """
        self.store.fold(ended)
        if is_idle:
            self.store.remove_fragments()
