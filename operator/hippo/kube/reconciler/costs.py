"""Writes the costs of a plan's studies to the store, so that they outlive the operator."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from hippo.engine import Engine
from hippo.engine.state import StudyRun
from hippo.kube.reconciler.report_reader import ReportReader
from hippo.session.session import Session
from hippo.store import PlanLock


class CostRecorder:
    """Every method may raise StoreError and LockLost."""

    def __init__(
        self, session: Session, engine: Engine, reports: ReportReader, lock: PlanLock
    ) -> None:
        self._session = session
        self._engine = engine
        self._reports = reports
        self._lock = lock
        self.has_news = False
        """A report was taken in since spending was noted."""

    async def note_costs(self, live: Collection[str]) -> None:
        """Write what was spent since, and for how long limited studies have run. ``live``: studies
        that were not deleted.
        """
        if self.has_news:
            self.has_news = False
            await self.note_spending()
        for run in self._engine.studies.values():
            limited = run.study.spec.budget.wall_time is not None
            if run.is_active and limited and run.name in live:
                await self.write_study(run)

    async def note_spending(self) -> None:
        """Write what workers have cost, by study."""
        runs = list(self._engine.studies.values())
        counted = dict(self._reports.counted)
        await asyncio.to_thread(
            lambda: self._session.note_spending(
                runs, generation=self._lock.generation, counted=counted
            )
        )

    async def write_study(self, run: StudyRun) -> None:
        """Write a study's record, with the wall time that it has taken."""
        wall = run.wall_before + (self._engine.now - run.started if run.is_active else 0.0)
        await asyncio.to_thread(
            lambda: self._session.write_study(run.study, run, wall_seconds=wall)
        )
