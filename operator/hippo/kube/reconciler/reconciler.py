"""The driver of one plan: reads what is wanted and what has happened, feeds the engine, and has its
commands carried out.

Nothing it keeps is needed again. Decisions are in Trials and in the store, results in the store,
launched chains in the SearchPlan: whoever opens the plan again goes on from there, with the pods
that are at work. After any failure half-way the driver is therefore dropped and opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

from pydantic import ValidationError

from hippo.engine import Engine
from hippo.engine.commands import Command
from hippo.engine.events import (
    Adopted,
    Event,
    Queued,
    Reported,
    StudyAdded,
    StudyChanged,
    StudyRemoved,
    Tick,
    WorkerGone,
    WorkersChanged,
)
from hippo.engine.options import EngineOptions
from hippo.engine.reopening import Advice
from hippo.engine.state import StudyRun
from hippo.gc import delete_study
from hippo.kube import names
from hippo.kube.client import POD, STUDY, TRIAL, Api, ApiError
from hippo.kube.controller.store_gc import forget_missing
from hippo.kube.manifests import owner
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.state import GONE, Cause, PodState, observe, outcome
from hippo.kube.reconciler.chain_pods import Chains
from hippo.kube.reconciler.executor import Performer
from hippo.kube.reconciler.plan_object import NewerPod, PlanObject, TakenOver
from hippo.kube.reconciler.pod_monitor import PodWatch
from hippo.kube.reconciler.report_reader import Pace, ReportReader
from hippo.kube.reconciler.stalls import StallWatch
from hippo.kube.reconciler.trial_objects import DecisionBook
from hippo.kube.reconciler.user_trials import UserTrials
from hippo.kube.reconciler.version_skew import VersionSkew
from hippo.kube.serial_executor import NoThread, SerialExecutor
from hippo.kube.settings import Settings, build_holder
from hippo.lifecycles import InvariantViolated, StudyFault, blame
from hippo.model import External, InvalidSpec, Study, editable_changes
from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION, Assignment
from hippo.protocol.reports import Began, CheckpointSaved, Ended, Outcome, Report, WorkerError
from hippo.session.charges import chain_prefix
from hippo.session.inbox import Mailroom
from hippo.session.session import Session
from hippo.store import (
    RESTORE,
    STALE_SECONDS,
    Blobs,
    LockLost,
    NewerFormat,
    PlanLock,
    PlanStore,
    StoreError,
    Unreadable,
    plan_path,
    reading,
)
from hippo.store.encoding import decode

T = TypeVar("T")

LOCK_SECONDS = 60.0
LINGER_SECONDS = 5.0
"""How long a worker waits at its end for another route: longer than it takes to notice."""
WORKER_POLL_SECONDS = 0.5
RETRY_SECONDS = 5.0
"""Before the first retry of a failed chain."""
LEAST_POLL_SECONDS, MOST_POLL_SECONDS = 0.25, 5.0
"""Between two looks at the reports of running chains."""
ANSWER_POLL_SECONDS = 0.1
LATE_SHARE = 0.25
"""The same while a chain that stands still is to answer, or to leave."""
POLL_SECONDS_PER_CHAIN = 0.001
"""In any case, if there are so many of them: a look lists all reports that are not folded yet."""
LONGEST_ROUTE = 1000
"""Saves and evaluations of a chain at once: its assignment is to fit into an annotation."""
REPORTS_AT_ONCE = 100
"""That the engine is told of before anything that comes of them is done."""
MOST_PROBLEMS = 10
"""Damaged records that are told of when a plan is opened."""
MAILBOX_SECONDS = 1.0
"""Between two looks at what external studies are asked for."""


ADVICE = Advice(
    again="apply it",
    retry=f"set the annotation {names.ANNOTATION_RETRY} to a new value",
    metric="delete the study, mend spec.objective.metric and create it again: results are reused",
)
"""What users of a cluster do to let a study go on."""

CANNOT_BE = (ValueError, LookupError, InvariantViolated)
"""What the engine raises for records that no worker and no operator writes in good faith."""


class Reopen(Exception):
    """Discard this driver and reopen the plan from durable state."""


NOT_A_STUDYS_FAULT = (StoreError, ApiError, LockLost, TakenOver, Reopen, NoThread)
"""Errors that no single study causes, whichever one is being served."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A study of the cluster that is valid."""

    study: Study
    uid: str
    generation: int
    created: str  # RFC 3339
    document: Mapping[str, Any]  # its object
    retry: str | None = None  # the value of the annotation that tries failed trials again


