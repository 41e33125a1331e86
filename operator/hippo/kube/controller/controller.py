"""The operator: which studies there are, which plan each belongs to, and one task for each plan.

Watches only fill the caches here and wake tasks; what is done is decided by a round of the plan's
driver, from all that is known. A plan is opened while one of its studies has not ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hippo.kube import names
from hippo.kube.client import NAMESPACE, POD, STUDY, TRIAL, Api, ApiError, Conflict
from hippo.kube.controller.admission import Reception, Refusal
from hippo.kube.controller.newer_format import mark_plan, mark_study
from hippo.kube.controller.orphan_trials import Strays
from hippo.kube.controller.plan_change import begin_afresh, mark_left, may_move, take_leave
from hippo.kube.controller.store_gc import mark_missing
from hippo.kube.controller.store_outages import StoreWatch, rest
from hippo.kube.controller.study_faults import Faults, suspended
from hippo.kube.observability.events import Events
from hippo.kube.observability.metrics import Metrics
from hippo.kube.pods.state import PodState, observe
from hippo.kube.reconciler.plan_object import TakenOver, read_status
from hippo.kube.reconciler.reconciler import Accepted, PlanDriver, Reopen, Tools
from hippo.kube.reconciler.status_writer import Reporter, StudyStatuses, read_study_status
from hippo.kube.reconciler.version_skew import VersionSkew
from hippo.kube.serial_executor import SerialExecutor
from hippo.kube.settings import Settings, build_holder
from hippo.kube.spec_parser import ParserFailed
from hippo.kube.status.builder import show
from hippo.kube.status.conditions import set_condition
from hippo.kube.status.models import StudyStatus
from hippo.lifecycles import StudyFault
from hippo.model import Study, signature, signature_document
from hippo.store import Blobs, LockHeld, LockLost, NewerFormat, StoreError
from hippo.store.catalog import PLAN_NAME_DIGITS, is_plan_name
from hippo.store.clusters import OtherCluster, claim

log = logging.getLogger(__name__)

LEAST_PAUSE, MOST_PAUSE = 1.0, 60.0
"""Seconds before a plan is opened again after a failure; doubled each time."""
CLUSTER_NAMESPACE = "kube-system"
"""A namespace of every cluster, whose uid identifies it."""
MAX_SILENCE_SECONDS = 120.0
"""Liveness fails after this many seconds without an answer of the API server."""
MOVE_SECONDS = 0.5
"""Between two looks at whether a study has left its plan."""
GATHER_SECONDS = 0.05
"""Between what wakes a plan and its round: more may come at once."""
_ENDED = ("Succeeded", "Failed")


@dataclass(eq=False)
class PlanTask:
    """What is known of one plan, and the task that works on it."""

    namespace: str
    name: str
    document: dict[str, Any]
    signature: str
    pods: dict[str, PodState]  # by name
    studies: dict[str, Accepted] = field(default_factory=dict)  # by name
    lost: set[str] = field(default_factory=set)
    """Uids of studies that were deleted, of which the store may not have been told."""
    listed: float = -math.inf  # when pods were listed, by time.monotonic()
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    driver: PlanDriver | None = None
    reporter: Reporter | None = None  # of this driver
    distrusted: set[str] = field(default_factory=set)  # chains, for its drivers
    held: set[int] = field(default_factory=set)  # generations of the lock, for its drivers
    told_newer: set[tuple[str, str]] = field(default_factory=set)
    """Studies, by uid, that say by which message a newer Hippo works on them."""
    version_skew: VersionSkew = field(default_factory=VersionSkew)  # for its drivers
    faults: Faults = field(default_factory=Faults)  # of its studies
    executor: SerialExecutor = field(init=False)  # for its drivers
    failures: int = 0
    outage: asyncio.Event | None = None  # set when the store that failed it is back
    is_over: bool = False  # no study is left
    task: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self.executor = SerialExecutor(f"plan {self.namespace}/{self.name}")

    @property
    def sound(self) -> dict[str, Accepted]:
        """Its studies without those at fault."""
        return self.faults.sound(self.studies)


class Operator:
    """Made in the event loop that it runs in."""

    def __init__(self, api: Api, blobs: Blobs, settings: Settings, metrics: Metrics) -> None:
        self.api = api
        self.settings = settings
        self.metrics = metrics
        self.events = Events(api)
        self.tools = Tools(api, blobs, settings, metrics, self.events.tell)
        self.store_watch = StoreWatch(blobs, metrics)
        self.statuses = StudyStatuses(api)
        self.plans: dict[tuple[str, str], PlanTask] = {}
        self._looked = time.monotonic()  # at all Studies, with success
        self._plan_of: dict[str, PlanTask] = {}  # by uid of the study
        self._pods: dict[tuple[str, str], dict[str, PodState]] = {}  # by namespace and plan
        self._with_chains: set[tuple[str, str]] = set()  # SearchPlans that have some recorded
        self._cluster = settings.cluster_uid
        self._was_overtaken = False  # another operator is at work: wait for its locks to expire
        self._user_trials: dict[str, dict[str, Mapping[str, Any]]] = {}  # by namespace, by name
        self._reception = Reception(api, settings, self.statuses, self.events)
        self._strays = Strays(api)
        self._moving: set[str] = set()  # uids of studies that leave a plan for another
        self._gone: set[str] = set()  # uids of studies deleted since they were listed last
        self._has_begun = asyncio.Event()  # studies were listed
        self._awaited: dict[str, asyncio.Event] = {}
        """By namespace: set once all its studies that there were at the start are known."""
        self._tasks: set[asyncio.Task[None]] = set()

    # -- what watches tell -------------------------------------------------------------------------

    async def study_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A Study as it is now; if it is invalid, its status says why. Raises ApiError."""
        try:
            await self._take_study(document, is_gone=is_gone)
        except Conflict as error:  # it has a later status, of which a watch tells in time
            log.info("study %s: %s", document["metadata"]["name"], error)

    async def _take_study(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        uid = document["metadata"]["uid"]
        if is_gone or document["metadata"].get("deletionTimestamp"):
            self._gone.add(uid)
            self.metrics.forget_study(*_place(document))
            self._forget(uid, document["metadata"]["name"])
            return
        try:
            item = await self._reception.accept(document)
        except ParserFailed as error:
            log.error("study %s: %s", document["metadata"]["name"], error)
            return  # until all are looked at again
        if isinstance(item, Refusal):
            await self._reject(document, item.reason, item.message)
            return
        if uid in self._gone:
            return  # it was listed before it was deleted
        if uid in self._moving or self._begin_move(item):
            return
        task = self._plan_of.get(uid) or self._find_plan(item)
        known = task.studies.get(item.study.name)
        is_new = known is None or known.uid != uid
        if known is not None and not is_new and known.generation > item.generation:
            return  # it was listed before it was edited
        self._plan_of[uid] = task
        task.studies[item.study.name] = item
        if task.driver is None:
            self.statuses.saw(item.document)
        try:
            await self._reception.welcome(item, task.name)
        finally:
            before = (known.generation, known.retry) if known is not None else None
            if is_new or before != (item.generation, item.retry):
                task.wake.set()
        if task.driver is None:  # nobody else tells of it: it has ended, or is still to begin
            status = self.statuses.find(item.document)
            self.metrics.update_study(task.namespace, item.study.name, status)
            best = status.best
            if status.phase in _ENDED and best is not None and best.shown is None:
                # By an earlier version; nobody else writes it ever again.
                best = best.model_copy(update={"shown": show(best.value)})
                await self.statuses.write(item.document, status.model_copy(update={"best": best}))

    def trial_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A Trial: those that users made are requests; those made here are made again if lost."""
        metadata = document["metadata"]
        namespace, labels = metadata["namespace"], metadata.get("labels") or {}
        study, status = (document.get("spec") or {}).get("study", ""), document.get("status")
        if labels.get(names.LABEL_MANAGED_BY) != names.MANAGED_BY:
            known = self._user_trials.setdefault(namespace, {})
            before = known.get(metadata["name"])
            if is_gone:
                known.pop(metadata["name"], None)
            else:
                known[metadata["name"]] = {
                    "metadata": {"name": metadata["name"], "uid": metadata["uid"]},
                    "spec": document.get("spec") or {},
                    "status": status and {"phase": status.get("phase")},
                }
            if is_gone:
                self._clear_way(namespace, metadata["name"])
            if is_gone or before is None or before["spec"] != document.get("spec"):
                self._wake_study(namespace, study)
        elif is_gone:
            task = self._plan_of.get(labels.get(names.LABEL_STUDY_UID, ""))
            index = (document.get("spec") or {}).get("index")
            if task is None or task.namespace != namespace or not isinstance(index, int):
                return
            if task.driver is not None:
                task.driver.trial_lost(study, index)
                task.wake.set()

    def pod_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        metadata = document["metadata"]
        plan = (metadata.get("labels") or {}).get(names.LABEL_PLAN, "")
        pods = self._pods.setdefault((metadata["namespace"], plan), {})
        before = pods.get(metadata["name"])
        if is_gone:
            pods.pop(metadata["name"], None)
        else:
            pods[metadata["name"]] = observe(document)
        task = self.plans.get((metadata["namespace"], plan))
        if task is None and not pods:
            self._pods.pop((metadata["namespace"], plan), None)
        if task is not None and (is_gone or before != pods[metadata["name"]]):
            task.wake.set()

    def plan_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A SearchPlan: chains that are recorded there are to be seen to their end, also if all
        studies have ended; one that was deleted by hand is made again, if it is still wanted.
        """
        metadata = document["metadata"]
        key = (metadata["namespace"], metadata["name"])
        had_chains = key in self._with_chains
        self._with_chains.discard(key)
        if not is_gone and (document.get("status") or {}).get("chains"):
            self._with_chains.add(key)
        task = self.plans.get(key)
        if is_gone:
            self.metrics.forget_plan_status(*key)
        elif task is None or task.driver is None:
            with contextlib.suppress(ValidationError):
                self.metrics.update_plan(*key, read_status(document))
        is_news = is_gone or (key in self._with_chains and not had_chains)
        if task is not None and task.driver is None and is_news:
            task.wake.set()

    # -- studies -----------------------------------------------------------------------------------

    async def _reject(self, document: Mapping[str, Any], reason: str, message: str) -> None:
        is_at_work = document["metadata"]["uid"] in self._plan_of
        await self._reception.reject(document, reason, message, is_at_work=is_at_work)
        if not is_at_work:
            self.metrics.update_study(*_place(document), StudyStatus(phase="Rejected"))

    def _begin_move(self, item: Accepted) -> bool:
        """Whether the study is to leave its plan, for that of another trainer."""
        current = self._plan_of.get(item.uid)
        if current is not None and current.studies[item.study.name].generation > item.generation:
            return False  # it was listed before it was edited
        status = read_study_status(item.document)
        plan = current.name if current is not None else status.plan
        signed = signature(signature_document(item.study.spec.trainer, None))
        if plan is None or not is_plan_name(plan):  # whoever may write statuses may name anything
            return False
        if plan == signed[:PLAN_NAME_DIGITS] or not may_move(status):
            return False
        self._moving.add(item.uid)
        self._forget(item.uid, item.study.name)
        self.spawn(self._move(item, plan), f"study {item.study.name} leaves plan {plan}")
        return True

    async def _move(self, item: Accepted, plan: str) -> None:
        """Take the study out of its plan, and then into the one where it belongs."""
        while True:
            await asyncio.sleep(MOVE_SECONDS)
            try:
                there = await self.api.list(STUDY, item.study.namespace)
                study = next((s for s in there if s["metadata"]["uid"] == item.uid), None)
                if study is None or await self._leave(study, plan):
                    break
            except (ApiError, LockHeld, StoreError) as error:
                log.warning("study %s cannot leave plan %s yet: %s", item.study.name, plan, error)
        self._moving.discard(item.uid)
        if study is not None:
            log.info("study %s has left plan %s: its trainer was edited", item.study.name, plan)
            words = f"nothing was trained in plan {plan}: under another trainer it begins afresh"
            self.events.tell(study, names.REASON_TRAINER_CHANGED, words, False)
            await self.study_changed({**study, "status": {}}, is_gone=False)

    async def _leave(self, study: Mapping[str, Any], plan: str) -> bool:
        """Whether that is done; not while the plan's driver is still at it."""
        namespace, name = _place(study)
        uid = str(study["metadata"]["uid"])
        task = self.plans.get((namespace, plan))
        if task is not None and task.driver is not None:
            if name in task.driver.studies or not task.studies:
                return False
            await task.driver.mark_left(name, uid)
        else:
            holder = build_holder(self.settings.identity)
            await mark_left(self.tools.blobs, f"{namespace}/{plan}", name, uid, holder)
        await take_leave(self.api, study, plan)
        await begin_afresh(self.api, study)
        return True

    def _find_plan(self, item: Accepted) -> PlanTask:
        document = signature_document(item.study.spec.trainer, None)
        signed = signature(document)
        key = (item.study.namespace, signed[:PLAN_NAME_DIGITS])
        task = self.plans.get(key)
        if task is None:
            pods = self._pods.setdefault(key, {})
            task = self.plans[key] = PlanTask(*key, document, signed, pods)
            task.task = self.spawn(self._work(task), f"plan {key[0]}/{key[1]}")
        return task

    def _forget(self, uid: str, name: str) -> None:
        self.statuses.forget(uid)
        self._reception.forget(uid)
        task = self._plan_of.pop(uid, None)
        if task is not None and name in task.studies and task.studies[name].uid == uid:
            del task.studies[name]
            self.metrics.forget_study(task.namespace, name)
            task.lost.add(uid)
            task.wake.set()

    def _wake_study(self, namespace: str, name: str) -> None:
        for task in self.plans.values():
            if task.namespace == namespace and name in task.studies:
                task.wake.set()

    def _clear_way(self, namespace: str, trial: str) -> None:
        for task in self.plans.values():
            if task.namespace == namespace and task.faults.forget_trial(trial):
                task.wake.set()

    # -- one task a plan ---------------------------------------------------------------------------

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
        for plan in self.plans.values():
            if plan.driver is not None:
                leave = plan.driver.release if plan.executor.is_busy else plan.driver.close
                with contextlib.suppress(Exception):
                    await leave()

    async def _work(self, task: PlanTask) -> None:
        await self._has_begun.wait()
        if (begun := self._awaited.get(task.namespace)) is not None:
            await begun.wait()
        while not task.is_over:
            await self._rest(task)
            await self.take_turn(task)

    async def take_turn(self, task: PlanTask) -> None:
        """One round of a plan, whatever comes of it."""
        task.wake.clear()
        task.outage = None
        began = time.monotonic()
        failed = False
        studies = task.sound
        try:
            await self._tell_faults(task)
            if task.driver is None and not self._is_wanted(task):
                task.is_over = await self._settle(task)
                return
            driver = task.driver or await self._open(task, studies)
            task.reporter = task.reporter or Reporter(driver, self.statuses)
            await self._round(task, studies, driver, task.reporter)
            task.failures = 0
            task.told_newer.clear()
        except StudyFault as fault:
            log.error("plan %s/%s: %s", task.namespace, task.name, fault, exc_info=fault)
            await self._drop(task)
            failed = fault.study not in studies
            if not failed:
                task.faults.note(studies[fault.study], fault)
                task.wake.set()
        except Reopen:
            await self._drop(task)
            task.wake.set()
        except LockHeld as error:
            failed = True
            await self._complain(task, names.REASON_LOCKED, str(error), only_new=True)
        except (TakenOver, LockLost) as error:
            failed = self._was_overtaken = True
            log.warning("plan %s/%s: %s", task.namespace, task.name, error)
            await self._drop(task)
        except OtherCluster as error:
            failed = True
            await self._complain(task, names.REASON_OTHER_CLUSTER, str(error))
        except NewerFormat as error:
            failed = True
            await self._drop(task)
            await self._leave_alone(task, str(error))
        except StoreError as error:
            failed = True
            self.metrics.note_store_error(task.namespace, task.name)
            task.outage = self.store_watch.note_failure(began)
            await self._drop(task)
            await self._complain(task, names.REASON_STORE, str(error))
        except ApiError as error:
            failed = True
            await self._drop(task)
            if task.failures:  # not for the first time
                await self._complain(task, names.REASON_API, str(error))
            else:
                log.warning("plan %s/%s: %s", task.namespace, task.name, error)
        except Exception as error:
            failed = True
            log.exception("plan %s/%s: a defect of Hippo", task.namespace, task.name)
            await self._drop(task)
            message = f"a defect of Hippo, see the operator's log: {type(error).__name__}"
            await self._complain(task, names.REASON_DEFECT, message)
        if failed:
            task.failures += 1
        seconds = time.monotonic() - began
        self.metrics.reconciled(task.namespace, task.name, seconds, error=failed)

    async def _rest(self, task: PlanTask) -> None:
        """Until there is something to do; after a failure for a while, whatever happens."""
        if task.failures:
            pause = min(LEAST_PAUSE * 2.0 ** (task.failures - 1), MOST_PAUSE)
            return await rest(pause, task.outage)
        pause = task.driver.pause() if task.driver is not None else self.settings.resync
        with contextlib.suppress(TimeoutError):
            # Not wait_for, which in Python 3.11 forgets that it was cancelled if both come at once.
            async with asyncio.timeout(pause):
                await task.wake.wait()
            await asyncio.sleep(GATHER_SECONDS)

    def _is_wanted(self, task: PlanTask) -> bool:
        """Whether a study has not ended, or a chain of one that has is still recorded."""
        studies = task.sound
        if studies and (task.namespace, task.name) in self._with_chains:
            return True
        return any(self._may_go_on(item) for item in studies.values())

    def _may_go_on(self, item: Accepted) -> bool:
        """Whether a study has not ended, or was edited since."""
        status = self.statuses.find(item.document)
        is_to_retry = item.retry not in (None, status.retried)
        is_edited = status.observed_generation != item.generation
        return status.phase not in _ENDED or is_edited or is_to_retry

    async def _tell_faults(self, task: PlanTask) -> None:
        """Say in the status of each study that is left out why. Raises ApiError."""
        if task.faults.forget_gone(task.studies):
            await self._drop(task)  # the store is told when it is opened
        for name, item in list(task.studies.items()):
            message, before = task.faults.find(item), self.statuses.find(item.document)
            if message is None or before.phase in _ENDED:
                continue
            status = suspended(before, item, task.name, message)
            if await self.statuses.write(item.document, status):
                self.events.tell(item.document, names.REASON_FAULT, message, True)
            self.metrics.update_study(task.namespace, name, status)

    async def _open(self, task: PlanTask, studies: Mapping[str, Accepted]) -> PlanDriver:
        await self._claim(task)
        driver = PlanDriver(
            task.namespace,
            task.name,
            task.document,
            task.signature,
            self.tools,
            task.distrusted,
            task.held,
            task.version_skew,
            task.executor,
        )
        log.info("plan %s/%s: opened for %s", task.namespace, task.name, ", ".join(studies))
        try:
            await driver.open(studies, eagerly=not self._was_overtaken)
        except BaseException:
            with contextlib.suppress(Exception):
                await driver.release()
            raise
        self._was_overtaken = False
        task.driver = driver
        return driver

    async def _round(
        self,
        task: PlanTask,
        studies: Mapping[str, Accepted],
        driver: PlanDriver,
        reporter: Reporter,
    ) -> None:
        if time.monotonic() - task.listed > self.settings.resync:
            await self._list_pods(task)
        trials = self._user_trials.get(task.namespace, {})
        await driver.reconcile(studies, task.pods, trials)
        await reporter.report()
        if driver.is_done and not driver.is_changed:
            log.info("plan %s/%s: all studies have ended", task.namespace, task.name)
            await driver.close()
            task.driver = task.reporter = None  # with all that it knew

    async def _list_pods(self, task: PlanTask) -> None:
        """A watch may miss that a pod is gone, while it is interrupted."""
        before = dict(task.pods)
        selector = f"{names.LABEL_PLAN}={task.name}"
        found = await self.api.list(POD, task.namespace, labels=selector)
        listed = {pod["metadata"]["name"]: observe(pod) for pod in found}
        for name in before.keys() | listed.keys():
            if task.pods.get(name) is not before.get(name):
                continue  # the watch has told of it meanwhile
            if name in listed:
                task.pods[name] = listed[name]
            else:
                task.pods.pop(name, None)
        task.listed = time.monotonic()

    async def resync(self) -> None:
        """Loop forever: take in all Studies, and find deletions that no watch has reported."""
        while True:
            try:
                await self.look_again()
            except ApiError as error:
                log.warning("Studies cannot be looked at: %s", error)
            await asyncio.sleep(self.settings.resync if self._has_begun.is_set() else LEAST_PAUSE)

    async def look_again(self) -> None:
        """Take in all Studies that there are. Raises ApiError if they cannot be listed."""
        known = set(self._plan_of)
        self._gone.clear()
        found = await self.list_studies()
        self._looked = time.monotonic()
        self.metrics.note_idle()
        self.metrics.keep_studies({_place(study) for study in found})
        there = {study["metadata"]["uid"] for study in found}
        self._reception.keep(there)
        for uid in known - there:
            task = self._plan_of.get(uid)
            lost = [n for n, i in task.studies.items() if i.uid == uid] if task else []
            for name in lost:
                self._forget(uid, name)
        by_namespace: dict[str, list[dict[str, Any]]] = {}
        for study in found:
            by_namespace.setdefault(study["metadata"]["namespace"], []).append(study)
        if not self._has_begun.is_set():
            self._awaited = {namespace: asyncio.Event() for namespace in by_namespace}
            self._has_begun.set()
        await asyncio.gather(*(self._take_in(*entry) for entry in by_namespace.items()))
        for namespace in [n for n, trials in self._user_trials.items() if trials]:
            await self._list_user_trials(namespace)
        await self._strays.tell(self._user_trials, self._find_study)

    async def _take_in(self, namespace: str, studies: list[dict[str, Any]]) -> None:
        """Take in listed studies of one namespace, which delays no other namespace."""
        for study in studies:
            self._looked = time.monotonic()
            try:
                await self.study_changed(study, is_gone=False)
            except ApiError as error:
                log.warning("study %s: %s", study["metadata"]["name"], error)
            except Exception:
                log.exception("study %s: a defect of Hippo", study["metadata"]["name"])
        if (begun := self._awaited.pop(namespace, None)) is not None:
            begun.set()

    async def _list_user_trials(self, namespace: str) -> None:
        """Find out which are gone. Raises ApiError."""
        known = dict(self._user_trials[namespace])
        selector = f"{names.LABEL_MANAGED_BY}!={names.MANAGED_BY}"
        found = await self.api.list(TRIAL, namespace, labels=selector)
        there = {trial["metadata"]["uid"] for trial in found}
        for name, document in known.items():
            is_same = self._user_trials[namespace].get(name) is document
            if is_same and document["metadata"]["uid"] not in there:
                del self._user_trials[namespace][name]
                self._clear_way(namespace, name)
                self._wake_study(namespace, document["spec"].get("study", ""))

    def _find_study(self, namespace: str, name: str) -> tuple[Study, bool] | None:
        for task in self.plans.values():
            if task.namespace == namespace and (item := task.studies.get(name)) is not None:
                return item.study, self.statuses.find(item.document).phase in _ENDED
        return None

    def find_problem(self) -> str | None:
        """Why the operator does not work; None if it does, as far as it knows."""
        silence = time.monotonic() - self._looked
        if silence > max(MAX_SILENCE_SECONDS, 3 * self.settings.resync):
            return f"Studies could not be looked at for {silence:.0f} s: see the log"
        return None

    async def list_studies(self) -> list[dict[str, Any]]:
        """All Studies that this operator looks after, from the server itself."""
        namespaces: tuple[str | None, ...] = self.settings.namespaces or (None,)
        lists = [await self.api.list(STUDY, namespace) for namespace in namespaces]
        return [study for found in lists for study in found]

    async def identify(self) -> str:
        """The uid of this cluster. Raises ApiError."""
        if self._cluster is None:
            try:
                found = await self.api.get(NAMESPACE, None, CLUSTER_NAMESPACE)
            except ApiError as error:
                raise ApiError(
                    error.status,
                    f"which cluster this is cannot be told: {error}; let the operator get the"
                    f" namespace {CLUSTER_NAMESPACE}, as the chart does, or set --cluster-uid"
                    " (the chart's store.clusterUid)",
                ) from None
            self._cluster = str(found["metadata"]["uid"])
        return self._cluster

    async def _claim(self, task: PlanTask) -> None:
        """Raises OtherCluster before anything is done to those of another cluster."""
        cluster, lost = await self.identify(), frozenset(task.lost)

        def is_known(uid: str) -> bool:
            return uid in lost or self.is_known(uid)

        blobs = self.tools.blobs
        await asyncio.to_thread(claim, blobs, task.namespace, cluster, is_known=is_known)

    async def _is_ours(self, task: PlanTask) -> bool:
        try:
            await self._claim(task)
        except OtherCluster as error:
            log.warning("plan %s/%s: %s", task.namespace, task.name, error)
            return False
        return True

    def is_open(self, path: str) -> bool:
        """Whether the plan at this path of the store is being worked on here."""
        namespace, _, name = path.partition("/")
        task = self.plans.get((namespace, name))
        return task is not None and task.driver is not None

    def is_known(self, uid: str) -> bool:
        """Whether there is a study of this uid that was accepted."""
        return uid in self._plan_of or uid in self._moving

    async def _settle(self, task: PlanTask) -> bool:
        """Nothing is to be trained. A plan of which no study is left is forgotten: True."""
        if task.lost and await self._is_ours(task):
            there = await self.api.list(STUDY, task.namespace)
            live = {study["metadata"]["uid"] for study in there}
            path = f"{task.namespace}/{task.name}"
            holder = build_holder(self.settings.identity)
            await asyncio.to_thread(mark_missing, self.tools.blobs, path, live, holder)
        task.lost.clear()
        if task.studies:
            return False
        self.plans.pop((task.namespace, task.name), None)
        if not task.pods:
            self._pods.pop((task.namespace, task.name), None)
        self.metrics.forget_plan(task.namespace, task.name)
        return True

    async def _drop(self, task: PlanTask) -> None:
        """Forget all that the driver knew; pods go on."""
        driver, task.driver, task.reporter = task.driver, None, None
        if driver is not None:
            with contextlib.suppress(Exception):
                await driver.release()

    async def _complain(
        self, task: PlanTask, reason: str, message: str, *, only_new: bool = False
    ) -> None:
        """Say in statuses what keeps the plan; ``only_new``: of others somebody else tells."""
        log.warning("plan %s/%s: %s", task.namespace, task.name, message)
        for item in task.sound.values():
            status = self.statuses.find(item.document)
            if status.phase in _ENDED or (only_new and status.phase != "Pending"):
                continue
            changed = status.model_copy()
            changed.message, changed.plan = message, task.name
            changed.conditions = set_condition(
                changed.conditions,
                names.PROGRESSING,
                False,
                reason=reason,
                message=message,
                now=time.time(),
                generation=item.generation,
            )
            with contextlib.suppress(ApiError):
                if await self.statuses.write(item.document, changed):
                    self.events.tell(item.document, reason, message, True)

    async def _leave_alone(self, task: PlanTask, message: str) -> None:
        """Say that a newer Hippo works on the plan. Only once: a newer operator may be at work and
        clear the condition.
        """
        log.warning("plan %s/%s: %s", task.namespace, task.name, message)
        place = (task.namespace, task.name)
        for item in list(task.studies.values()):
            self.events.tell(item.document, names.REASON_NEWER, message, True)
            if (item.uid, message) in task.told_newer:
                continue
            with contextlib.suppress(ApiError):  # then at the next attempt
                await mark_study(self.api, item.document, message)
                await mark_plan(self.api, *place, message)
                task.told_newer.add((item.uid, message))


def _place(document: Mapping[str, Any]) -> tuple[str, str]:
    return document["metadata"]["namespace"], document["metadata"]["name"]
