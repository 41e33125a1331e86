"""The studies of an open plan: added, changed and removed as the cluster has them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from hippo.engine.events import StudyAdded, StudyChanged, StudyRemoved
from hippo.engine.state import StudyRun
from hippo.gc import delete_study
from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.manifests import owner
from hippo.kube.reconciler.context import ADVICE, PlanContext
from hippo.kube.reconciler.errors import CANNOT_BE, NOT_A_STUDYS_FAULT, Reopen
from hippo.kube.reconciler.trial_objects import TrialObjects
from hippo.kube.reconciler.user_trials import UserTrials
from hippo.kube.resources import TRIAL
from hippo.lifecycles import StudyFault, blame
from hippo.model import External, InvalidSpec, editable_changes
from hippo.store import RESTORE, Unreadable


class LiveStudies:
    """Brings the engine's studies in line with those of the cluster. Methods may raise StudyFault,
    and what a round raises.
    """

    def __init__(
        self,
        context: PlanContext,
        books: dict[str, TrialObjects],
        *,
        studies: dict[str, Accepted],
        owners: set[str],
        missed: frozenset[str],
        tell_workers: Callable[[], Awaitable[None]],
    ) -> None:
        """``books``: of the decisions that are carried out, by study; kept up to date here, as is
        ``studies``. ``owners``: uids of the studies that the SearchPlan names. ``missed``: uids of
        studies that were gone when the plan was opened, of which the watch has not told yet.
        ``tell_workers`` tells the engine how many workers there may be.
        """
        self._context = context
        self._books = books
        self._studies = studies
        self._owners = owners
        self._missed = missed
        self._tell_workers = tell_workers
        self._user_trials: dict[str, UserTrials] = {}  # of external studies, by name
        self.reopened: dict[str, str] = {}
        """Studies that had ended and go on, and with what."""
        self.behind: set[str] = set()
        """Studies of which statuses of Trials are still to be written."""

    # -- what is wanted ----------------------------------------------------------------------------

    async def heed(self, wanted: Mapping[str, Accepted]) -> None:
        """Take in what users have made, edited and deleted."""
        wanted = {name: item for name, item in wanted.items() if item.uid not in self._missed}
        for name in sorted(self._studies.keys() - wanted.keys()):
            await self._remove(name)
        for name, item in wanted.items():
            with blame(name, *NOT_A_STUDYS_FAULT):
                await self._heed_study(item)
        owners = {item.uid for item in self._studies.values()}
        if owners != self._owners and owners:
            await self._context.plan_object.set_owners(owners_of(self._studies))
            self._owners = owners

    async def _heed_study(self, item: Accepted) -> None:
        name = item.study.name
        known = self._studies.get(name)
        if known is None:
            is_external = isinstance(item.study.spec.algorithm, External)
            if name in self._context.engine.studies or is_external:
                raise Reopen
            await self.add(item)
            await self._tell_workers()  # with those that it brings
        elif known.uid != item.uid:
            raise Reopen
        elif known.study.spec != item.study.spec:
            item = await self._change(known, item)
        if self._is_to_retry(item):
            raise Reopen  # from all that is durable, as after an end
        self._studies[name] = item

    async def heed_requests(self, objects: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in what external studies are asked for. ``objects``: all Trials that users made."""
        for name, trials in self._user_trials.items():
            own = {key: doc for key, doc in objects.items() if doc["spec"].get("study") == name}
            with blame(name, *NOT_A_STUDYS_FAULT):
                await self._context.thread.run(partial(trials.post, own))
        for request in await asyncio.to_thread(self._context.plan.inbox.collect):
            await self._context.pump.feed(request)

    @property
    def takes_requests(self) -> bool:
        """Whether an external study is active."""
        return any(self._context.engine.studies[name].is_active for name in self._user_trials)

    # -- a study comes -----------------------------------------------------------------------------

    async def add(self, item: Accepted) -> None:
        """Add a study, which waits for WorkersChanged or the like before it trains."""
        with blame(item.study.name, *NOT_A_STUDYS_FAULT):
            try:
                await self._admit(item)
            except Unreadable as error:
                raise StudyFault(item.study.name, str(error)) from error
        self._context.changes.pending = True

    async def _admit(self, item: Accepted) -> None:
        """Raises Unreadable if the study's own records are damaged, or contradict each other."""
        study, context, session = item.study, self._context, self._context.session
        try:
            event = await context.thread.run(lambda: context.plan.admit(study, uid=item.uid))
        except InvalidSpec as error:  # the cluster lets nobody change it, so the store was
            reason = str(error).splitlines()[0]
            raise Unreadable(
                f"what the store holds is another study: {reason}: {RESTORE}"
            ) from None
        book = TrialObjects(context.tools.api, session.store, event.study, item.uid)
        decisions = await book.recover()
        if study.name not in session.documents:
            await asyncio.to_thread(lambda: session.write_study(event.study, None, uid=item.uid))
        event = await self._reconsider(item, book, replace(event, decisions=decisions))
        self._books[study.name] = book
        self._studies[study.name] = item
        if isinstance(study.spec.algorithm, External):
            self._user_trials[study.name] = await self._open_user_trials(item, book)
        try:
            await context.pump.feed(replace(event, more_follow=True))
        except CANNOT_BE as error:
            if not event.decisions:
                raise
            reason = " ".join(str(error).split())
            raise Unreadable(f"its decisions cannot be followed: {reason}: {RESTORE}") from error

    async def _open_user_trials(self, item: Accepted, book: TrialObjects) -> UserTrials:
        made = f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}"
        namespace, store = item.study.namespace, self._context.session.store
        there = await self._context.tools.api.list(TRIAL, namespace, labels=made)
        live = {trial["metadata"]["uid"] for trial in there}
        return await self._context.thread.run(lambda: UserTrials(store, item.study, book, live))

    async def _reconsider(
        self, item: Accepted, book: TrialObjects, event: StudyAdded
    ) -> StudyAdded:
        """Let a study that has ended go on if its limits allow it now, and try failed trials again
        if somebody asks.
        """
        study, context, session = item.study, self._context, self._context.session
        is_to_retry = self._is_to_retry(item)
        verdict = await context.thread.run(
            lambda: session.reconsider(
                event, study, decisions=event.decisions, retry=is_to_retry, advice=ADVICE
            )
        )
        retried = item.retry if is_to_retry else None
        if verdict is not None and verdict.goes_on:
            await asyncio.to_thread(context.lock.renew)
            await book.write(verdict.decisions)
            self.reopened[study.name] = verdict.why
            decisions = (*event.decisions, *verdict.decisions)
            return await asyncio.to_thread(
                lambda: session.reopen(event, study, decisions, retried=retried)
            )
        if retried is not None:
            await asyncio.to_thread(session.note_retried, study.name, retried)
        if verdict is not None and event.ended is not None and _is_new(item):
            message = f"it stays as it ended: {verdict.why}"
            context.tools.tell(item.document, names.REASON_NOTICE, message, True)
        return event

    def _is_to_retry(self, item: Accepted) -> bool:
        """Whether its failed trials are to be tried again: once for each value that is set."""
        known = self._context.session.documents.get(item.study.name, {})
        return item.retry is not None and item.retry != known.get("retried")

    # -- a study changes, ends or goes -------------------------------------------------------------

    async def _change(self, known: Accepted, item: Accepted) -> Accepted:
        """Let an edit take effect if it may; after any other the study goes on as it was."""
        context, name = self._context, item.study.name
        try:
            changed = editable_changes(known.study, item.study)
        except InvalidSpec as error:
            context.events.warn(name, names.REASON_IMMUTABLE, str(error))
            return replace(item, study=known.study)
        if changed and context.engine.studies[name].state.is_final:
            raise Reopen  # it may go on now
        if changed:
            await asyncio.to_thread(context.lock.renew)  # who was overtaken knows an older study
            await asyncio.to_thread(context.session.rewrite_study, item.study)
            await context.pump.feed(StudyChanged(item.study))
            context.changes.pending = True
        return item

    async def finish(self, run: StudyRun) -> None:
        """A study has ended."""
        plan, counted = self._context.plan, dict(self._context.reports.counted)
        await asyncio.to_thread(plan.settle, counted)
        if run.name in self._studies:
            await asyncio.to_thread(plan.lock.renew)
            await asyncio.to_thread(plan.write_study, run)
        self._context.changes.pending = True

    async def _remove(self, name: str) -> None:
        """A study was deleted: what it retains stays for its ttl, and others go on."""
        context = self._context
        del self._studies[name]
        self._books.pop(name, None)
        self._user_trials.pop(name, None)
        await context.pump.feed(StudyRemoved(name))
        await self._mark_deleted(name)
        context.tools.metrics.forget_study(context.identity.namespace, name)
        context.changes.pending = True

    async def mark_left(self, name: str, uid: str) -> None:
        """A study that is not here belongs to another plan from now on. Raises StoreError."""
        document = self._context.session.documents.get(name)
        if document is not None and document.get("uid") == uid:
            await self._mark_deleted(name)

    async def _mark_deleted(self, name: str) -> None:
        store, now = self._context.session.store, self._context.tools.unix_clock()
        await asyncio.to_thread(delete_study, store, name, now=now)
        self._context.session.documents[name] = await asyncio.to_thread(store.read_study, name)

    # -- Trials ------------------------------------------------------------------------------------

    def trial_lost(self, study: str, index: int, document: Mapping[str, Any]) -> None:
        """A Trial that the operator made is gone; it is made again."""
        if study in self._books:
            self._books[study].lost(index, document)

    async def write_trials(self) -> None:
        """Bring Trials and their statuses up to date, some at a time."""
        self.behind.clear()
        for name, book in self._books.items():
            with blame(name, *NOT_A_STUDYS_FAULT):
                await self._write_trials(name, book)

    async def _write_trials(self, name: str, book: TrialObjects) -> None:
        if name in self._user_trials:
            trials = self._user_trials[name]
            await asyncio.to_thread(trials.read_refusals)
            await trials.write_refusals(self._context.tools.api)
        await book.restore()
        if not await book.write_statuses(self._context.engine.studies[name]):
            self.behind.add(name)


def owners_of(studies: Mapping[str, Accepted]) -> list[dict[str, Any]]:
    """References to studies as owners of their SearchPlan."""
    return [
        owner("Study", item.study.name, item.uid)
        for item in sorted(studies.values(), key=lambda item: item.study.name)
    ]


def _is_new(item: Accepted) -> bool:
    """Whether a study was edited since its status was written."""
    status = item.document.get("status") or {}
    return bool(status.get("observedGeneration") != item.generation)
