"""The driver of one plan: reads what is wanted and what has happened, feeds the engine, and carries
out its commands in order.

Nothing it keeps is needed again. Decisions are in Trials and in the store, results in the store,
launched chains in the SearchPlan: whoever opens the plan again goes on from there, with the pods
that are at work. After any failure half-way the driver is therefore dropped and opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from hippo.kube.metrics import Metrics

from hippo.dispatch import EngineOptions
from hippo.driving.mailroom import Mailroom
from hippo.driving.sessions import Session
from hippo.driving.spending import chain_prefix
from hippo.engine import Engine
from hippo.keeping import delete_study
from hippo.kube import names
from hippo.kube.api import Api
from hippo.kube.chains import Chains
from hippo.kube.decisions import DecisionBook
from hippo.kube.external import UserTrials
from hippo.kube.manifests import owner
from hippo.kube.plan_object import PlanObject
from hippo.kube.pods import PodPhase, PodState, outcome
from hippo.kube.settings import Settings
from hippo.kube.sweeps import forget_missing
from hippo.messages import (
    Adopted,
    Command,
    DeleteCheckpoint,
    Event,
    Finish,
    Halt,
    Launch,
    Notify,
    Record,
    Refuse,
    Reported,
    Steer,
    StudyChanged,
    StudyRemoved,
    Tick,
    WakeAt,
    WorkerGone,
    WorkersChanged,
)
from hippo.model import External, InvalidSpec, Study, editable_changes
from hippo.runs import StudyRun
from hippo.store import STALE_SECONDS, Blobs, PlanLock, PlanStore, StoreError, plan_path
from hippo.store.lock import Holder
from hippo.store.records import (
    Arrived,
    Assignment,
    Began,
    CheckpointSaved,
    Control,
    Ended,
    Outcome,
    Report,
    WorkerError,
)

LOCK_SECONDS = 60.0
LINGER_SECONDS = 5.0
"""How long a worker waits at its end for another route: longer than it takes to notice."""
WORKER_POLL_SECONDS = 0.5
LEAST_POLL_SECONDS, MOST_POLL_SECONDS = 0.5, 5.0
"""Between two looks at the reports of running chains."""
FOLD_AFTER = 200


class Reopen(Exception):
    """The plan is to be opened again, with what is durable."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A study of the cluster that is valid."""

    study: Study
    uid: str
    generation: int
    created: str  # RFC 3339
    document: Mapping[str, Any]  # its object


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
    """One plan from :meth:`open` to :meth:`close`. Not safe to share between tasks.

    Any method may raise StoreError, ApiError, TakenOver or Reopen: drop the driver then.
    """

    namespace: str
    name: str
    document: dict[str, Any]  # of the signature
    signature: str
    tools: Tools
    engine: Engine = field(init=False)
    session: Session = field(init=False)
    plan: PlanObject = field(init=False)
    chains: Chains = field(init=False)
    studies: dict[str, Accepted] = field(init=False, default_factory=dict)
    waiting: dict[str, str] = field(init=False, default_factory=dict)
    """Chains whose pods do not begin, and why."""
    inexact: set[str] = field(init=False, default_factory=set)
    """Studies of which a step was trained twice with different results."""
    problem: tuple[str, str] | None = field(init=False, default=None)
    """Reason and message, if nothing more is launched."""
    is_changed: bool = field(init=False, default=True)
    """Something that a person waits for has happened: statuses are due."""
    _lock: PlanLock = field(init=False)
    _books: dict[str, DecisionBook] = field(init=False, default_factory=dict)
    _mailroom: Mailroom = field(init=False)
    _user_trials: dict[str, UserTrials] = field(init=False, default_factory=dict)
    _read: dict[str, int] = field(init=False, default_factory=dict)  # reports, by running chain
    _counted: dict[str, int] = field(init=False, default_factory=dict)  # of this generation
    _has_news: bool = field(init=False, default=False)
    _wake_at: float = field(init=False, default=0.0)
    _poll_at: float = field(init=False, default=0.0)
    _ended: list[str] = field(init=False, default_factory=list)
    _ended_at: float | None = field(init=False, default=None)
    _owners: set[str] = field(init=False, default_factory=set)
    _stages: dict[str, float] = field(init=False, default_factory=dict)
    _seen: set[str] = field(init=False, default_factory=set)

    # -- opening and closing -----------------------------------------------------------------------

    async def open(self, studies: Mapping[str, Accepted], *, eagerly: bool = True) -> None:
        """Take over the plan, and give the engine all there is: results, decisions, live pods.

        ``eagerly``: from an operator of the same identity, which then must be gone.
        """
        store = PlanStore(self.tools.blobs, plan_path(self.namespace, self.signature))
        identity = self.tools.settings.identity
        own = Holder.current()
        # Under one identity a restarted operator need not wait until its lock has expired.
        holder = replace(own, host=f"operator {identity}", boot=f"kubernetes {identity}")
        holder = holder if eagerly else replace(holder, boot="")
        self._lock = PlanLock(store, holder, seconds=LOCK_SECONDS)
        await asyncio.to_thread(self._lock.acquire)
        lead = max(studies.values(), key=lambda item: (item.study.spec.priority, item.created))
        self.plan = PlanObject(self.tools.api, self.namespace, self.name)
        await self.plan.ensure(
            signature=self.signature,
            study=lead.study,
            owners=_owners_of(studies),
            generation=self._lock.generation,
        )
        self._owners = {item.uid for item in studies.values()}
        self.chains = Chains(
            self.tools.api, self.plan, self.namespace, self.name, self.tools.settings
        )
        pods = await self.chains.find_recorded()
        await asyncio.to_thread(self._read_store, store, studies)
        self._mailroom = Mailroom(
            store, self.engine, [i.study for i in studies.values()], self.tools.clock
        )
        for item in sorted(studies.values(), key=lambda item: (item.created, item.study.name)):
            await self._add(item, more_follow=True)
        ended = await self._adopt(pods)
        await self._feed(WorkersChanged(self._count_workers()))
        for report in ended:
            await self._take(report)

    def _read_store(self, store: PlanStore, studies: Mapping[str, Accepted]) -> None:
        self.session = session = Session.open(store, self.document)
        for key in session.records.orphans:
            store.delete_checkpoint(key)
        with contextlib.suppress(StoreError):  # a right that nothing else needs
            store.blobs.clean(older_than_seconds=STALE_SECONDS)
        live = {item.uid for item in studies.values()}
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
                window=self.tools.settings.window,
                keeps_foreign=True,
                retry_pause=5.0,
            ),
            costs=session.build_costs(),
            kept=session.kept_by_others(set(studies)),
        )

    async def _adopt(self, pods: Mapping[str, Mapping[str, Any]]) -> list[Ended]:
        """Take up the chains that were launched before; returns how some have ended meanwhile."""
        ended: list[Ended] = []
        reports = self.session.records.reports
        records = self.chains.records
        self._ended += sorted(self.session.records.unfolded - records.keys())
        for chain, record in records.items():
            told = reports.get(chain, [])
            pod = pods.get(chain)
            study = record.study if record.study in self.engine.studies else None
            if pod is None or study is None:
                if pod is not None:
                    await self.chains.remove(chain)
                self.chains.forget([chain])  # what it has left is in the store
                self._ended += [chain] if told else []
                continue
            assignment = Assignment.model_validate_json(
                pod["metadata"]["annotations"][names.ANNOTATION_ASSIGNMENT]
            )
            control = await asyncio.to_thread(self.session.store.read_control, chain)
            alive = tuple(report for report in told if not isinstance(report, Ended))
            await self._feed(Adopted(assignment, study, control, alive, more_follow=True))
            self._read[chain] = self._counted[chain] = len(told)
            if told and isinstance(told[-1], Ended):
                ended.append(told[-1])
        return ended

    async def close(self) -> None:
        """Leave the store tidy, and let others have the plan."""
        await self._note_spending()
        await asyncio.to_thread(self.session.store.fold, self._ended)
        self._ended.clear()
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
        """Bring everything in line: what is wanted, what has happened, what is to be done."""
        await asyncio.to_thread(self._lock.renew_if_due)
        await self._heed_studies(studies)
        await self._heed_requests(user_trials)
        await self._read_reports()
        await self._heed_pods(pods)
        await self._feed(WorkersChanged(self._count_workers()))
        await self._feed(Tick())
        await asyncio.to_thread(self._mailroom.publish)
        if self.chains.forget(self.chains.records.keys() - self.engine.chains.keys()):
            await self.plan.write()
        await self.chains.tidy(pods)
        if len(self._ended) >= FOLD_AFTER:
            await asyncio.to_thread(self.session.store.fold, self._ended)
            self._ended.clear()

    @property
    def is_done(self) -> bool:
        """Every study has ended and no chain is left."""
        return self.engine.is_finished and not self.plan.status.chains

    def pause(self) -> float:
        """Seconds until the next round is due, if nothing happens before."""
        now = self.tools.clock()
        moments = [now + min(self.tools.settings.resync, LOCK_SECONDS / 4)]
        if self._wake_at > now:
            moments.append(self._wake_at)
        if self.engine.chains:
            moments.append(self._poll_at)
        if self._user_trials or self._has_external():
            moments.append(now + 1.0)
        return max(0.05, min(moments) - now)

    def _has_external(self) -> bool:
        return any(
            isinstance(item.study.spec.algorithm, External) and self.engine.studies[name].is_active
            for name, item in self.studies.items()
        )

    def _count_workers(self) -> int:
        """As many as active studies may have; none while something forbids to launch."""
        if self.problem is not None:
            return 0
        settings = self.tools.settings
        wanted = sum(
            run.study.spec.parallelism or settings.default_parallelism
            for run in self.engine.studies.values()
            if run.is_active
        )
        return min(wanted, settings.max_workers)

    # -- studies -----------------------------------------------------------------------------------

    async def _heed_studies(self, wanted: Mapping[str, Accepted]) -> None:
        for name in sorted(self.studies.keys() - wanted.keys()):
            await self._remove(name)
        for name, item in wanted.items():
            known = self.studies.get(name)
            if known is None:
                if name in self.engine.studies or isinstance(item.study.spec.algorithm, External):
                    raise Reopen
                await self._add(item)
            elif known.uid != item.uid:
                raise Reopen
            elif known.study.spec != item.study.spec:
                item = await self._change(known, item)
            self.studies[name] = item
        owners = {item.uid for item in self.studies.values()}
        if owners != self._owners and owners:
            await self.plan.set_owners(_owners_of(self.studies))
            self._owners = owners

    async def _add(self, item: Accepted, *, more_follow: bool = False) -> None:
        study, session = item.study, self.session
        event = await asyncio.to_thread(lambda: session.admit(study, uid=item.uid))
        book = DecisionBook(self.tools.api, session.store, event.study, item.uid)
        decisions = await book.recover()
        if study.name not in session.documents:
            await asyncio.to_thread(lambda: session.write_study(event.study, None, uid=item.uid))
        self._books[study.name] = book
        self.studies[study.name] = item
        if isinstance(study.spec.algorithm, External):
            self._user_trials[study.name] = await asyncio.to_thread(
                UserTrials, session.store, study, book
            )
        await self._feed(replace(event, decisions=decisions, more_follow=more_follow))
        self.is_changed = True

    async def _change(self, known: Accepted, item: Accepted) -> Accepted:
        """What may change takes effect; after anything else the study goes on as it was."""
        try:
            changed = editable_changes(known.study, item.study)
        except InvalidSpec as error:
            self._tell_about(item.study.name, names.REASON_IMMUTABLE, str(error))
            return replace(item, study=known.study)
        if changed and not self.engine.studies[item.study.name].state.is_final:
            await asyncio.to_thread(self.session.rewrite_study, item.study)
            await self._feed(StudyChanged(item.study))
            self.is_changed = True
        return item

    async def _remove(self, name: str) -> None:
        """A study was deleted: what it retains stays for its ttl, and others go on."""
        item = self.studies.pop(name)
        self._books.pop(name, None)
        self._user_trials.pop(name, None)
        await self._feed(StudyRemoved(name))
        await asyncio.to_thread(delete_study, self.session.store, name, now=time.time())
        self.session.documents[name] = await asyncio.to_thread(self.session.store.read_study, name)
        self.tools.metrics.forget_study(self.namespace, item.study.name)
        self.is_changed = True

    async def _heed_requests(self, objects: Mapping[str, Mapping[str, Any]]) -> None:
        for name, trials in self._user_trials.items():
            own = {k: v for k, v in objects.items() if v["spec"].get("study") == name}
            await asyncio.to_thread(trials.post, own)
        for request in await asyncio.to_thread(self._mailroom.collect):
            await self._feed(request)

    def trial_lost(self, study: str, index: int) -> None:
        """A Trial that the operator made is gone; it is made again."""
        if study in self._books:
            self._books[study].lost(index)

    async def write_trials(self) -> None:
        """Bring Trials and their statuses up to date."""
        for name, book in self._books.items():
            run = self.engine.studies[name]
            if name in self._user_trials:
                trials = self._user_trials[name]
                trials.attach(run)
                await asyncio.to_thread(trials.read_refusals)
                await trials.write_refusals(self.tools.api)
            await book.restore()
            await book.write_statuses(run)

    # -- pods and reports --------------------------------------------------------------------------

    async def _read_reports(self) -> None:
        now = self.tools.clock()
        if self._read:
            news = await asyncio.to_thread(self.session.store.read_news, dict(self._read))
            for report in news:
                await self._take(report)
        self._poll_at = now + self._estimate_poll()

    async def _take(self, report: Report) -> None:
        self._has_news = True
        self._read[report.chain] = self._counted[report.chain] = report.sequence_number + 1
        self.tools.metrics.note_report(self.namespace, self.name, report, None)
        if isinstance(report, Began):
            self._pin_fingerprint(report)
        if isinstance(report, CheckpointSaved) and report.differs:
            chain = self.engine.chains.get(report.chain)
            self.inexact.update(chain.studies if chain is not None else ())
            self.is_changed = True
        if isinstance(report, Ended | Arrived):
            self._ended_at = self.tools.clock()
        await self._feed(Reported(report))
        if isinstance(report, Ended):
            self._chain_ended(report.chain, report.outcome, "none")

    def _chain_ended(self, chain: str, how: Outcome, cause: str) -> None:
        self._read.pop(chain, None)
        self.waiting.pop(chain, None)
        self._ended.append(chain)
        self._ended_at = self._ended_at or self.tools.clock()
        self.tools.metrics.note_chain_end(self.namespace, self.name, how, cause)

    def _pin_fingerprint(self, began: Began) -> None:
        if not self.plan.status.fingerprint:
            self.plan.status.fingerprint = dict(began.fingerprint)

    def _estimate_poll(self) -> float:
        """Seconds until a running chain is to report next, by estimate."""
        engine = self.engine
        step = engine.costs.mean_step
        soonest = MOST_POLL_SECONDS
        for chain in engine.chains.values():
            if not chain.begun or not engine.costs.is_known:
                soonest = min(soonest, 1.0)
                continue
            ahead = [s for s in chain.claim.saves() if s > chain.step]
            due = chain.step_time + (min(ahead, default=chain.step) - chain.step) * step
            soonest = min(soonest, due - engine.now)
        return max(LEAST_POLL_SECONDS, soonest)

    async def _heed_pods(self, pods: Mapping[str, PodState]) -> None:
        """What pods tell that no report does: that they do not begin, or are gone."""
        waiting: dict[str, str] = {}
        for chain in list(self.chains.records):
            running = self.engine.chains.get(chain)
            if running is None:
                continue
            state = await self.chains.look_for(chain, pods)
            if state is None or state.is_finished:
                await self._note_end(chain, state)
                continue
            self._note_image(state)
            self._note_times(chain, state)
            if state.phase is PodPhase.PENDING:
                if running.is_leaving:
                    # It need not begin in order to be told to leave.
                    await self.chains.remove(chain)
                elif state.message:
                    waiting[chain] = state.message
        if waiting != self.waiting:
            self.waiting, self.is_changed = waiting, True

    async def _note_end(self, chain: str, state: PodState | None) -> None:
        """A pod is over. Its last reports were written before it ended; without an end among them,
        the pod tells how it ended.
        """
        for report in await asyncio.to_thread(
            self.session.store.read_reports, chain, self._read.get(chain, 0) - 1
        ):
            await self._take(report)
        running = self.engine.chains.get(chain)
        if running is None:
            return
        if state is None:
            how, message, cause = Outcome.PREEMPTED, "its pod was deleted", "preempted"
        else:
            how, message, cause = outcome(state), state.message, str(state.cause)
        step = running.step
        error = WorkerError(during="step", message=message or "the pod ended", step=step)
        self._tell_about(running.study, names.REASON_CHAIN_FAILED, f"{chain}: {message}")
        await self._feed(WorkerGone(chain, how, error))
        self._chain_ended(chain, how, cause)

    def _note_image(self, state: PodState) -> None:
        """The first pod's image pins the plan: what a tag points at may change."""
        if state.image_id is None or state.phase is not PodPhase.RUNNING:
            return
        pinned = self.plan.status.image_id
        if pinned is None:
            self.plan.status.image_id = state.image_id
        elif pinned != state.image_id and self.problem is None:
            self.problem = (
                names.REASON_IMAGE_CHANGED,
                f"the image has changed: the plan was begun with {pinned}, and a pod now runs"
                f" {state.image_id}: name the image by its digest, or make a new study with another"
                " spec.trainer.version",
            )
            self.is_changed = True

    def _note_times(self, chain: str, state: PodState) -> None:
        if chain in self._seen or state.started_at is None or state.created_at is None:
            return
        self._seen.add(chain)
        scheduled = state.scheduled_at or state.created_at
        self.tools.metrics.note_pod(
            self.namespace,
            self.name,
            queue_seconds=max(0.0, scheduled - state.created_at),
            startup_seconds=max(0.0, state.started_at - scheduled),
        )

    # -- the engine --------------------------------------------------------------------------------

    async def _feed(self, event: Event) -> None:
        commands = await asyncio.to_thread(self.engine.handle, event, self.tools.clock())
        await self._carry_out(commands)

    async def _carry_out(self, commands: list[Command]) -> None:
        """In order, each durably before the next; neighbours of one kind together."""
        index = 0
        while index < len(commands):
            kind = type(commands[index])
            end = index
            while end < len(commands) and type(commands[end]) is kind:
                end += 1
            await self._carry_out_alike(commands[index:end])
            index = end

    async def _carry_out_alike(self, commands: list[Any]) -> None:
        store = self.session.store
        match commands[0]:
            case Record():
                by_study: dict[str, list[Any]] = {}
                for command in commands:
                    by_study.setdefault(command.study, []).append(command.decision)
                for study, decisions in by_study.items():
                    if study in self._books:
                        await self._books[study].write(decisions)
            case Launch():
                await self._launch(commands)
            case Steer():
                await asyncio.to_thread(_write_controls, store, [c.control for c in commands])
            case DeleteCheckpoint():
                await asyncio.to_thread(_delete_all, store, [c.key for c in commands])
            case _:
                for command in commands:
                    await self._carry_out_one(command)

    async def _carry_out_one(self, command: Command) -> None:
        match command:
            case Refuse(study, number, message):
                await asyncio.to_thread(self._mailroom.refuse, study, number, message)
            case Finish(name, _, _):
                await self._finish(self.engine.studies[name])
            case Notify(message, name):
                self._tell_about(name, names.REASON_NOTICE, message)
            case WakeAt(moment):
                now = self.tools.clock()
                self._wake_at = moment if self._wake_at <= now else min(moment, self._wake_at)
            case Halt(message):
                raise StoreError(message)
            case _:
                raise TypeError(f"not a command: {command}")

    async def _launch(self, commands: list[Launch]) -> None:
        wanted = []
        for command in commands:
            assignment = command.assignment
            if assignment.exactness == "strict" and self.plan.status.fingerprint:
                pinned = dict(self.plan.status.fingerprint)
                assignment = assignment.model_copy(update={"fingerprint": pinned})
            wanted.append((assignment, self.engine.studies[command.study].study))
        failed = await self.chains.launch(wanted)
        now = self.tools.clock()
        if self._ended_at is not None:
            self.tools.metrics.note_gap(self.namespace, self.name, now - self._ended_at)
            self._ended_at = None
        lost = {problem.chain for problem in failed}
        for assignment, _ in wanted:
            if assignment.chain not in lost:
                self._read[assignment.chain] = self._counted[assignment.chain] = 0
        self.chains.forget(lost)
        for problem in failed:
            how = Outcome.INVALID if problem.is_final else Outcome.LOST
            error = WorkerError(during="start", message=problem.problem, step=0)
            await self._feed(WorkerGone(problem.chain, how, error))

    async def _finish(self, run: StudyRun) -> None:
        await self._note_spending()
        await asyncio.to_thread(self._mailroom.publish)  # whoever sees the end finds all answers
        if run.name in self.studies:
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
        counted = dict(self._counted)
        await asyncio.to_thread(
            lambda: self.session.note_spending(
                runs, generation=self._lock.generation, counted=counted
            )
        )

    def _tell_about(self, study: str | None, reason: str, message: str) -> None:
        told = [study] if study is not None else list(self.studies)
        for name in told:
            if name in self.studies:
                self.tools.tell(self.studies[name].document, reason, message, True)


def _owners_of(studies: Mapping[str, Accepted]) -> list[dict[str, Any]]:
    return [
        owner("Study", item.study.name, item.uid)
        for item in sorted(studies.values(), key=lambda item: item.study.name)
    ]


def _write_controls(store: PlanStore, controls: list[Control]) -> None:
    for control in controls:
        store.write_control(control)


def _delete_all(store: PlanStore, keys: list[str]) -> None:
    for key in keys:
        store.delete_checkpoint(key)
