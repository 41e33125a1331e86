"""One plan's task: a round whenever something has happened, and what follows if a round fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.client import ApiError
from hippo.kube.controller.plan_notices import PlanNotices
from hippo.kube.controller.store_gc import mark_missing
from hippo.kube.controller.store_outages import StoreWatch, rest
from hippo.kube.controller.study_faults import Faults
from hippo.kube.controller.user_trial_cache import UserTrialCache
from hippo.kube.pods.state import PodState, observe
from hippo.kube.reconciler.context import Carryover, PlanIdentity, Tools
from hippo.kube.reconciler.errors import Reopen, TakenOver
from hippo.kube.reconciler.reconciler import Reconciler
from hippo.kube.resources import POD, STUDY
from hippo.kube.status.models import may_go_on
from hippo.kube.status.written import StudyStatuses
from hippo.lifecycles import StudyFault
from hippo.store import LockHeld, LockLost, NewerFormat, StoreError
from hippo.store.clusters import OtherCluster

log = logging.getLogger(__name__)

LEAST_PAUSE, MOST_PAUSE = 1.0, 60.0
"""Seconds before a plan is opened again after a failure; doubled each time."""
GATHER_SECONDS = 0.05
"""Seconds between what wakes a plan and its round: more may come at once."""


@dataclass(eq=False)
class Shared:
    """The surroundings that the workers of all plans share."""

    tools: Tools
    statuses: StudyStatuses
    store_watch: StoreWatch
    user_trials: UserTrialCache
    claim: Callable[[str, Collection[str]], Awaitable[None]]
    """Claim a namespace of the store; uids of studies that were deleted are given. Raises
    OtherCluster, StoreError, ApiError."""
    with_chains: set[tuple[str, str]] = field(default_factory=set)
    """SearchPlans that have chains recorded, by namespace and name."""
    was_overtaken: bool = False
    """Another operator is at work: wait for its locks to expire."""


@dataclass(eq=False)
class PlanWorker:
    """One plan: its studies and pods as they are known, and the task that works on it."""

    namespace: str
    name: str
    document: dict[str, Any]  # of the signature
    signature: str
    pods: dict[str, PodState]  # by name
    shared: Shared
    on_end: Callable[[PlanWorker], None]  # no study is left
    studies: dict[str, Accepted] = field(default_factory=dict)  # by name
    lost: set[str] = field(default_factory=set)
    """Uids of studies that were deleted, of which the store may not have been told."""
    listed: float = -math.inf  # when pods were listed, by the clock
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    reconciler: Reconciler | None = None  # while the plan is open
    faults: Faults = field(default_factory=Faults)  # of its studies
    carryover: Carryover = field(init=False)  # for its reconcilers
    failures: int = 0  # in a row
    outage: asyncio.Event | None = None  # set when the store that failed it is back
    is_over: bool = False  # no study is left
    task: asyncio.Task[None] | None = None
    _notices: PlanNotices = field(init=False)

    def __post_init__(self) -> None:
        self.carryover = Carryover(self.shared.tools.build_executor(f"plan {self}"))
        self._notices = PlanNotices(
            self.namespace, self.name, self.shared.tools, self.shared.statuses
        )

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def sound(self) -> dict[str, Accepted]:
        """Its studies without those at fault."""
        return self.faults.sound(self.studies)

    async def run(self) -> None:
        """Take turns until no study is left."""
        while not self.is_over:
            await self._rest()
            await self.take_turn()

    async def stop(self) -> None:
        """Let others have the plan; pods go on."""
        if self.reconciler is not None:
            is_busy = self.carryover.executor.is_busy
            leave = self.reconciler.release if is_busy else self.reconciler.close
            with contextlib.suppress(Exception):
                await leave()

    # -- one turn ----------------------------------------------------------------------------------

    async def take_turn(self) -> None:
        """One round of the plan, whatever comes of it."""
        self.wake.clear()
        self.outage = None
        began = self.shared.tools.clock()
        studies = self.sound
        try:
            if not await self._attempt(studies):
                return
            has_failed = False
        except Exception as error:
            has_failed = await self._recover(error, studies, began)
        self.failures = self.failures + 1 if has_failed else self.failures
        seconds = self.shared.tools.clock() - began
        self.shared.tools.metrics.reconciled(self.namespace, self.name, seconds, error=has_failed)

    async def _attempt(self, studies: Mapping[str, Accepted]) -> bool:
        """Whether there was a round to make."""
        if self.faults.forget_gone(self.studies):
            await self._drop()  # the store is told when it is opened
        await self._notices.tell_faults(self.studies, self.faults)
        if self.reconciler is None and not self._is_wanted():
            self.is_over = await self._settle()
            return False
        await self._round(self.reconciler or await self._open(studies), studies)
        self.failures = 0
        self._notices.clear()
        return True

    async def _recover(
        self, error: Exception, studies: Mapping[str, Accepted], began: float
    ) -> bool:
        """React to an error of a turn. Returns whether it counts as a failure of the plan, after
        which the next turn waits.
        """
        match error:
            case StudyFault():
                log.error("plan %s: %s", self, error, exc_info=error)
                await self._drop()
                return not self._leave_out(error, studies)
            case Reopen():
                await self._drop()
                self.wake.set()
                return False
            case LockHeld():
                await self._complain(names.REASON_LOCKED, error, only_new=True)
            case TakenOver() | LockLost():
                self.shared.was_overtaken = True
                log.warning("plan %s: %s", self, error)
                await self._drop()
            case OtherCluster():
                await self._complain(names.REASON_OTHER_CLUSTER, error)
            case NewerFormat():
                await self._drop()
                await self._notices.tell_newer(list(self.studies.values()), str(error))
            case StoreError():
                self.shared.tools.metrics.note_store_error(self.namespace, self.name)
                self.outage = self.shared.store_watch.note_failure(began)
                await self._drop()
                await self._complain(names.REASON_STORE, error)
            case ApiError() if self.failures:  # not for the first time
                await self._drop()
                await self._complain(names.REASON_API, error)
            case ApiError():
                log.warning("plan %s: %s", self, error)
                await self._drop()
            case _:
                log.error("plan %s: a defect of Hippo", self, exc_info=error)
                await self._drop()
                message = f"a defect of Hippo, see the operator's log: {type(error).__name__}"
                await self._complain(names.REASON_DEFECT, message)
        return True

    def _leave_out(self, fault: StudyFault, studies: Mapping[str, Accepted]) -> bool:
        """Leave a study out of the next turn; False if it was in none."""
        if fault.study not in studies:
            return False
        self.faults.note(studies[fault.study], fault)
        self.wake.set()
        return True

    async def _complain(
        self, reason: str, problem: Exception | str, *, only_new: bool = False
    ) -> None:
        studies = self.sound.values()
        await self._notices.complain(studies, reason, str(problem), only_new=only_new)

    async def _rest(self) -> None:
        """Until there is something to do; after a failure for a while, whatever happens."""
        if self.failures:
            pause = min(LEAST_PAUSE * 2.0 ** (self.failures - 1), MOST_PAUSE)
            return await rest(pause, self.outage)
        resync = self.shared.tools.settings.resync
        pause = self.reconciler.pause() if self.reconciler is not None else resync
        with contextlib.suppress(TimeoutError):
            # Not wait_for, which in Python 3.11 forgets that it was cancelled if both come at once.
            async with asyncio.timeout(pause):
                await self.wake.wait()
            await asyncio.sleep(GATHER_SECONDS)

    # -- an open plan ------------------------------------------------------------------------------

    async def _open(self, studies: Mapping[str, Accepted]) -> Reconciler:
        shared = self.shared
        await shared.claim(self.namespace, frozenset(self.lost))
        identity = PlanIdentity(self.namespace, self.name, self.document, self.signature)
        reconciler = Reconciler(identity, shared.tools, shared.statuses, self.carryover)
        log.info("plan %s: opened for %s", self, ", ".join(studies))
        try:
            await reconciler.open(studies, eagerly=not shared.was_overtaken)
        except BaseException:
            with contextlib.suppress(Exception):
                await reconciler.release()
            raise
        shared.was_overtaken = False
        self.reconciler = reconciler
        return reconciler

    async def _round(self, reconciler: Reconciler, studies: Mapping[str, Accepted]) -> None:
        tools = self.shared.tools
        if tools.clock() - self.listed > tools.settings.resync:
            await self._list_pods()
        trials = self.shared.user_trials.find(self.namespace)
        await reconciler.reconcile(studies, self.pods, trials)
        if reconciler.is_done:
            log.info("plan %s: all studies have ended", self)
            await reconciler.close()
            self.reconciler = None  # with all that it knew

    async def _list_pods(self) -> None:
        """A watch may miss that a pod is gone, while it is interrupted."""
        before = dict(self.pods)
        selector = f"{names.LABEL_PLAN}={self.name}"
        found = await self.shared.tools.api.list(POD, self.namespace, labels=selector)
        listed = {pod["metadata"]["name"]: observe(pod) for pod in found}
        for name in before.keys() | listed.keys():
            if self.pods.get(name) is not before.get(name):
                continue  # the watch has told of it meanwhile
            if name in listed:
                self.pods[name] = listed[name]
            else:
                self.pods.pop(name, None)
        self.listed = self.shared.tools.clock()

    async def _drop(self) -> None:
        """Forget all that the reconciler knew; pods go on."""
        reconciler, self.reconciler = self.reconciler, None
        if reconciler is not None:
            with contextlib.suppress(Exception):
                await reconciler.release()

    # -- a plan that is not open -------------------------------------------------------------------

    def _is_wanted(self) -> bool:
        """Whether a study has not ended, or a chain of one that has is still recorded."""
        studies = self.sound
        if studies and (self.namespace, self.name) in self.shared.with_chains:
            return True
        return any(self._may_go_on(item) for item in studies.values())

    def _may_go_on(self, item: Accepted) -> bool:
        status = self.shared.statuses.find(item.document)
        return may_go_on(
            phase=status.phase,
            observed_generation=status.observed_generation,
            generation=item.generation,
            retried=status.retried,
            retry=item.retry,
        )

    async def _settle(self) -> bool:
        """Nothing is to be trained. Returns True, and forgets the plan, if no study is left."""
        tools = self.shared.tools
        if self.lost and await self._is_ours():
            there = await tools.api.list(STUDY, self.namespace)
            live = {study["metadata"]["uid"] for study in there}
            holder, now = tools.build_holder(tools.settings.identity), tools.unix_clock()
            mark = (tools.blobs, str(self), live, holder)
            await asyncio.to_thread(mark_missing, *mark, now=now)
        self.lost.clear()
        if self.studies:
            return False
        self.on_end(self)
        return True

    async def _is_ours(self) -> bool:
        try:
            await self.shared.claim(self.namespace, frozenset(self.lost))
        except OtherCluster as error:
            log.warning("plan %s: %s", self, error)
            return False
        return True
