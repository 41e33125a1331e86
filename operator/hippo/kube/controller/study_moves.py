"""Studies on their way from the plan of one trainer to that of another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Protocol

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.client import ApiError
from hippo.kube.controller.plan_change import begin_afresh, mark_left, may_move, take_leave
from hippo.kube.controller.plan_worker import PlanWorker
from hippo.kube.reconciler.context import Tools
from hippo.kube.resources import STUDY
from hippo.kube.status.written import read_study_status
from hippo.model import signature, signature_document
from hippo.store import LockHeld, StoreError
from hippo.store.catalog import PLAN_NAME_DIGITS, is_plan_name

log = logging.getLogger(__name__)

MOVE_SECONDS = 0.5
"""Seconds between two looks at whether a study has left its plan."""


class Plans(Protocol):
    """Knows the plan of each study."""

    def find_worker(self, namespace: str, plan: str) -> PlanWorker | None:
        """The worker of a plan; None if none is needed."""

    def forget_study(self, uid: str, name: str) -> None:
        """Take a study out of its plan."""

    async def study_changed(self, document: Mapping[str, Any], *, is_gone: bool) -> None:
        """A Study as it is now. Raises ApiError."""


class StudyMoves:
    """Takes studies whose trainer was edited out of their plan, and then into the one where they
    belong.
    """

    def __init__(
        self,
        tools: Tools,
        plans: Plans,
        spawn: Callable[[Coroutine[Any, Any, None], str], object],
    ) -> None:
        """``spawn``: start a task of this name."""
        self._tools = tools
        self._plans = plans
        self._spawn = spawn
        self._moving: set[str] = set()  # by uid

    def is_moving(self, uid: str) -> bool:
        """Whether the study is between two plans."""
        return uid in self._moving

    def begin(self, item: Accepted, current: PlanWorker | None) -> bool:
        """Whether the study is to leave its plan for that of another trainer; if so, it begins to.

        ``current``: the worker of the plan that it is in.
        """
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
        self._plans.forget_study(item.uid, item.study.name)
        self._spawn(self._move(item, plan), f"study {item.study.name} leaves plan {plan}")
        return True

    async def _move(self, item: Accepted, plan: str) -> None:
        while True:
            await asyncio.sleep(MOVE_SECONDS)
            try:
                there = await self._tools.api.list(STUDY, item.study.namespace)
                study = next((s for s in there if s["metadata"]["uid"] == item.uid), None)
                if study is None or await self._leave(study, plan):
                    break
            except (ApiError, LockHeld, StoreError) as error:
                log.warning("study %s cannot leave plan %s yet: %s", item.study.name, plan, error)
        self._moving.discard(item.uid)
        if study is not None:
            log.info("study %s has left plan %s: its trainer was edited", item.study.name, plan)
            words = f"nothing was trained in plan {plan}: under another trainer it begins afresh"
            self._tools.tell(study, names.REASON_TRAINER_CHANGED, words, False)
            await self._plans.study_changed({**study, "status": {}}, is_gone=False)

    async def _leave(self, study: Mapping[str, Any], plan: str) -> bool:
        """Whether the study has left; not while the plan's reconciler is still at it."""
        tools = self._tools
        namespace, name = study["metadata"]["namespace"], study["metadata"]["name"]
        uid = str(study["metadata"]["uid"])
        worker = self._plans.find_worker(namespace, plan)
        if worker is not None and worker.reconciler is not None:
            if name in worker.reconciler.studies or not worker.studies:
                return False
            await worker.reconciler.mark_left(name, uid)
        else:
            holder, now = tools.build_holder(tools.settings.identity), tools.unix_clock()
            await mark_left(tools.blobs, f"{namespace}/{plan}", name, uid, holder, now=now)
        await take_leave(tools.api, study, plan)
        await begin_afresh(tools.api, study)
        return True
