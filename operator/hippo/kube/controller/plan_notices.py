"""Tells in the statuses of a plan's studies why no round of it succeeds."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.client import ApiError
from hippo.kube.controller.newer_format import mark_plan, mark_study
from hippo.kube.controller.study_faults import Faults, suspended
from hippo.kube.reconciler.context import Tools
from hippo.kube.status.conditions import set_condition
from hippo.kube.status.models import ENDED
from hippo.kube.status.written import StudyStatuses

log = logging.getLogger(__name__)


class PlanNotices:
    """Writes the statuses of one plan's studies when something keeps it from going on."""

    def __init__(self, namespace: str, name: str, tools: Tools, statuses: StudyStatuses) -> None:
        self._place = (namespace, name)
        self._tools = tools
        self._statuses = statuses
        self._told_newer: set[tuple[str, str]] = set()
        """Studies, by uid, that say by which message a newer Hippo works on them."""

    def clear(self) -> None:
        """A round has succeeded."""
        self._told_newer.clear()

    async def tell_faults(self, studies: Mapping[str, Accepted], faults: Faults) -> None:
        """Say in the status of each study that is left out why. Raises ApiError."""
        for name, item in list(studies.items()):
            message, before = faults.find(item), self._statuses.find(item.document)
            if message is None or before.phase in ENDED:
                continue
            status = suspended(before, item, self._place[1], message, now=self._tools.unix_clock())
            if await self._statuses.write(item.document, status):
                self._tools.tell(item.document, names.REASON_FAULT, message, True)
            self._tools.metrics.update_study(self._place[0], name, status)

    async def complain(
        self, studies: Iterable[Accepted], reason: str, message: str, *, only_new: bool = False
    ) -> None:
        """Say in statuses what keeps the plan. ``only_new``: another operator tells of studies that
        have begun.
        """
        log.warning("plan %s/%s: %s", *self._place, message)
        for item in studies:
            status = self._statuses.find(item.document)
            if status.phase in ENDED or (only_new and status.phase != "Pending"):
                continue
            changed = status.model_copy()
            changed.message, changed.plan = message, self._place[1]
            changed.conditions = set_condition(
                changed.conditions,
                names.PROGRESSING,
                False,
                reason=reason,
                message=message,
                now=self._tools.unix_clock(),
                generation=item.generation,
            )
            with contextlib.suppress(ApiError):
                if await self._statuses.write(item.document, changed):
                    self._tools.tell(item.document, reason, message, True)

    async def tell_newer(self, studies: Iterable[Accepted], message: str) -> None:
        """Say that a newer Hippo works on the plan. Only once: a newer operator may be at work and
        clear the condition.
        """
        log.warning("plan %s/%s: %s", *self._place, message)
        api, now = self._tools.api, self._tools.unix_clock()
        for item in studies:
            self._tools.tell(item.document, names.REASON_NEWER, message, True)
            if (item.uid, message) in self._told_newer:
                continue
            with contextlib.suppress(ApiError):  # then at the next attempt
                await mark_study(api, item.document, message, now=now)
                await mark_plan(api, *self._place, message, now=now)
                self._told_newer.add((item.uid, message))
