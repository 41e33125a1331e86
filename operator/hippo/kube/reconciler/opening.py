"""Opens a plan: takes its lock and its SearchPlan, reads the store, and builds the parts of its
reconciler with all that is durable in them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from hippo.engine.events import WorkerGone
from hippo.engine.options import EngineOptions
from hippo.engine.state import StudyRun
from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.pods.state import observe
from hippo.kube.reconciler.capacity import Capacity
from hippo.kube.reconciler.chain_pods import ChainPods
from hippo.kube.reconciler.context import (
    ADVICE,
    LINGER_SECONDS,
    LOCK_SECONDS,
    LONGEST_ROUTE,
    RETRY_SECONDS,
    WORKER_POLL_SECONDS,
    Carryover,
    Changes,
    PlanContext,
    PlanIdentity,
    Tools,
)
from hippo.kube.reconciler.engine_pump import EnginePump, PlanThread
from hippo.kube.reconciler.executor import Executor
from hippo.kube.reconciler.launch_gaps import LaunchGaps
from hippo.kube.reconciler.plan_object import PlanObject
from hippo.kube.reconciler.pod_monitor import PodMonitor
from hippo.kube.reconciler.report_intake import ReportIntake
from hippo.kube.reconciler.report_reader import ReportReader
from hippo.kube.reconciler.studies import LiveStudies, owners_of
from hippo.kube.reconciler.study_events import StudyEvents
from hippo.kube.reconciler.takeover import adopt, check_pods
from hippo.kube.resources import STUDY
from hippo.kube.settings import Settings
from hippo.model import Study
from hippo.session.open_plan import OpenPlan
from hippo.session.session import Session
from hippo.store import PlanLock, PlanStore, plan_path

MOST_PROBLEMS = 10
"""Damaged records that are told of when a plan is opened."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of an open plan's reconciler."""

    context: PlanContext
    executor: Executor
    gaps: LaunchGaps
    capacity: Capacity
    live: LiveStudies
    intake: ReportIntake


