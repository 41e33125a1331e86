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
from hippo.engine.events import Queued, Tick, WorkerGone, WorkersChanged
from hippo.engine.state import StudyRun
from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.pods.state import PodState, observe
from hippo.kube.reconciler.chain_pods import Chains
from hippo.kube.reconciler.context import (
    LOCK_SECONDS,
    Carryover,
    Changes,
    PlanContext,
    PlanIdentity,
    Tools,
)
from hippo.kube.reconciler.costs import CostRecorder
from hippo.kube.reconciler.engine_pump import EnginePump, PlanThread
from hippo.kube.reconciler.executor import Performer
from hippo.kube.reconciler.launch_gaps import LaunchGaps
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.reconciler.pod_monitor import PodWatch
from hippo.kube.reconciler.polling import (
    LEAST_POLL_SECONDS,
    MAILBOX_SECONDS,
    PollSchedule,
)
from hippo.kube.reconciler.report_intake import ReportIntake
from hippo.kube.reconciler.report_reader import ReportReader
from hippo.kube.reconciler.snapshot import Snapshot
from hippo.kube.reconciler.stalls import StallWatch
from hippo.kube.reconciler.status_writer import StatusWriter
from hippo.kube.reconciler.studies import LiveStudies, count_workers, owners_of
from hippo.kube.reconciler.study_events import StudyEvents
from hippo.kube.reconciler.takeover import adopt, build_engine, check_pods, read_store
from hippo.kube.reconciler.unwanted_chains import UnwantedChains
from hippo.kube.resources import STUDY
from hippo.kube.status.written import StudyStatuses
from hippo.session.inbox import Mailroom
from hippo.session.session import Session
from hippo.store import PlanLock, PlanStore, plan_path

MOST_PROBLEMS = 10
"""Damaged records that are told of when a plan is opened."""


