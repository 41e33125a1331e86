"""Writes the statuses of one plan: views, written once for each change."""

from __future__ import annotations

import logging
from collections.abc import Collection

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.reconciler.context import Tools
from hippo.kube.reconciler.snapshot import Snapshot
from hippo.kube.reconciler.study_status import build_study_status, tell_transition
from hippo.kube.serial_executor import NoThread, SerialExecutor
from hippo.kube.status.builder import fill_plan_status
from hippo.kube.status.conditions import set_condition
from hippo.kube.status.models import Condition, SearchPlanStatus, StudyStatus
from hippo.kube.status.written import StudyStatuses
from hippo.lifecycles import blame

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""Between two looks at what a running plan's statuses say; at once if a condition changes."""


class StatusWriter:
    """Writes the statuses of one plan's studies, and makes that of its SearchPlan."""

    def __init__(self, tools: Tools, executor: SerialExecutor, statuses: StudyStatuses) -> None:
        self._tools = tools
        self._executor = executor
        self._statuses = statuses
        self._due = 0.0
        self._problems: dict[str, tuple[str, str] | None] = {}  # by study, as they were told
        self.held_back: frozenset[str] = frozenset()
        """Studies that have ended, and do not say so before their Trials do."""

    def is_due(self, snapshot: Snapshot, *, has_changed: bool) -> bool:
        """Whether statuses are to be written now; if so, the caller does. ``has_changed``:
        something has happened that a person waits for.
        """
        now = self._tools.clock()
        problems = {name: snapshot.find_problem(name) for name in snapshot.studies}
        if now < self._due and not has_changed and problems == self._problems:
            return False
        self._due, self._problems = now + EVERY_SECONDS, problems
        return True

    async def write_studies(self, snapshot: Snapshot, *, behind: Collection[str]) -> None:
        """Write what has changed, with Events on transitions. Raises ApiError, StudyFault.

        ``behind``: studies of which statuses of Trials are still to be written.
        """
        ended = {name for name in behind if snapshot.engine.studies[name].state.is_final}
        self.held_back = frozenset(ended)
        for name, item in snapshot.studies.items():
            if name in ended:
                continue
            before = self._statuses.find(item.document)
            with blame(name, NoThread):
                status = await self._executor.run(self._build, snapshot, name, item, before)
            if await self._statuses.write(item.document, status):
                tell_transition(snapshot, item, before, status, self._tools.tell)
            self._tools.metrics.update_study(item.study.namespace, name, status)

    def _build(
        self, snapshot: Snapshot, name: str, item: Accepted, before: StudyStatus
    ) -> StudyStatus:
        return build_study_status(snapshot, name, item, before, now=self._tools.unix_clock())

    async def build_plan_status(self, snapshot: Snapshot) -> SearchPlanStatus:
        """The status of the SearchPlan as it is to be; the chains it records stay."""
        view = await self._executor.run(
            fill_plan_status, snapshot.plan_status, snapshot.engine, list(snapshot.studies)
        )
        now = self._tools.unix_clock()
        view.conditions = _build_plan_conditions(snapshot, view.conditions, now)
        return view


def _build_plan_conditions(
    snapshot: Snapshot, conditions: list[Condition], now: float
) -> list[Condition]:
    problem = snapshot.problem
    is_active = bool(snapshot.engine.chains)
    reason, message = problem or ((names.REASON_RUNNING, "") if is_active else (names.COMPLETE, ""))
    return set_condition(
        conditions,
        names.PROGRESSING,
        is_active and problem is None,
        reason=reason,
        message=message,
        now=now,
    )