class Opening:
    """Opens one plan. Whatever comes of it, ``lock`` is to be released."""

    def __init__(
        self,
        identity: PlanIdentity,
        tools: Tools,
        carryover: Carryover,
        *,
        studies: dict[str, Accepted],
        changes: Changes,
        eagerly: bool,
    ) -> None:
        """``studies`` is to be filled with live ones. ``eagerly``: from an operator of the same
        identity, which then must be gone.
        """
        self._identity = identity
        self._tools = tools
        self._carryover = carryover
        self._studies = studies
        self._changes = changes
        self._store = PlanStore(tools.blobs, plan_path(identity.namespace, identity.signature))
        holder = tools.build_holder(tools.settings.identity, eagerly=eagerly)
        self.lock = PlanLock(self._store, holder, seconds=LOCK_SECONDS, clock=tools.unix_clock)
        self._thread = PlanThread(carryover.executor, self.lock)
        self._plan_object = PlanObject(tools.api, *identity.place)

    async def open(self, studies: Mapping[str, Accepted]) -> Parts:
        """Take over the plan, and give the engine all there is: results, decisions, live pods."""
        tools, identity = self._tools, self._identity
        await self._take_lock()
        await self._take_object(studies)
        place = identity.place
        chains = ChainPods(tools.api, self._plan_object, *place, tools.settings, tools.clock)
        watch = PodMonitor(*place, self._plan_object, chains, tools.metrics, tools.clock)
        self._carryover.version_skew.apply(watch, studies)
        pods = await chains.find_recorded()
        # From the server: one that is there but not accepted, or not seen yet, was not deleted.
        there = await tools.api.list(STUDY, identity.namespace)
        live = {study["metadata"]["uid"] for study in there}
        wanted = {name: item for name, item in studies.items() if item.uid in live}
        specs = [item.study for item in wanted.values()]
        may_write = bool(chains.records)
        plan = await self._thread.run(lambda: self._open_plan(specs, live, keeps_orphans=may_write))
        parts = self._build(plan, chains, watch, wanted.keys(), given=studies)
        for item in sorted(wanted.values(), key=lambda item: (item.created, item.study.name)):
            await parts.live.add(item)
        for problem in plan.session.records.problems[:MOST_PROBLEMS]:
            words = f"{problem}; it is trained again if it is needed"
            parts.context.events.warn(None, names.REASON_NOTICE, words)
        ended = await adopt(parts.context, pods, self._carryover.distrusted)
        queued = frozenset(chain for chain, pod in pods.items() if observe(pod).is_queued)
        await parts.capacity.tell_queued(queued)
        await parts.capacity.tell_workers()
        for report in ended:  # charged already, with all else that the store held
            parts.intake.note_ended(report)
            gone = WorkerGone(report.chain, report.outcome, report.error)
            await parts.context.pump.feed(gone)
        return parts

    async def _take_lock(self) -> None:
        known = await self._plan_object.read_generation()
        await check_pods(self._tools.api, self._identity)  # before anything is written
        held = self._carryover.held
        await asyncio.to_thread(lambda: self.lock.acquire(above=known, own=held))
        held.clear()
        held.add(self.lock.generation)

    async def _take_object(self, studies: Mapping[str, Accepted]) -> None:
        """Write the lock's generation into the SearchPlan, and read its chains."""
        lead = max(studies.values(), key=lambda item: (item.study.spec.priority, item.created))
        await self._plan_object.ensure(
            signature=self._identity.signature,
            study=lead.study,
            owners=owners_of(studies),
            generation=self.lock.generation,
        )

    def _open_plan(
        self, studies: Iterable[Study], live: Collection[str], *, keeps_orphans: bool
    ) -> OpenPlan:
        return OpenPlan.open(
            self._store,
            self.lock,
            self._identity.document,
            studies,
            _build_options(self._tools.settings),
            clock=self._tools.clock,
            on_read=self._pin_fingerprint,
            unix_clock=self._tools.unix_clock,
            keeps_orphans=keeps_orphans,
            live=live,
        )

    def _pin_fingerprint(self, session: Session) -> None:
        """Let the SearchPlan tell on which kind of machine the plan was trained so far."""
        status, manifests = self._plan_object.status, session.records.manifests
        if not status.fingerprint and manifests:
            status.fingerprint = dict(next(iter(manifests.values())).fingerprint)

    def _build(
        self,
        plan: OpenPlan,
        chains: ChainPods,
        watch: PodMonitor,
        there: Collection[str],
        *,
        given: Mapping[str, Accepted],
    ) -> Parts:
        """``there`` names those of the ``given`` studies that exist."""
        tools, place = self._tools, self._identity.place
        reports = ReportReader(self._store)
        events = StudyEvents(self._studies, tools.tell)
        gaps = LaunchGaps(lambda gap: tools.metrics.note_gap(*place, gap), tools.clock)

        async def finish(run: StudyRun) -> None:
            await live.finish(run)

        executor = Executor(
            self._store,
            plan.engine,
            plan.inbox,
            self._plan_object,
            chains,
            reports,
            finished=finish,
            tell=events.warn,
            launched=gaps.note_launch,
        )
        context = PlanContext(
            self._identity,
            tools,
            plan,
            self._thread,
            self._plan_object,
            chains,
            watch,
            reports,
            EnginePump(plan.engine, self._thread, executor, tools.clock),
            events,
            self._changes,
        )
        capacity = Capacity(plan.engine, context.pump, watch, tools.settings)
        live = LiveStudies(
            context,
            executor.books,
            studies=self._studies,
            owners={item.uid for item in given.values()},
            missed=frozenset(item.uid for name, item in given.items() if name not in there),
            tell_workers=capacity.tell_workers,
        )
        intake = ReportIntake(
            context,
            gaps,
            self._carryover.version_skew,
            studies=self._studies,
            tell_workers=capacity.tell_workers,
        )
        return Parts(context, executor, gaps, capacity, live, intake)


def _build_options(settings: Settings) -> EngineOptions:
    return EngineOptions(
        linger=LINGER_SECONDS,
        poll=WORKER_POLL_SECONDS,
        default_parallelism=settings.default_parallelism,
        window=settings.window,
        longest_route=LONGEST_ROUTE,
        keeps_foreign=True,
        retry_pause=RETRY_SECONDS,
        outlasts_store=True,
        advice=ADVICE,
    )