class Reconciler:
    """One plan from :meth:`open` to :meth:`close`. For one task at a time.

    Any method may raise StoreError, ApiError, TakenOver, Reopen or StudyFault: drop the reconciler
    then, and leave out a study at fault.
    """

    engine: Engine
    plan: PlanObject
    chains: Chains
    watch: PodWatch
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
        self._queued: frozenset[str] = frozenset()  # chains, as the engine was told
        place, metrics = identity.place, tools.metrics
        self._gaps = LaunchGaps(lambda gap: metrics.note_gap(*place, gap), tools.clock)

    # -- opening and closing -----------------------------------------------------------------------

    async def open(self, studies: Mapping[str, Accepted], *, eagerly: bool = True) -> None:
        """Take over the plan, and give the engine all there is: results, decisions, live pods.

        ``eagerly``: from an operator of the same identity, which then must be gone.
        """
        store = await self._take_lock(eagerly=eagerly)
        await self._take_object(studies)
        self._carryover.version_skew.apply(self.watch, studies)
        pods = await self.chains.find_recorded()
        # From the server: one that is there but not accepted, or not seen yet, was not deleted.
        there = await self.tools.api.list(STUDY, self.identity.namespace)
        live = {study["metadata"]["uid"] for study in there}
        missed = frozenset(item.uid for item in studies.values() if item.uid not in live)
        studies = {name: item for name, item in studies.items() if item.uid in live}
        session = await self._thread.run(lambda: self._read(store, studies, live))
        await self._build_parts(store, session, studies, missed)
        for item in sorted(studies.values(), key=lambda item: (item.created, item.study.name)):
            await self._live.add(item)
        for problem in session.records.problems[:MOST_PROBLEMS]:
            words = f"{problem}; it is trained again if it is needed"
            self._events.warn(None, names.REASON_NOTICE, words)
        ended = await adopt(self._context, pods, self._carryover.distrusted)
        await self._tell_queued(frozenset(c for c, pod in pods.items() if observe(pod).is_queued))
        await self._tell_workers()
        for report in ended:  # charged already, with all else that the store held
            self._intake.note_ended(report)
            await self._pump.feed(WorkerGone(report.chain, report.outcome, report.error))

    async def _take_lock(self, *, eagerly: bool) -> PlanStore:
        tools, identity = self.tools, self.identity
        store = PlanStore(tools.blobs, plan_path(identity.namespace, identity.signature))
        holder = tools.build_holder(tools.settings.identity, eagerly=eagerly)
        self._lock = PlanLock(store, holder, seconds=LOCK_SECONDS, clock=tools.unix_clock)
        self._thread = PlanThread(self._carryover.executor, self._lock)
        self.plan = PlanObject(tools.api, *identity.place)
        known = await self.plan.read_generation()
        await check_pods(tools.api, identity)  # before anything is written
        held = self._carryover.held
        await asyncio.to_thread(lambda: self._lock.acquire(above=known, own=held))
        held.clear()
        held.add(self._lock.generation)
        return store

    async def _take_object(self, studies: Mapping[str, Accepted]) -> None:
        """Write the lock's generation into the SearchPlan, and read its chains."""
        tools, place = self.tools, self.identity.place
        lead = max(studies.values(), key=lambda item: (item.study.spec.priority, item.created))
        await self.plan.ensure(
            signature=self.identity.signature,
            study=lead.study,
            owners=owners_of(studies),
            generation=self._lock.generation,
        )
        self._owners = {item.uid for item in studies.values()}
        self.chains = Chains(tools.api, self.plan, *place, tools.settings, tools.clock)
        self.watch = PodWatch(*place, self.plan, self.chains, tools.metrics, tools.clock)
        self.stalls = StallWatch(self._locate)

    def _read(self, store: PlanStore, studies: Mapping[str, Accepted], live: set[str]) -> Session:
        session = read_store(
            store,
            self.identity,
            self.plan,
            live,
            may_be_writing=bool(self.chains.records),
            now=self.tools.unix_clock(),
        )
        self.engine = build_engine(
            session, self.tools.settings, generation=self._lock.generation, live=studies
        )
        return session

    async def _build_parts(
        self,
        store: PlanStore,
        session: Session,
        studies: Mapping[str, Accepted],
        missed: frozenset[str],
    ) -> None:
        tools, clock = self.tools, self.tools.clock
        reports = ReportReader(store)
        self._events = StudyEvents(self.studies, tools.tell)
        self._performer = performer = Performer(
            store,
            self.engine,
            self.plan,
            self.chains,
            reports,
            finished=self._finish,
            tell=self._events.warn,
            launched=self._gaps.note_launch,
        )
        self._pump = EnginePump(self.engine, self._thread, performer, clock)
        self._context = context = PlanContext(
            self.identity,
            tools,
            self._lock,
            self._thread,
            self.plan,
            self.chains,
            self.watch,
            reports,
            session,
            self.engine,
            self._pump,
            self._events,
            self.changes,
        )
        self._costs = CostRecorder(session, self.engine, reports, self._lock)
        given = [item.study for item in studies.values()]
        self._mailroom = performer.mailroom = await self._thread.run(
            lambda: Mailroom(store, self.engine, given, clock)
        )
        self._live = LiveStudies(
            context,
            self._mailroom,
            performer.books,
            self._costs,
            studies=self.studies,
            owners=self._owners,
            missed=missed,
            tell_workers=self._tell_workers,
        )
        self._intake = ReportIntake(
            context,
            self._costs,
            self._gaps,
            self._carryover.version_skew,
            studies=self.studies,
            tell_workers=self._tell_workers,
        )
        self._unwanted = UnwantedChains(self.engine, self.chains, clock)

    async def _finish(self, run: StudyRun) -> None:
        await self._live.finish(run)

    def _locate(self, chain: str) -> str:
        pod = self.chains.pod_of(chain)
        return f"in pod {pod}; see kubectl logs -n {self.identity.namespace} {pod} -c trainer"

    async def close(self) -> None:
        """Leave the store tidy, and let others have the plan."""
        await self._costs.note_spending()
        await self._context.reports.fold(all_=True)
        if not self.chains.records and self.chains.is_tidy:
            await asyncio.to_thread(self._context.session.store.remove_fragments)
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
        """Bring everything in line: what is wanted, what has happened, what is to be done.

        ``pods`` may change meanwhile: pods are watched, and some are created here.
        """
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
        """What users want: Studies, Trials, and requests in mailboxes."""
        await self._live.heed(studies)
        self._carryover.version_skew.apply(self.watch, studies)
        await self._live.heed_requests(user_trials)

    async def _feed_reports(self) -> None:
        if self._schedule.may_read(self.tools.clock()):
            await self._intake.take(await self._context.reports.read_news())
            self._schedule.note_read(self.engine, self.tools.clock())
        self._schedule.plan_next(self.engine, self.tools.clock())

    async def _feed_pods(self, pods: Mapping[str, PodState]) -> None:
        """How pods ended, after their last reports; and which wait for room."""
        await self._intake.note_ends(await self.watch.look(self.engine, pods))
        for study, message in self.watch.tell_preempted(pods):
            self._events.warn(study, names.REASON_CHAIN_PREEMPTED, message)
        await self._tell_queued(self.watch.queued)

    async def _feed_time(self) -> None:
        """How many workers there may be, and what time it is."""
        await self._tell_workers()
        if self._performer.wake_at <= self.tools.clock():
            self._performer.wake_at = math.inf
        await self._pump.feed(Tick())

    async def _tidy(self, pods: Mapping[str, PodState]) -> None:
        """What follows from a round beside the engine's commands."""
        await self._unwanted.hurry()
        self._gaps.forget()
        await asyncio.to_thread(self._mailroom.publish)
        if self.chains.forget(self.chains.records.keys() - self.engine.chains.keys()):
            await self.plan.write()
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

    async def _tell_queued(self, chains: frozenset[str]) -> None:
        """Pods of these would begin if there were room."""
        if chains != self._queued:
            self._queued = chains
            await self._pump.feed(Queued(chains))

    async def _tell_workers(self) -> None:
        """As many as active studies may have; none while something forbids to launch."""
        count = 0
        if self.watch.problem is None:
            count = count_workers(self.engine, self.tools.settings)
        await self._pump.feed(WorkersChanged(count))

    # -- statuses ----------------------------------------------------------------------------------

    async def report(self) -> None:
        """Write the statuses of the plan as the round has left it, if they are due. The round is
        not over before.
        """
        snapshot = self._take_snapshot()
        if self._writer.is_due(snapshot, has_changed=self.changes.pending):
            self.changes.pending = False
            await self._writer.write_studies(snapshot)
            status = await self._writer.build_plan_status(snapshot)
            if status != self.plan.status:
                self.plan.status = status
                await self.plan.write()
            self.tools.metrics.update_plan(*self.identity.place, status)
            await self._live.write_trials()
            await self._costs.note_costs(self.studies)
        elif self._live.is_behind:
            await self._live.write_trials()

    def _take_snapshot(self) -> Snapshot:
        return Snapshot(
            namespace=self.identity.namespace,
            name=self.identity.name,
            engine=self.engine,
            studies=dict(self.studies),
            documents=self._context.session.documents,
            plan_status=self.plan.status,
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
        is_behind = self._live.is_behind or self.changes.pending
        return self._has_ended and self.chains.is_tidy and not is_behind

    @property
    def _has_ended(self) -> bool:
        return self.engine.is_finished and not self.plan.status.chains

    # -- between rounds ----------------------------------------------------------------------------

    def pause(self) -> float:
        """Seconds until the next round is due, if nothing happens before."""
        if self._live.is_behind:
            return LEAST_POLL_SECONDS
        now = self.tools.clock()
        moments = [
            now + min(self.tools.settings.resync, LOCK_SECONDS / 4),
            self._performer.wake_at,
        ]
        if self.engine.chains:
            moments.append(self._schedule.next_look)
        if self._live.takes_requests:
            moments.append(now + MAILBOX_SECONDS)
        return max(0.0, min(moments) - now)

    def trial_lost(self, study: str, index: int) -> None:
        """A Trial that the operator made is gone; it is made again."""
        self._live.trial_lost(study, index)

    async def mark_left(self, name: str, uid: str) -> None:
        """A study that is not here belongs to another plan from now on. Raises StoreError."""
        await self._live.mark_left(name, uid)