@dataclass(frozen=True, slots=True)
class Tools:
    """What the drivers of all plans share."""

    api: Api
    blobs: Blobs
    settings: Settings
    metrics: Metrics
    tell: Callable[[Mapping[str, Any], str, str, bool], None]
    """Post an Event: object, reason, message, whether it is a warning."""
    clock: Callable[[], float] = time.monotonic


@dataclass(eq=False)
class PlanDriver:
    """One plan from :meth:`open` to :meth:`close`. For one task at a time.

    Any method may raise StoreError, ApiError, TakenOver, Reopen or StudyFault: drop the driver
    then, and leave out a study at fault.
    """

    namespace: str
    name: str
    document: dict[str, Any]  # of the signature
    signature: str
    tools: Tools
    distrusted: set[str] = field(default_factory=set)
    """Chains whose reports contradict what they are to do. Outlives the driver."""
    held: set[int] = field(default_factory=set)
    """The lock's generation that the last driver held. Outlives the driver."""
    version_skew: VersionSkew = field(default_factory=VersionSkew)
    """Outlives the driver."""
    executor: SerialExecutor = field(default_factory=lambda: SerialExecutor("plan"))
    """Does what takes processor time. Outlives the driver."""
    engine: Engine = field(init=False)
    session: Session = field(init=False)
    plan: PlanObject = field(init=False)
    chains: Chains = field(init=False)
    watch: PodWatch = field(init=False)
    stalls: StallWatch = field(init=False)
    _unwanted_since: dict[str, float] = field(init=False, default_factory=dict)  # by chain
    studies: dict[str, Accepted] = field(init=False, default_factory=dict)
    reopened: dict[str, str] = field(init=False, default_factory=dict)
    """Studies that had ended and go on, and with what."""
    inexact: set[str] = field(init=False, default_factory=set)
    """Studies of which a step was trained twice with different results."""
    is_changed: bool = field(init=False, default=True)
    """Something that a person waits for has happened: statuses are due."""
    is_behind: bool = field(init=False, default=False)
    """Statuses of Trials are still to be written."""
    _lock: PlanLock = field(init=False)
    _reports: ReportReader = field(init=False)
    _performer: Performer = field(init=False)
    _mailroom: Mailroom = field(init=False)
    _books: dict[str, DecisionBook] = field(init=False)  # the performer's
    _user_trials: dict[str, UserTrials] = field(init=False, default_factory=dict)
    _pace: Pace = field(init=False, default_factory=Pace)
    _has_news: bool = field(init=False, default=False)  # since spending was noted
    _poll_at: float = field(init=False, default=0.0)
    _rest_until: float = field(init=False, default=-math.inf)  # no look at reports before
    _free_since: list[float] = field(init=False, default_factory=list)
    """When chains that ended in this round trained last, and nothing was launched since."""
    _owners: set[str] = field(init=False, default_factory=set)
    _failure: tuple[str, str] | None = field(init=False, default=None)
    """The chain whose failure the engine is told of, and the message: what it says of that goes
    into the same Event."""
    _is_told: bool = field(init=False, default=False)  # it has said something
    _queued: frozenset[str] = field(init=False, default=frozenset())  # as the engine was told
    _missed: frozenset[str] = field(init=False, default=frozenset())
    """UIDs of studies that were gone when the plan was opened; the watch has not told of it."""

    # -- opening and closing -----------------------------------------------------------------------

    async def open(self, studies: Mapping[str, Accepted], *, eagerly: bool = True) -> None:
        """Take over the plan, and give the engine all there is: results, decisions, live pods.

        ``eagerly``: from an operator of the same identity, which then must be gone.
        """
        store = PlanStore(self.tools.blobs, plan_path(self.namespace, self.signature))
        holder = build_holder(self.tools.settings.identity, eagerly=eagerly)
        self._lock = PlanLock(store, holder, seconds=LOCK_SECONDS)
        self.plan = PlanObject(self.tools.api, self.namespace, self.name)
        known = await self.plan.read_generation()
        await self._check_pods()  # before anything is written
        await asyncio.to_thread(lambda: self._lock.acquire(above=known, own=self.held))
        self.held.clear()
        self.held.add(self._lock.generation)
        lead = max(studies.values(), key=lambda item: (item.study.spec.priority, item.created))
        await self.plan.ensure(
            signature=self.signature,
            study=lead.study,
            owners=_owners_of(studies),
            generation=self._lock.generation,
        )
        self._owners = {item.uid for item in studies.values()}
        place = (self.namespace, self.name)
        self.chains = Chains(self.tools.api, self.plan, *place, self.tools.settings)
        self.watch = PodWatch(*place, self.plan, self.chains, self.tools.metrics)
        self._apply_version_skew(studies)
        self.stalls = StallWatch(self._locate)
        self._reports = ReportReader(store)
        pods = await self.chains.find_recorded()
        # From the server: one that is there but not accepted, or not seen yet, was not deleted.
        there = await self.tools.api.list(STUDY, self.namespace)
        live = {study["metadata"]["uid"] for study in there}
        self._missed = frozenset(item.uid for item in studies.values() if item.uid not in live)
        studies = {name: item for name, item in studies.items() if item.uid in live}
        await self._work(lambda: self._read_store(store, studies, live))
        self._performer = performer = Performer(
            store,
            self.engine,
            self.plan,
            self.chains,
            self._reports,
            finished=self._finish,
            tell=self._tell,
            launched=self._note_launch,
        )
        self._books = performer.books
        given = [item.study for item in studies.values()]
        self._mailroom = performer.mailroom = await self._work(
            lambda: Mailroom(store, self.engine, given, self.tools.clock)
        )
        for item in sorted(studies.values(), key=lambda item: (item.created, item.study.name)):
            await self._add(item, more_follow=True)
        for problem in self.session.records.problems[:MOST_PROBLEMS]:
            self._tell(None, names.REASON_NOTICE, f"{problem}; it is trained again if it is needed")
        ended = await self._adopt(pods)
        await self._note_queued(frozenset(c for c, pod in pods.items() if observe(pod).is_queued))
        await self._feed(WorkersChanged(self._count_workers()))
        for report in ended:  # charged already, with all else that the store held
            self._note_ended(report)
            await self._feed(WorkerGone(report.chain, report.outcome, report.error))

    async def _check_pods(self) -> None:
        """Raises NewerPod if one at work does what this operator cannot read."""
        selector = f"{names.LABEL_PLAN}={self.name}"
        for pod in await self.tools.api.list(POD, self.namespace, labels=selector):
            _check_pod(pod)

    def _read_store(
        self, store: PlanStore, studies: Mapping[str, Accepted], live: Collection[str]
    ) -> None:
        with reading(f"plan {store.plan}"):
            self.session = session = Session.open(store, self.document)
        for key in session.records.orphans - self._being_written(session):
            store.delete_checkpoint(key)
        with contextlib.suppress(StoreError):  # a right that nothing else needs
            store.blobs.clean(older_than_seconds=STALE_SECONDS)
        forget_missing(store, session.documents, live)
        if not self.plan.status.fingerprint and session.records.manifests:
            first = next(iter(session.records.manifests.values()))
            self.plan.status.fingerprint = dict(first.fingerprint)
        self.engine = Engine(
            session.build_plan(),
            EngineOptions(
                chain_prefix=chain_prefix(self._lock.generation),
                linger=LINGER_SECONDS,
                poll=WORKER_POLL_SECONDS,
                default_parallelism=self.tools.settings.default_parallelism,
                window=self.tools.settings.window,
                longest_route=LONGEST_ROUTE,
                keeps_foreign=True,
                retry_pause=RETRY_SECONDS,
                outlasts_store=True,
                advice=ADVICE,
            ),
            costs=session.build_costs(),
            kept=session.kept_by_others(set(studies)),
        )

    def _being_written(self, session: Session) -> frozenset[str]:
        """Data whose manifest a live worker may be about to write."""
        return session.records.orphans if self.chains.records else frozenset()

    async def _adopt(self, pods: Mapping[str, Mapping[str, Any]]) -> list[Ended]:
        """Take up the chains that were launched before; returns how some have ended meanwhile."""
        ended: list[Ended] = []
        records = self.chains.records
        self._reports.ended(sorted(self.session.records.unfolded - records.keys()))
        for chain, record in list(records.items()):
            told = self.session.records.reports.get(chain, [])
            pod = pods.get(chain)
            if pod is not None:
                _check_pod(pod)
            found = _read_assignment(pod) if pod is not None else None
            assignment = found if isinstance(found, Assignment) else None
            askers = (record.study, *(assignment.studies if assignment is not None else ()))
            lender = next((name for name in askers if name in self.engine.studies), None)
            is_broken = chain in self.session.records.broken or chain in self.distrusted
            if assignment is None or lender is None or is_broken:
                if is_broken:  # what it does cannot be followed: others go on from what it saved
                    await self.chains.remove(chain, grace_seconds=0)
                elif pod is not None:
                    await self.chains.remove(chain)
                elif not told and not await asyncio.to_thread(self.session.store.bar, chain):
                    raise Reopen  # its pod has come meanwhile
                self.chains.forget([chain])  # what it has left is in the store
                self._reports.ended([chain] if told else [])
                continue
            try:
                control = await asyncio.to_thread(self.session.store.read_control, chain)
            except Unreadable:  # what it was told last is not known
                self.distrusted.add(chain)
                raise Reopen from None
            alive = tuple(report for report in told if not isinstance(report, Ended))
            try:
                await self._feed(Adopted(assignment, lender, control, alive, more_follow=True))
            except CANNOT_BE:
                self.distrusted.add(chain)
                raise Reopen from None
            self._reports.expect(chain, len(told))
            if told and isinstance(told[-1], Ended):
                ended.append(told[-1])
        return ended

    async def close(self) -> None:
        """Leave the store tidy, and let others have the plan."""
        await self._note_spending()
        await self._reports.fold(all_=True)
        if not self.chains.records and self.chains.is_tidy:
            await asyncio.to_thread(self.session.store.remove_fragments)
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
        await self._heed_studies(studies)
        self._apply_version_skew(studies)
        await self._heed_requests(user_trials)
        if self.tools.clock() >= self._rest_until:
            await self._take(await self._reports.read_news())
            self._rest_until = self.tools.clock() + POLL_SECONDS_PER_CHAIN * len(self.engine.chains)
        self._poll_at = max(self._rest_until, self.tools.clock() + self._estimate_poll())
        seen = dict(pods)
        await self._note_ends(await self.watch.look(self.engine, seen))
        for study, message in self.watch.tell_preempted(seen):
            self._tell(study, names.REASON_CHAIN_PREEMPTED, message)
        await self._note_queued(self.watch.queued)
        await self._feed(WorkersChanged(self._count_workers()))
        if self._performer.wake_at <= self.tools.clock():
            self._performer.wake_at = math.inf
        await self._feed(Tick())
        await self._hurry()
        self._free_since.clear()  # there was nothing to launch
        await asyncio.to_thread(self._mailroom.publish)
        if self.chains.forget(self.chains.records.keys() - self.engine.chains.keys()):
            await self.plan.write()
            self.is_changed |= self._has_ended
        self.is_changed |= self.stalls.look(
            self.engine,
            running=self.watch.running,
            now=self.tools.clock(),
            unix_now=time.time(),
        )
        self.is_changed |= self.watch.is_changed
        self.watch.is_changed = False
        await self.chains.tidy(seen)
        await self._reports.fold()

    @property
    def is_done(self) -> bool:
        """Every study has ended and says so, and neither chains nor pods at work are left."""
        return self._has_ended and self.chains.is_tidy and not self.is_behind

    @property
    def _has_ended(self) -> bool:
        return self.engine.is_finished and not self.plan.status.chains

    def pause(self) -> float:
        """Seconds until the next round is due, if nothing happens before."""
        if self.is_behind:
            return LEAST_POLL_SECONDS
        now = self.tools.clock()
        moments = [
            now + min(self.tools.settings.resync, LOCK_SECONDS / 4),
            self._performer.wake_at,
        ]
        if self.engine.chains:
            moments.append(self._poll_at)
        if any(self.engine.studies[name].is_active for name in self._user_trials):
            moments.append(now + MAILBOX_SECONDS)
        return max(0.0, min(moments) - now)

    def _count_workers(self) -> int:
        """As many as active studies may have; none while something forbids to launch."""
        if self.watch.problem is not None:
            return 0
        settings = self.tools.settings
        wanted = sum(
            run.study.spec.parallelism or settings.default_parallelism
            for run in self.engine.studies.values()
            if run.is_active
        )
        return min(wanted, settings.max_workers)

    def _estimate_poll(self) -> float:
        """Seconds until a running chain is to report next, by estimate.

        One that is late is looked for the less often the later it is.
        """
        engine, now = self.engine, self.tools.clock()
        soonest = MOST_POLL_SECONDS
        for chain in engine.chains.values():
            if chain.begun and (chain.is_leaving or chain.pending is not None):
                return ANSWER_POLL_SECONDS
            if not chain.begun or not engine.costs.is_known:
                soonest = min(soonest, 1.0)
                continue
            ahead = [s for s in chain.claim.saves() if s > chain.step]
            steps = min(ahead, default=chain.step) - chain.step
            due = chain.step_time + steps * engine.costs.mean_step
            soonest = min(soonest, due - now if due > now else LATE_SHARE * (now - due))
        return max(LEAST_POLL_SECONDS, soonest)

    # -- studies -----------------------------------------------------------------------------------

    async def _heed_studies(self, wanted: Mapping[str, Accepted]) -> None:
        wanted = {name: item for name, item in wanted.items() if item.uid not in self._missed}
        for name in sorted(self.studies.keys() - wanted.keys()):
            await self._remove(name)
        for name, item in wanted.items():
            with blame(name, *NOT_A_STUDYS_FAULT):
                await self._heed_study(item)
        owners = {item.uid for item in self.studies.values()}
        if owners != self._owners and owners:
            await self.plan.set_owners(_owners_of(self.studies))
            self._owners = owners

    async def _heed_study(self, item: Accepted) -> None:
        name = item.study.name
        known = self.studies.get(name)
        if known is None:
            if name in self.engine.studies or isinstance(item.study.spec.algorithm, External):
                raise Reopen
            await self._add(item, more_follow=True)
            await self._feed(WorkersChanged(self._count_workers()))  # with those that it brings
        elif known.uid != item.uid:
            raise Reopen
        elif known.study.spec != item.study.spec:
            item = await self._change(known, item)
        if self._is_to_retry(item):
            raise Reopen  # from all that is durable, as after an end
        self.studies[name] = item

    async def _add(self, item: Accepted, *, more_follow: bool = False) -> None:
        with blame(item.study.name, *NOT_A_STUDYS_FAULT):
            try:
                await self._admit(item, more_follow=more_follow)
            except Unreadable as error:
                raise StudyFault(item.study.name, str(error)) from error
        self.is_changed = True

    async def _admit(self, item: Accepted, *, more_follow: bool) -> None:
        """Raises Unreadable if the study's own records are damaged, or contradict each other."""
        study, session = item.study, self.session
        if study.name in self._mailroom.damaged:
            raise Unreadable(self._mailroom.damaged[study.name])
        try:
            event = await self._work(lambda: session.admit(study, uid=item.uid))
        except InvalidSpec as error:  # the cluster lets nobody change it, so the store was
            reason = str(error).splitlines()[0]
            raise Unreadable(
                f"what the store holds is another study: {reason}: {RESTORE}"
            ) from None
        book = DecisionBook(self.tools.api, session.store, event.study, item.uid)
        decisions = await book.recover()
        if study.name not in session.documents:
            await asyncio.to_thread(lambda: session.write_study(event.study, None, uid=item.uid))
        event = await self._reconsider(item, book, replace(event, decisions=decisions))
        self._books[study.name] = book
        self.studies[study.name] = item
        if isinstance(study.spec.algorithm, External):
            made = f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}"
            there = await self.tools.api.list(TRIAL, self.namespace, labels=made)
            live = {trial["metadata"]["uid"] for trial in there}
            self._user_trials[study.name] = await self._work(
                lambda: UserTrials(session.store, study, book, live)
            )
        try:
            await self._feed(replace(event, more_follow=more_follow))
        except CANNOT_BE as error:
            if not event.decisions:
                raise
            reason = " ".join(str(error).split())
            raise Unreadable(f"its decisions cannot be followed: {reason}: {RESTORE}") from error

    async def _reconsider(
        self, item: Accepted, book: DecisionBook, event: StudyAdded
    ) -> StudyAdded:
        """A study that has ended goes on if its limits allow it now; failed trials are tried again
        if somebody asks.
        """
        study, session, is_to_retry = item.study, self.session, self._is_to_retry(item)
        verdict = await self._work(
            lambda: session.reconsider(
                event, study, decisions=event.decisions, retry=is_to_retry, advice=ADVICE
            )
        )
        retried = item.retry if is_to_retry else None
        if verdict is not None and verdict.goes_on:
            await asyncio.to_thread(self._lock.renew)
            await book.write(verdict.decisions)
            self.reopened[study.name] = verdict.why
            decisions = (*event.decisions, *verdict.decisions)
            return await asyncio.to_thread(
                lambda: session.reopen(event, study, decisions, retried=retried)
            )
        if retried is not None:
            await asyncio.to_thread(session.note_retried, study.name, retried)
        if verdict is not None and event.ended is not None and self._is_new(item):
            message = f"it stays as it ended: {verdict.why}"
            self.tools.tell(item.document, names.REASON_NOTICE, message, True)
        return event

    def _is_to_retry(self, item: Accepted) -> bool:
        """Whether its failed trials are to be tried again: once for each value that is set."""
        known = self.session.documents.get(item.study.name, {})
        return item.retry is not None and item.retry != known.get("retried")

    @staticmethod
    def _is_new(item: Accepted) -> bool:
        """Whether a study was edited since its status was written."""
        status = item.document.get("status") or {}
        return bool(status.get("observedGeneration") != item.generation)

    async def _change(self, known: Accepted, item: Accepted) -> Accepted:
        """What may change takes effect; after anything else the study goes on as it was."""
        try:
            changed = editable_changes(known.study, item.study)
        except InvalidSpec as error:
            self._tell(item.study.name, names.REASON_IMMUTABLE, str(error))
            return replace(item, study=known.study)
        if changed and self.engine.studies[item.study.name].state.is_final:
            raise Reopen  # it may go on now
        if changed:
            await asyncio.to_thread(self._lock.renew)  # who was overtaken knows an older study
            await asyncio.to_thread(self.session.rewrite_study, item.study)
            await self._feed(StudyChanged(item.study))
            self.is_changed = True
        return item

    async def _remove(self, name: str) -> None:
        """A study was deleted: what it retains stays for its ttl, and others go on."""
        del self.studies[name]
        self._books.pop(name, None)
        self._user_trials.pop(name, None)
        await self._feed(StudyRemoved(name))
        store = self.session.store
        await asyncio.to_thread(delete_study, store, name, now=time.time())
        self.session.documents[name] = await asyncio.to_thread(store.read_study, name)
        self.tools.metrics.forget_study(self.namespace, name)
        self.is_changed = True

    async def mark_left(self, name: str, uid: str) -> None:
        """A study that is not here belongs to another plan from now on. Raises StoreError."""
        store = self.session.store
        document = self.session.documents.get(name)
        if document is not None and document.get("uid") == uid:
            await asyncio.to_thread(delete_study, store, name, now=time.time())
            self.session.documents[name] = await asyncio.to_thread(store.read_study, name)

    async def _heed_requests(self, objects: Mapping[str, Mapping[str, Any]]) -> None:
        for name, trials in self._user_trials.items():
            own = {key: doc for key, doc in objects.items() if doc["spec"].get("study") == name}
            with blame(name, *NOT_A_STUDYS_FAULT):
                await self._work(partial(trials.post, own))
        for request in await asyncio.to_thread(self._mailroom.collect):
            await self._feed(request)

    def trial_lost(self, study: str, index: int) -> None:
        """A Trial that the operator made is gone; it is made again."""
        if study in self._books:
            self._books[study].lost(index)

    async def write_trials(self) -> None:
        """Bring Trials and their statuses up to date, some at a time."""
        self.is_behind = False
        for name, book in self._books.items():
            with blame(name, *NOT_A_STUDYS_FAULT):
                await self._write_trials(name, book)

    async def _write_trials(self, name: str, book: DecisionBook) -> None:
        run = self.engine.studies[name]
        if name in self._user_trials:
            trials = self._user_trials[name]
            await asyncio.to_thread(trials.read_refusals)
            await trials.write_refusals(self.tools.api)
        await book.restore()
        self.is_behind |= not await book.write_statuses(run)

    # -- chains ------------------------------------------------------------------------------------

    async def _take(self, reports: Sequence[Report]) -> None:
        """Tell the engine what workers have reported: of many together, so that what comes of it is
        written together.
        """
        for start in range(0, len(reports), REPORTS_AT_ONCE):
            batch = reports[start : start + REPORTS_AT_ONCE]
            for report in batch:
                await self._note(report)
            try:
                await self._feed(*(Reported(report) for report in batch))
            except CANNOT_BE as error:  # whose report it was is found out when it is opened again
                reason = " ".join(str(error).split())
                raise StoreError(f"a worker reports what cannot be: {reason}") from error

    async def _note(self, report: Report) -> None:
        self._has_news = True
        place, metrics = (self.namespace, self.name), self.tools.metrics
        metrics.note_report(*place, report, self._pace.lag(report, self.tools.clock()))
        if isinstance(report, Ended):
            self._free_since.append(self._pace.last_step(report))
        if (seconds := self._pace.stage(report)) is not None:
            metrics.note_stage(*place, seconds)
        if isinstance(report, Began):
            await self._note_kind(report)
        if isinstance(report, CheckpointSaved) and report.differs:
            chain = self.engine.chains.get(report.chain)
            self.inexact.update(chain.studies if chain is not None else ())
            self.is_changed = True
        if isinstance(report, Ended):
            self._note_ended(report)
        self._reports.taken(report)

    def _note_ended(self, report: Ended) -> None:
        self._has_news = True
        self._note_over(report.chain, report.outcome, None)
        chain = self.engine.chains.get(report.chain)
        if chain is not None and report.outcome is Outcome.PREEMPTED:
            self.watch.note_preempted(report.chain, chain.study)

    async def _note_kind(self, report: Began) -> None:
        """The first worker pins the plan. One of another kind that was launched before that was
        known goes at once: no other could take what it saves.
        """
        pinned, own = self.plan.status.fingerprint, report.fingerprint
        chain = self.engine.chains.get(report.chain)
        if not pinned:
            self.plan.status.fingerprint = dict(own)
        if not pinned or chain is None or all(own[n] == pinned[n] for n in own.keys() & pinned):
            return
        if self.engine.studies[chain.study].study.spec.trainer.exactness == "strict":
            await self.chains.remove(report.chain, grace_seconds=0)

    async def _note_ends(self, over: Sequence[tuple[str, PodState | None]]) -> None:
        """Pods are over. Their last reports were written before they ended; of whom no end is among
        them, the pod tells how it ended.
        """
        if over:
            await self._take(await self._reports.read_last([chain for chain, _ in over]))
        for chain, state in over:
            await self._note_end(chain, state)

    async def _note_end(self, chain: str, state: PodState | None) -> None:
        running = self.engine.chains.get(chain)
        if running is None:
            return
        state = state or GONE
        if state.cause is Cause.INCOMPATIBLE:
            if not running.begun:
                return await self._note_version_skew(chain, state)
            words = f"the trainer ended with exit status {state.exit_code}"  # Hippo did fit
            state = replace(state, cause=Cause.TRAINER_ERROR, message=words)
        how, cause = outcome(state), str(state.cause)
        if running.is_leaving and not running.begun and how is Outcome.PREEMPTED:
            how = Outcome.STOPPED  # by the engine, which needs it no more or has no room for it
        message = state.message or "the pod ended"
        error = WorkerError(during="step", message=message, step=running.step)
        self._note_over(chain, how, cause)
        self._free_since.append(self.tools.clock())  # nobody knows when it trained last
        if running.is_leaving or how is Outcome.PREEMPTED:
            if not running.is_leaving:
                self._tell(running.study, names.REASON_CHAIN_PREEMPTED, f"{chain}: {message}")
            await self._feed(WorkerGone(chain, how, error))
            return
        self._failure, self._is_told = (chain, message), False
        await self._feed(WorkerGone(chain, how, error))
        self._failure = None
        if not self._is_told:
            self._tell(running.study, names.REASON_CHAIN_FAILED, f"{chain}: {message}")

    async def _note_version_skew(self, chain: str, state: PodState) -> None:
        """As if it had not been launched; no other is, before it is looked at by a person."""
        self._note_over(chain, outcome(state), str(state.cause))
        self.version_skew.note(state.message, self.studies)
        if not self.plan.status.fingerprint:  # of no worker: the tag may be another image's soon
            self.plan.status.image_id = None
        self._apply_version_skew(self.studies)
        await self._feed(WorkersChanged(self._count_workers()))
        await self._feed(WorkerGone(chain, Outcome.STOPPED, None))

    def _apply_version_skew(self, studies: Mapping[str, Accepted]) -> None:
        """Nothing is launched while the image is known not to fit."""
        problem = self.watch.problem
        if self.version_skew.clear_if_changed(studies) and problem is not None:
            self.watch.problem = None if problem[0] == names.REASON_IMAGE_UNFIT else problem
        if self.version_skew.message is not None and self.watch.problem is None:
            self.watch.problem = (names.REASON_IMAGE_UNFIT, self.version_skew.message)
            self.watch.is_changed = True

    async def _note_queued(self, chains: frozenset[str]) -> None:
        """Pods of these would begin if there were room."""
        if chains != self._queued:
            self._queued = chains
            await self._feed(Queued(chains))

    def _note_over(self, chain: str, how: Outcome, cause: str | None) -> None:
        self._reports.ended([chain])
        self.tools.metrics.note_chain_end(self.namespace, self.name, how, cause)

    async def _hurry(self) -> None:
        """Whoever nobody wants any more has its grace to leave, and then its kubelet's."""
        now, engine = self.tools.clock(), self.engine
        for chain in engine.chains.values():
            if any(engine.studies[name].is_active for name in chain.studies):
                self._unwanted_since.pop(chain.name, None)
                continue
            since = self._unwanted_since.setdefault(chain.name, now)
            if now - since > engine.studies[chain.study].study.spec.trainer.max_grace_seconds:
                self._unwanted_since[chain.name] = math.inf  # once
                await self.chains.remove(chain.name)
        for name in self._unwanted_since.keys() - engine.chains.keys():
            del self._unwanted_since[name]

    def _locate(self, chain: str) -> str:
        pod = self.chains.pod_of(chain)
        return f"in pod {pod}; see kubectl logs -n {self.namespace} {pod} -c trainer"

    def _note_launch(self, pods: int) -> None:
        """Each takes the place of the one that has been gone for longest."""
        self._free_since.sort()
        for since in self._free_since[:pods]:
            gap = max(0.0, self.tools.clock() - since)
            self.tools.metrics.note_gap(self.namespace, self.name, gap)
        del self._free_since[:pods]

    # -- the engine --------------------------------------------------------------------------------

    async def _feed(self, *events: Event) -> None:
        waiting: Sequence[Event] = events
        while waiting:
            commands = await self._work(partial(self._handle, waiting))
            waiting = await self._performer.carry_out(commands)

    async def _work(self, call: Callable[[], T]) -> T:
        """In the plan's own thread; however long that takes, the lock is kept."""
        return await self.executor.run_long(call, self._keep_lock)

    async def _keep_lock(self) -> None:
        await asyncio.to_thread(self._lock.renew_if_due)

    def _handle(self, events: Sequence[Event]) -> list[Command]:
        now = self.tools.clock()
        return [command for event in events for command in self.engine.handle(event, now)]

    async def _finish(self, run: StudyRun) -> None:
        await self._note_spending()
        await asyncio.to_thread(self._mailroom.publish)  # whoever sees the end finds all answers
        if run.name in self.studies:
            await asyncio.to_thread(self._lock.renew)
            await asyncio.to_thread(self._write_study, run)
        self.is_changed = True

    def _write_study(self, run: StudyRun) -> None:
        wall = run.wall_before + (self.engine.now - run.started if run.is_active else 0.0)
        self.session.write_study(run.study, run, wall_seconds=wall)

    async def note_costs(self) -> None:
        """So that what was spent outlives the operator."""
        if self._has_news:
            self._has_news = False
            await self._note_spending()
        for run in self.engine.studies.values():
            limited = run.study.spec.budget.wall_time is not None
            if run.is_active and limited and run.name in self.studies:
                await asyncio.to_thread(self._write_study, run)

    async def _note_spending(self) -> None:
        runs = list(self.engine.studies.values())
        counted = dict(self._reports.counted)
        await asyncio.to_thread(
            lambda: self.session.note_spending(
                runs, generation=self._lock.generation, counted=counted
            )
        )

    def _tell(self, study: str | None, reason: str, message: str) -> None:
        """A warning to those who look at a study; None: at any."""
        if reason == names.REASON_NOTICE and self._failure is not None:
            chain, failure = self._failure
            if message.startswith(failure):
                reason, message = names.REASON_CHAIN_FAILED, f"{chain}: {message}"
                self._is_told = True
        for name in [study] if study is not None else list(self.studies):
            if name in self.studies:
                self.tools.tell(self.studies[name].document, reason, message, True)


