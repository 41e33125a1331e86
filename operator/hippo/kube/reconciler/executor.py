"""Carries out the engine's commands: in order, each durably before the next."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import Any

from hippo.engine import Engine
from hippo.engine.commands import (
    Command,
    DeleteCheckpoint,
    Finish,
    Halt,
    Launch,
    Notify,
    Record,
    Refuse,
    Steer,
    WakeAt,
)
from hippo.engine.events import Event, WorkerGone
from hippo.engine.state import StudyRun
from hippo.kube import names
from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.reconciler.report_reader import ReportReader
from hippo.kube.reconciler.trial_objects import TrialObjects
from hippo.model import Study
from hippo.protocol.assignments import Assignment
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import Outcome, WorkerError
from hippo.session.inbox import Inbox
from hippo.store import PlanStore, StoreError
from hippo.store.concurrency import map_together


class Executor:
    """Of one plan. Any command may raise StoreError, ApiError or TakenOver; none after it is then
    carried out, and the engine that gave them is ahead of what is durable: drop it.
    """

    def __init__(
        self,
        store: PlanStore,
        engine: Engine,
        inbox: Inbox,
        plan: PlanObject,
        chains: ChainPods,
        reports: ReportReader,
        *,
        finished: Callable[[StudyRun], Awaitable[None]],
        tell: Callable[[str | None, str, str], None],
        launched: Callable[[int], None],
    ) -> None:
        """``tell``: study (None: all), reason, message. ``launched``: so many pods were created."""
        self._store = store
        self._engine = engine
        self._inbox = inbox
        self._plan = plan
        self._chains = chains
        self._reports = reports
        self._finished = finished
        self._tell = tell
        self._launched = launched
        self.books: dict[str, TrialObjects] = {}
        """Of live studies; what is decided about others need not be kept."""
        self.wake_at = math.inf
        """When the engine wants to be told the time."""

    async def carry_out(self, commands: list[Command]) -> list[Event]:
        """Neighbours of one kind are carried out together; returns what came of it at once."""
        events: list[Event] = []
        for kind, group in groupby(gathered(commands), key=type):
            alike: list[Any] = list(group)
            if kind is Record:
                await self._record(alike)
            elif kind is Launch:
                events += await self._launch(alike)
            elif kind is Steer:
                await asyncio.to_thread(self._steer, alike)
            elif kind is DeleteCheckpoint:
                await asyncio.to_thread(self._delete, alike)
            else:
                for command in alike:
                    await self._do(command)
        return events

    async def _record(self, commands: list[Record]) -> None:
        by_study: dict[str, list[Decision]] = {}
        for command in commands:
            by_study.setdefault(command.study, []).append(command.decision)
        for study, decisions in by_study.items():
            if study in self.books:
                await self.books[study].write(decisions)

    async def _launch(self, commands: list[Launch]) -> list[Event]:
        # What has ended need not be recorded with them.
        self._chains.forget(self._chains.records.keys() - self._engine.chains.keys())
        wanted: list[tuple[Assignment, Study]] = []
        for command in commands:
            assignment = command.assignment
            if assignment.exactness == "strict" and self._plan.status.fingerprint:
                pinned = dict(self._plan.status.fingerprint)
                assignment = assignment.model_copy(update={"fingerprint": pinned})
            wanted.append((assignment, self._engine.studies[command.study].study))
            self._reports.expect(assignment.chain)
        failed = await self._chains.launch(wanted)
        self._launched(len(wanted) - len(failed))
        self._chains.forget(problem.chain for problem in failed)
        self._reports.ended(problem.chain for problem in failed)
        return [
            WorkerGone(
                problem.chain,
                Outcome.INVALID,
                WorkerError(during="start", message=problem.problem, step=0),
            )
            for problem in failed
        ]

    def _steer(self, commands: list[Steer]) -> None:
        for command in commands:
            self._store.write_control(command.control)

    def _delete(self, commands: list[DeleteCheckpoint]) -> None:
        keys = [command.key for command in commands]
        is_remote = self._store.blobs.is_remote
        for _ in map_together(self._store.delete_checkpoint, keys, is_remote=is_remote):
            pass

    async def _do(self, command: Command) -> None:
        match command:
            case Refuse(study, number, message):
                await asyncio.to_thread(self._inbox.refuse, study, number, message)
            case Finish(name, _, _):
                await self._finished(self._engine.studies[name])
            case Notify(message, name):
                self._tell(name, names.REASON_NOTICE, message)
            case WakeAt(moment):
                self.wake_at = min(moment, self.wake_at)
            case Halt(message):
                raise StoreError(message)
            case _:
                raise TypeError(f"not a command: {command}")


def gathered(commands: list[Command]) -> list[Command]:
    """The same, with launches at the end, and deletions after them, so that a round writes the
    SearchPlan once for all its chains. No command waits for these, but the control of a chain that
    is launched with it.
    """
    found: list[Command] = []
    launches: dict[str, Launch] = {}
    deletions: list[Command] = []
    for command in commands:
        match command:
            case Launch(assignment):
                launches[assignment.chain] = command
            case DeleteCheckpoint():
                deletions.append(command)
            case Steer(control) if control.chain in launches:
                found += [*launches.values(), command]
                launches.clear()
            case _:
                found.append(command)
    return [*found, *launches.values(), *deletions]
