"""Which reports of a plan's running chains were read, and which were not yet."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from hippo.protocol.reports import Began, CheckpointSaved, Ended, MetricsReported, Report
from hippo.store import PlanStore, StoreError
from hippo.store.concurrency import map_together

FOLD_AFTER = 200
"""So many ended chains are folded into the ledger at a time."""


class Pace:
    """How long the stages of a chain take, and how late its reports are seen. In seconds.

    A report says how old its worker was; whichever was seen soonest sets the clock, so the lag of
    the others is told to within that of the best.
    """

    def __init__(self) -> None:
        self._offsets: dict[str, float] = {}
        self._stages: dict[str, float] = {}  # worker's age at its last stage end
        self._trained: dict[str, tuple[int, float]] = {}  # steps, and its age at the last one's end

    def lag(self, report: Report, now: float) -> float:
        offset = now - report.worker_seconds
        best = min(offset, self._offsets.get(report.chain, offset))
        self._offsets[report.chain] = best
        if report.trained > self._trained.get(report.chain, (0, 0.0))[0]:
            self._trained[report.chain] = report.trained, _age_at_step_end(report)
        return offset - best

    def last_step(self, report: Ended) -> float:
        """When the last step of a chain ended that has ended now, by the reader's clock.

        Ask after ``lag`` and before ``stage``. If it has trained nothing: when it ended.
        """
        _, age = self._trained.get(report.chain, (0, report.worker_seconds))
        return self._offsets[report.chain] + age

    def stage(self, report: Report) -> float | None:
        """If it ends a stage: how long that took."""
        if isinstance(report, Ended):
            self._offsets.pop(report.chain, None)
            self._stages.pop(report.chain, None)
            self._trained.pop(report.chain, None)
            return None
        begun = self._stages.get(report.chain)
        if isinstance(report, Began | CheckpointSaved):
            self._stages[report.chain] = report.worker_seconds
        if begun is None or not isinstance(report, CheckpointSaved):
            return None
        return report.worker_seconds - begun


def _age_at_step_end(report: Report) -> float:
    """A worker's age when it ended the step after which it reports."""
    match report:
        case CheckpointSaved():
            return report.worker_seconds - report.copy_seconds
        case MetricsReported():
            return report.worker_seconds - report.evaluate_seconds
        case _:
            return report.worker_seconds


class ReportReader:
    """One LIST for all chains, and one read for each new report. Raises StoreError."""

    def __init__(self, store: PlanStore) -> None:
        self._store = store
        self._read: dict[str, int] = {}  # by running chain, how many of its reports are known
        self._ended: list[str] = []  # not folded yet
        self._folding: asyncio.Task[StoreError | None] | None = None
        self.counted: dict[str, int] = {}
        """Of every chain that was read here, how many reports the engine was told of."""

    def expect(self, chain: str, known: int = 0) -> None:
        """A chain may report from now on; so many of its reports are known."""
        self._read[chain] = self.counted[chain] = known

    async def read_news(self) -> list[Report]:
        """What all chains have reported since; of each in order."""
        if not self._read:
            return []
        news = await asyncio.to_thread(self._store.read_news, dict(self._read))
        for report in news:
            self._note(report)
        return news

    async def read_last(self, chains: Iterable[str]) -> list[Report]:
        """What these chains have reported since."""
        after = {chain: self._read.get(chain, 0) - 1 for chain in chains}

        def read() -> list[Report]:
            found = map_together(
                lambda chain: self._store.read_reports(chain, after[chain]),
                after,
                is_remote=self._store.blobs.is_remote,
            )
            return [report for reports in found for report in reports]

        news = await asyncio.to_thread(read)
        for report in news:
            self._note(report)
        return news

    def _note(self, report: Report) -> None:
        self._read[report.chain] = report.sequence_number + 1

    def taken(self, report: Report) -> None:
        """The engine is told of it: what is noted of spending from now on takes it in."""
        self.counted[report.chain] = report.sequence_number + 1

    def ended(self, chains: Iterable[str]) -> None:
        """Nothing more will come of these."""
        for chain in chains:
            self._read.pop(chain, None)
            self._ended.append(chain)

    async def fold(self) -> None:
        """Move the reports of ended chains into the ledger, many at a time.

        That is thousands of requests, so it goes on beside what follows; what it fails with is
        raised here the next time.
        """
        if self._folding is not None and self._folding.done():
            await self._await_folding()
        if self._folding is None and len(self._ended) >= FOLD_AFTER:
            chains, self._ended = self._ended, []
            self._folding = asyncio.create_task(self._fold(chains), name="fold")

    async def end_folding(self) -> list[str]:
        """Wait for what ``fold`` has begun; returns the ended chains that are not folded yet."""
        await self._await_folding()
        chains, self._ended = self._ended, []
        return chains

    async def _await_folding(self) -> None:
        folding, self._folding = self._folding, None
        if folding is not None and (error := await folding) is not None:
            raise error

    async def _fold(self, chains: list[str]) -> StoreError | None:
        try:
            await asyncio.to_thread(self._store.fold, chains)
        except StoreError as error:
            return error
        return None