def _read_assignment(pod: Mapping[str, Any]) -> Assignment | NewerFormat | None:
    """The assignment that a pod was launched with; None if it is missing or damaged. Returns, not
    raises, NewerFormat if a newer Hippo launched it: by its format, or by fields not known here.
    """
    text = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_ASSIGNMENT, "")
    what, newest = "the assignment", TIMED_ASSIGNMENT_VERSION
    try:
        return decode(Assignment.model_validate_json, text.encode(), what, newest=newest)
    except NewerFormat as error:
        return error
    except Unreadable as error:
        return NewerFormat(what, newest, newest) if _has_more(error.__context__) else None


def _has_more(error: BaseException | None) -> bool:
    """Whether a record was refused for a field that is not known."""
    known = error.errors(include_url=False) if isinstance(error, ValidationError) else []
    return any(item["type"] == "extra_forbidden" for item in known)


def _check_pod(pod: Mapping[str, Any]) -> None:
    """Raises NewerPod for a pod at work that a newer Hippo launched: it is not ours to end. What
    one that has ended did is in the store.
    """
    if isinstance(_read_assignment(pod), NewerFormat) and not observe(pod).is_finished:
        raise NewerPod(str(pod["metadata"]["name"]))


def _owners_of(studies: Mapping[str, Accepted]) -> list[dict[str, Any]]:
    return [
        owner("Study", item.study.name, item.uid)
        for item in sorted(studies.values(), key=lambda item: item.study.name)
    ]
