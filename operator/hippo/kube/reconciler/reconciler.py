"""Reconciles one plan: observes what is wanted and what has happened, feeds the engine, has its
commands executed, and writes statuses.

Nothing it keeps is needed again. Decisions are in Trials and in the store, results in the store,
launched chains in the SearchPlan: whoever opens the plan again goes on from there, with the pods
that are at work. After any failure half-way the reconciler is therefore dropped, and the plan
opened anew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from hippo.engine import Engine
from hippo.engine.events import Tick
from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.pods.state import PodState
from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.context import LOCK_SECONDS, Carryover, Changes, PlanIdentity, Tools
from hippo.kube.reconciler.opening import Opening
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.reconciler.pod_monitor import PodMonitor
from hippo.kube.reconciler.polling import LEAST_POLL_SECONDS, MAILBOX_SECONDS, PollSchedule
from hippo.kube.reconciler.snapshot import Snapshot
from hippo.kube.reconciler.stalls import StallWatch
from hippo.kube.reconciler.status_writer import StatusWriter
from hippo.kube.reconciler.unwanted_chains import UnwantedChains
from hippo.kube.status.written import StudyStatuses


class Reconciler:
    """One plan from :meth:`open` to :meth:`close`. For one task at a time.

    Any method may raise StoreError, ApiError, TakenOver, Reopen or StudyFault: drop the reconciler
    then, and leave out a study at fault.
    """

    engine: Engine
    plan_object: PlanObject
    chains: ChainPods
    watch: PodMonitor
    stalls: StallWatch

    def __init__(
        self,
        identity: PlanIdentity,
        tools: Tools,
        statuses: StudyStatuses,
        carryover: Carryover | None = None,
    ) -> None:
        self.identity = identity
        self.tools = tools
        self.studies: dict[str, Accepted] = {}  # live ones, by name
        self.changes = Changes()
        self._carryover = carryover or Carryover()
        self._writer = StatusWriter(tools, self._carryover.executor, statuses)
        self._schedule = PollSchedule()

    # -- opening and closing -----------------------------------------------------------------------

    async def open(self, studies: Mapping[str, Accepted], *, eagerly: bool = True) -> None:
        """Take over the plan, and give the engine all there is: results, decisions, live pods.

        ``eagerly``: from an operator of the same identity, which then must be gone.
        """
        opening = Opening(
            self.identity,
            self.tools,
            self._carryover,
            studies=self.studies,
            changes=self.changes,
            eagerly=eagerly,
        )
        self._lock = opening.lock
        parts = await opening.open(studies)
        context = self._context = parts.context
        self.engine, self.plan_object = context.engine, context.plan_object
        self.chains, self.watch = context.chains, context.watch
        self.stalls = StallWatch(self._locate)
        self._executor, self._capacity = parts.executor, parts.capacity
        self._live, self._intake, self._gaps = parts.live, parts.intake, parts.gaps
        self._unwanted = UnwantedChains(self.engine, self.chains, self.tools.clock)

    def _locate(self, chain: str) -> str:
        pod = self.chains.pod_of(chain)
        return f"in pod {pod}; see kubectl logs -n {self.identity.namespace} {pod} -c trainer"

    async def close(self) -> None:
        """Leave the store tidy, and let others have the plan."""
        plan, reports = self._context.plan, self._context.reports
        await asyncio.to_thread(plan.note_charges, dict(reports.counted))
        ended = await reports.end_folding()
        is_idle = not self.chains.records and self.chains.is_tidy
        await asyncio.to_thread(lambda: plan.close(ended, is_idle=is_idle))
        await self.release()

    async def release(self) -> None:
        """Let others have the plan; harmless if they have it already. Raises StoreError."""
        await asyncio.to_thread(self._lock.release)

    # -- one round ---------------------------------------------------------------------------------

    async def reconcile(
        self,
        studies: Mapping[str, Accepted],
        pods: Mapping[str, PodState],
        user_trials: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """One round: bring everything in line, and then write statuses.

        ``pods`` may change meanwhile: pods are watched, and some are created here.
        """
        await self.advance(studies, pods, user_trials)
        await self.report()

    async def advance(
        self,
        studies: Mapping[str, Accepted],
        pods: Mapping[str, PodState],
        user_trials: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Tell the engine what is wanted and what has happened, and execute what follows."""
        await asyncio.to_thread(self._lock.renew_if_due)
        await self._feed_wishes(studies, user_trials)
        await self._feed_reports()
        seen = dict(pods)
        await self._feed_pods(seen)
        await self._feed_time()
        await self._tidy(seen)

    async def _feed_wishes(
        self,
        studies: Mapping[str, Accepted],
        user_trials: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Tell the engine what users want: by Studies, Trials, and requests in mailboxes."""
        await self._live.heed(studies)
        self._carryover.version_skew.apply(self.watch, studies)
        await self._live.heed_requests(user_trials)

    async def _feed_reports(self) -> None:
        """Tell the engine what workers have reported."""
        if self._schedule.may_read(self.tools.clock()):
            await self._intake.take(await self._context.reports.read_news())
            self._schedule.note_read(self.engine, self.tools.clock())
        self._schedule.plan_next(self.engine, self.tools.clock())

    async def _feed_pods(self, pods: Mapping[str, PodState]) -> None:
        """Tell the engine how pods ended, after their last reports; and which wait for room."""
        await self._intake.note_ends(await self.watch.look(self.engine, pods))
        for study, message in self.watch.tell_preempted(pods):
            self._context.events.warn(study, names.REASON_CHAIN_PREEMPTED, message)
        await self._capacity.tell_queued(self.watch.queued)

    async def _feed_time(self) -> None:
        """Tell the engine how many workers there may be, and what time it is."""
        await self._capacity.tell_workers()
        if self._executor.wake_at <= self.tools.clock():
            self._executor.wake_at = math.inf
        await self._context.pump.feed(Tick())

    async def _tidy(self, pods: Mapping[str, PodState]) -> None:
        """Do what follows from a round beside the engine's commands."""
        await self._unwanted.hurry()
        self._gaps.forget()
        await asyncio.to_thread(self._context.plan.inbox.publish)
        if self.chains.forget(self.chains.records.keys() - self.engine.chains.keys()):
            await self.plan_object.write()
            self.changes.pending |= self._has_ended
        self.changes.pending |= self.stalls.look(
            self.engine,
            running=self.watch.running,
            now=self.tools.clock(),
            unix_now=self.tools.unix_clock(),
        )
        self.changes.pending |= self.watch.is_changed
        self.watch.is_changed = False
        await self.chains.tidy(pods)
        await self._context.reports.fold()

    # -- statuses ----------------------------------------------------------------------------------

    async def report(self) -> None:
        """Write the statuses of the plan as the round has left it, if they are due: those of Trials
        first, and that a study has ended last. Whoever sees the end may rely on all else.
        """
        snapshot = self._take_snapshot()
        is_due = self._writer.is_due(snapshot, has_changed=self.changes.pending)
        if is_due or self._live.behind:
            await self._live.write_trials()
        if is_due or self._writer.held_back - self._live.behind:
            self.changes.pending = False
            status = await self._writer.build_plan_status(snapshot)
            if status != self.plan_object.status:
                self.plan_object.status = status
                await self.plan_object.write()
            self.tools.metrics.update_plan(*self.identity.place, status)
            await self._writer.write_studies(snapshot, behind=self._live.behind)
            counted = dict(self._context.reports.counted)
            await asyncio.to_thread(self._context.plan.note_costs, counted, list(self.studies))

    def _take_snapshot(self) -> Snapshot:
        return Snapshot(
            name=self.identity.name,
            engine=self.engine,
            studies=dict(self.studies),
            documents=self._context.session.documents,
            plan_status=self.plan_object.status,
            reopened=self._live.reopened,
            inexact=frozenset(self._intake.inexact),
            problem=self.watch.problem,
            waiting=self.watch.waiting,
            queued=self.watch.queued,
            stalls=tuple(self.stalls.found.values()),
        )

    @property
    def is_done(self) -> bool:
        """Every study has ended and says so, and neither chains nor pods at work are left."""
        is_written = not self._live.behind and not self.changes.pending
        return self._has_ended and self.chains.is_tidy and is_written

    @property
    def _has_ended(self) -> bool:
        return self.engine.is_finished and not self.plan_object.status.chains

    # -- between rounds ----------------------------------------------------------------------------

    def pause(self) -> float:
        """Seconds until the next round is due, if nothing happens before."""
        if self._live.behind:
            return LEAST_POLL_SECONDS
        now = self.tools.clock()
        moments = [
            now + min(self.tools.settings.resync, LOCK_SECONDS / 4),
            self._executor.wake_at,
        ]
        if self.engine.chains:
            moments.append(self._schedule.next_look)
        if self._live.takes_requests:
            moments.append(now + MAILBOX_SECONDS)
        return max(0.0, min(moments) - now)

    def trial_lost(self, study: str, index: int, document: Mapping[str, Any]) -> None:
        """A Trial that the operator made is gone, as it was last; it is made again."""
        self._live.trial_lost(study, index, document)

    async def mark_left(self, name: str, uid: str) -> None:
        """A study that is not here belongs to another plan from now on. Raises StoreError."""
        await self._live.mark_left(name, uid)
