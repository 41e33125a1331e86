"""The operator: which studies there are, which plan each belongs to, and one task for each plan.

Watches only fill the caches here and wake tasks; a round of the plan's reconciler decides what is
done, from all that is known. A plan is opened while one of its studies has not ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Any

from pydantic import ValidationError

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.client import Api, Conflict
from hippo.kube.controller.admission import Refusal, StudyAdmission
from hippo.kube.controller.cluster_identity import ClusterIdentity
from hippo.kube.controller.plan_worker import PlanWorker, Shared
from hippo.kube.controller.resync import Resync
from hippo.kube.controller.store_outages import StoreWatch
from hippo.kube.controller.study_moves import StudyMoves
from hippo.kube.controller.user_trial_cache import UserTrialCache
from hippo.kube.observability.events import Events
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.state import PodState, observe
from hippo.kube.reconciler.context import Tools
from hippo.kube.reconciler.plan_object import read_status
from hippo.kube.serial_executor import SerialExecutor
from hippo.kube.settings import Settings, build_holder
from hippo.kube.spec_parser import ParserFailed
from hippo.kube.status.builder import show
from hippo.kube.status.models import ENDED, StudyStatus
from hippo.kube.status.written import StudyStatuses
from hippo.model import Study, signature, signature_document
from hippo.store import Blobs
from hippo.store.catalog import PLAN_NAME_DIGITS

log = logging.getLogger(__name__)


class Operator:
    """Made in the event loop that it runs in.

    ``clock`` counts seconds from any moment, ``unix_clock`` gives Unix time; ``build_executor``
    makes a thread, by its name.
    """

    def __init__(
        self,
        api: Api,
        blobs: Blobs,
        settings: Settings,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = time.monotonic,
        unix_clock: Callable[[], float] = time.time,
        build_holder: Callable[..., Any] = build_holder,
        build_executor: Callable[[str], SerialExecutor] = SerialExecutor,
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.events = Events(api, unix_clock)
        self.statuses = StudyStatuses(api)
        self.cluster = ClusterIdentity(api, blobs, settings.cluster_uid)
        self.user_trials = UserTrialCache(api, on_gone=self._clear_way, on_change=self._wake_study)
        tools = Tools(
            api,
            blobs,
            settings,
            metrics,
            self.events.tell,
            clock=clock,
            unix_clock=unix_clock,
            build_holder=build_holder,
            build_executor=build_executor,
        )
        self.shared = Shared(
            tools, self.statuses, StoreWatch(blobs, metrics), self.user_trials, self._claim
        )
        self.plans: dict[tuple[str, str], PlanWorker] = {}
        self.resync = Resync(api, settings, metrics, self, self.user_trials, clock=clock)
        self._plan_of: dict[str, PlanWorker] = {}  # by uid of the study
        self._pods: dict[tuple[str, str], dict[str, PodState]] = {}  # by namespace and plan
        self._admission = StudyAdmission(
            api,
            settings,
            self.statuses,
            self.events,
            clock=unix_clock,
            build_executor=build_executor,
        )
        self._moves = StudyMoves(tools, self, self.spawn)
        self._gone: set[str] = set()  # uids of studies deleted since they were listed last
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what watches tell -------------------------------------------------------------------------

    async def study_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A Study as it is now; if it is invalid, its status says why. Raises ApiError."""
        try:
            await self._take_study(document, is_gone=is_gone)
        except Conflict as error:  # it has a later status, of which a watch tells in time
            log.info("study %s: %s", document["metadata"]["name"], error)

    def trial_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A Trial: those that users made are requests; those made here are made again if lost."""
        labels = document["metadata"].get("labels") or {}
        if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
            self.user_trials.update(document, is_gone=is_gone)
        elif is_gone:
            spec = document.get("spec") or {}
            index = spec.get("index")
            worker = self._plan_of.get(labels.get(names.LABEL_STUDY_UID, ""))
            is_own = worker is not None and worker.namespace == document["metadata"]["namespace"]
            if is_own and worker and worker.reconciler is not None and isinstance(index, int):
                worker.reconciler.trial_lost(spec.get("study", ""), index, document)
                worker.wake.set()

    def pod_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A pod of a chain."""
        metadata = document["metadata"]
        plan = (metadata.get("labels") or {}).get(names.LABEL_PLAN, "")
        pods = self._pods.setdefault((metadata["namespace"], plan), {})
        before = pods.get(metadata["name"])
        if is_gone:
            pods.pop(metadata["name"], None)
        else:
            pods[metadata["name"]] = observe(document)
        worker = self.plans.get((metadata["namespace"], plan))
        if worker is None and not pods:
            self._pods.pop((metadata["namespace"], plan), None)
        if worker is not None and (is_gone or before != pods[metadata["name"]]):
            worker.wake.set()

    def plan_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A SearchPlan: chains that are recorded there are to be seen to their end, also if all
        studies have ended; one that was deleted by hand is made again, if it is still wanted.
        """
        metadata = document["metadata"]
        key = (metadata["namespace"], metadata["name"])
        with_chains = self.shared.with_chains
        had_chains = key in with_chains
        with_chains.discard(key)
        if not is_gone and (document.get("status") or {}).get("chains"):
            with_chains.add(key)
        worker = self.plans.get(key)
        if is_gone:
            self.metrics.forget_plan_status(*key)
        elif worker is None or worker.reconciler is None:
            with contextlib.suppress(ValidationError):
                self.metrics.update_plan(*key, read_status(document))
        is_news = is_gone or (key in with_chains and not had_chains)
        if worker is not None and worker.reconciler is None and is_news:
            worker.wake.set()

    # -- what lists tell ---------------------------------------------------------------------------

    def begin_listing(self) -> set[str]:
        """Uids of all studies that are known before a list of them is read."""
        self._gone.clear()
        return set(self._plan_of)

    def end_listing(self, known: Collection[str], there: Collection[str]) -> None:
        """Forget studies that were ``known`` before the list, and are not ``there``."""
        self._admission.keep(there)
        for uid in set(known) - set(there):
            worker = self._plan_of.get(uid)
            for name in [n for n, i in worker.studies.items() if i.uid == uid] if worker else []:
                self.forget_study(uid, name)

    # -- studies -----------------------------------------------------------------------------------

    async def _take_study(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        uid = document["metadata"]["uid"]
        if is_gone or document["metadata"].get("deletionTimestamp"):
            self._gone.add(uid)
            self.metrics.forget_study(*_place(document))
            self.forget_study(uid, document["metadata"]["name"])
            return
        try:
            item = await self._admission.accept(document)
        except ParserFailed as error:
            log.error("study %s: %s", document["metadata"]["name"], error)
            return  # until all are looked at again
        if isinstance(item, Refusal):
            await self._reject(document, item.reason, item.message)
            return
        if uid in self._gone:
            return  # it was listed before it was deleted
        if self._moves.is_moving(uid) or self._moves.begin(item, self._plan_of.get(uid)):
            return
        worker = self._plan_of.get(uid) or self._find_plan(item)
        known = worker.studies.get(item.study.name)
        is_new = known is None or known.uid != uid
        if known is not None and not is_new and known.generation > item.generation:
            return  # it was listed before it was edited
        self._plan_of[uid] = worker
        worker.studies[item.study.name] = item
        if worker.reconciler is None:
            self.statuses.saw(item.document)
        try:
            await self._admission.welcome(item, worker.name)
        finally:
            before = (known.generation, known.retry) if known is not None else None
            if is_new or before != (item.generation, item.retry):
                worker.wake.set()
        if worker.reconciler is None:  # it has ended, or is still to begin
            await self._show_unopened(item)

    async def _show_unopened(self, item: Accepted) -> None:
        """Tell of a study whose plan is not open, of which nobody else does. Raises ApiError."""
        status = self.statuses.find(item.document)
        self.metrics.update_study(item.study.namespace, item.study.name, status)
        best = status.best
        if status.phase in ENDED and best is not None and best.shown is None:
            # By an earlier version; nobody else writes it ever again.
            best = best.model_copy(update={"shown": show(best.value)})
            await self.statuses.write(item.document, status.model_copy(update={"best": best}))

    async def _reject(self, document: Mapping[str, Any], reason: str, message: str) -> None:
        is_at_work = document["metadata"]["uid"] in self._plan_of
        await self._admission.reject(document, reason, message, is_at_work=is_at_work)
        if not is_at_work:
            self.metrics.update_study(*_place(document), StudyStatus(phase="Rejected"))

    def _find_plan(self, item: Accepted) -> PlanWorker:
        document = signature_document(item.study.spec.trainer, None)
        signed = signature(document)
        key = (item.study.namespace, signed[:PLAN_NAME_DIGITS])
        worker = self.plans.get(key)
        if worker is None:
            pods = self._pods.setdefault(key, {})
            worker = PlanWorker(*key, document, signed, pods, self.shared, self._forget_plan)
            self.plans[key] = worker
            worker.task = self.spawn(self._work(worker), f"plan {worker}")
        return worker

    def forget_study(self, uid: str, name: str) -> None:
        """Take a study out of its plan."""
        self.statuses.forget(uid)
        self._admission.forget(uid)
        worker = self._plan_of.pop(uid, None)
        if worker is not None and name in worker.studies and worker.studies[name].uid == uid:
            del worker.studies[name]
            self.metrics.forget_study(worker.namespace, name)
            worker.lost.add(uid)
            worker.wake.set()

    def _forget_plan(self, worker: PlanWorker) -> None:
        """No study is left of it."""
        key = (worker.namespace, worker.name)
        self.plans.pop(key, None)
        if not worker.pods:
            self._pods.pop(key, None)
        self.metrics.forget_plan(*key)

    def _wake_study(self, namespace: str, name: str) -> None:
        for worker in self.plans.values():
            if worker.namespace == namespace and name in worker.studies:
                worker.wake.set()

    def _clear_way(self, namespace: str, trial: str) -> None:
        """A Trial is gone, which may have been in the way of a study at fault."""
        for worker in self.plans.values():
            if worker.namespace == namespace and worker.faults.forget_trial(trial):
                worker.wake.set()

    # -- what others ask ---------------------------------------------------------------------------

    def find_worker(self, namespace: str, plan: str) -> PlanWorker | None:
        """The worker of a plan; None if none of its studies is known."""
        return self.plans.get((namespace, plan))

    def find_study(self, namespace: str, name: str) -> tuple[Study, bool] | None:
        """An accepted study, and whether it has ended."""
        for worker in self.plans.values():
            if worker.namespace == namespace and (item := worker.studies.get(name)) is not None:
                return item.study, self.statuses.find(item.document).phase in ENDED
        return None

    def is_open(self, path: str) -> bool:
        """Whether the plan at this path of the store is being worked on here."""
        namespace, _, name = path.partition("/")
        worker = self.plans.get((namespace, name))
        return worker is not None and worker.reconciler is not None

    def is_known(self, uid: str) -> bool:
        """Whether there is a study of this uid that was accepted."""
        return uid in self._plan_of or self._moves.is_moving(uid)

    async def _claim(self, namespace: str, lost: Collection[str]) -> None:
        """Raises OtherCluster before anything is done to plans of another cluster."""
        await self.cluster.claim(namespace, lambda uid: uid in lost or self.is_known(uid))

    # -- tasks -------------------------------------------------------------------------------------

    async def _work(self, worker: PlanWorker) -> None:
        await self.resync.wait_for_start(worker.namespace)
        await worker.run()

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """A task that lives as long as the operator, unless it ends by itself."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("%s has ended: a defect of Hippo", task.get_name(), exc_info=error)

    async def stop(self) -> None:
        """End all tasks; pods go on, and so will whoever starts next."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for worker in self.plans.values():
            await worker.stop()


def _place(document: Mapping[str, Any]) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]
