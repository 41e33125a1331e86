"""Statuses, conditions and Events of one plan: views, written once for each change."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from hippo.kube import names
from hippo.kube.client import STUDY, Api, Conflict, NotFound, Refused, StatusPrecondition
from hippo.kube.reconciler.reconciler import Accepted, PlanDriver
from hippo.kube.serial_executor import NoThread
from hippo.kube.status.builder import fill_plan_status, fill_study_status
from hippo.kube.status.conditions import find_condition, format_time, set_condition
from hippo.kube.status.models import Condition, StudyStatus
from hippo.lifecycles import StudyState, blame
from hippo.model.words import counted

log = logging.getLogger(__name__)

EVERY_SECONDS = 5.0
"""Between two looks at what a running plan's statuses say; at once if a condition changes."""

_REASONS = {
    StudyState.RUNNING: names.REASON_RUNNING,
    StudyState.SUSPENDED: names.REASON_SUSPENDED,
    StudyState.SUCCEEDED: names.REASON_SUCCEEDED,
    StudyState.FAILED: names.REASON_FAILED,
}


@dataclass(frozen=True, slots=True)
class _Known:
    """A status as it was written last, and what the API server holds of it."""

    status: StudyStatus
    precondition: StatusPrecondition

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> _Known:
        return cls(read_study_status(document), StatusPrecondition.read(document))


@dataclass(eq=False)
class StudyStatuses:
    """The statuses of studies, valid or not, as they were written last."""

    api: Api
    _known: dict[str, _Known] = field(default_factory=dict)  # by uid

    def find(self, document: Mapping[str, Any]) -> StudyStatus:
        """The status of this Study, which nobody may change in place."""
        return self._find(document).status

    def _find(self, document: Mapping[str, Any]) -> _Known:
        uid = document["metadata"]["uid"]
        if uid not in self._known:
            self._known[uid] = _Known.read(document)
        return self._known[uid]

    async def write(self, document: Mapping[str, Any], status: StudyStatus) -> bool:
        """Whether there was anything to write. Raises ApiError; Conflict if the study has another
        phase than is known here: an operator that was overtaken ends here.
        """
        known, metadata = self._find(document), document["metadata"]
        if status == known.status:
            return False
        name, precondition = metadata["name"], StatusPrecondition(True, status.phase)
        try:
            await self.api.set_status(
                STUDY, metadata["namespace"], name, status, precondition=known.precondition
            )
        except NotFound:
            return False
        except Conflict:
            self.forget(metadata["uid"])  # the cluster knows better
            raise
        except Refused as error:  # of an object that a later CRD would not take
            log.warning("the status of study %s cannot be written: %s", name, error)
            precondition = known.precondition
        self._known[metadata["uid"]] = _Known(status, precondition)
        return True

    def saw(self, document: Mapping[str, Any]) -> None:
        """What the cluster says, while nobody writes here: another operator may."""
        self._known[document["metadata"]["uid"]] = _Known.read(document)

    def forget(self, uid: str) -> None:
        self._known.pop(uid, None)


class Reporter:
    """Writes what the driver of a plan knows."""

    def __init__(self, driver: PlanDriver, statuses: StudyStatuses) -> None:
        self._driver = driver
        self._statuses = statuses
        self._due = 0.0
        self._problems: dict[str, tuple[str, str] | None] = {}  # by study, as they were told

    async def report(self) -> None:
        """Write what has changed, if it is due. Raises ApiError, TakenOver."""
        driver = self._driver
        now = driver.tools.clock()
        problems = {name: self._find_problem(name) for name in driver.studies}
        is_news = driver.is_changed or problems != self._problems
        if now < self._due and not is_news:
            if driver.is_behind:
                await driver.write_trials()
            return
        self._due, driver.is_changed, self._problems = now + EVERY_SECONDS, False, problems
        for name, item in list(driver.studies.items()):
            before = self._statuses.find(item.document)
            with blame(name, NoThread):
                status = await driver.executor.run(self._build, name, item, before)
            if await self._statuses.write(item.document, status):
                self._tell(item, before, status)
            driver.tools.metrics.update_study(item.study.namespace, name, status)
        view = await driver.executor.run(
            fill_plan_status, driver.plan.status, driver.engine, list(driver.studies)
        )
        view.conditions = self._plan_conditions(view.conditions)
        if view != driver.plan.status:
            driver.plan.status = view
            await driver.plan.write()
        driver.tools.metrics.update_plan(driver.namespace, driver.name, view)
        await driver.write_trials()
        await driver.note_costs()

    def _build(self, name: str, item: Accepted, before: StudyStatus) -> StudyStatus:
        driver = self._driver
        run = driver.engine.studies[name]
        now = time.time()
        status = fill_study_status(before, driver.engine, run)
        status.plan = driver.name
        status.observed_generation = item.generation
        status.started_at = status.started_at or format_time(now)
        status.retried = driver.session.documents.get(name, {}).get("retried")
        if not run.state.is_final:
            status.ended_at = None
        elif status.ended_at is None:
            status.ended_at = format_time(now)
        status.conditions = self._conditions(name, item, status.conditions, now)
        problem, trouble = self._find_problem(name), driver.engine.find_trouble(name)
        if run.state is StudyState.RUNNING and problem is not None:
            status.message = problem[1]
        elif run.state is StudyState.RUNNING and trouble is not None:
            status.message = trouble.message
        elif run.state is StudyState.RUNNING and (stall := self._find_stall(name)) is not None:
            status.message = stall
        return status

    def _conditions(
        self, name: str, item: Accepted, conditions: list[Condition], now: float
    ) -> list[Condition]:
        driver = self._driver
        run = driver.engine.studies[name]
        state, message = run.state, run.message
        problem = self._find_problem(name)
        generation = item.generation

        def put(type_: str, is_true: bool, reason: str, message: str = "") -> None:
            nonlocal conditions
            conditions = set_condition(
                conditions,
                type_,
                is_true,
                reason=reason,
                message=message,
                now=now,
                generation=generation,
            )

        put(names.ACCEPTED, True, names.REASON_VALID)
        if state is StudyState.RUNNING and problem is not None:
            put(names.PROGRESSING, False, *problem)
        else:
            put(names.PROGRESSING, state is StudyState.RUNNING, _REASONS[state], message)
        put(names.SUSPENDED, state is StudyState.SUSPENDED, _REASONS[state])
        succeeded, failed = state is StudyState.SUCCEEDED, state is StudyState.FAILED
        before = conditions
        put(names.COMPLETE, succeeded, _why_not(names.COMPLETE, before, state), message)
        put(names.FAILED, failed, _why_not(names.FAILED, before, state), message * failed)
        stall = self._find_stall(name)
        if stall is not None:
            put(names.STALLED, True, names.REASON_NO_STEP, stall)
        elif find_condition(conditions, names.STALLED) is not None:
            put(names.STALLED, False, _REASONS[state])
        if name in driver.inexact:
            put(
                names.NON_DETERMINISTIC,
                True,
                names.NON_DETERMINISTIC,
                "a step was trained twice with different results: find the cause with hippo verify",
            )
        return conditions

    def _find_problem(self, name: str) -> tuple[str, str] | None:
        """Why nothing goes on with a study, if so."""
        driver = self._driver
        if driver.watch.problem is not None:
            return driver.watch.problem
        trouble = driver.engine.find_trouble(name)
        if trouble is not None and trouble.is_store:
            return names.REASON_STORE, trouble.message
        own = [chain for chain in driver.engine.chains.values() if name in chain.studies]
        waiting = [
            driver.watch.waiting[chain.name] for chain in own if chain.name in driver.watch.waiting
        ]
        if waiting and len(waiting) == len(own):
            more = f" ({len(waiting)} pods wait)" if len(waiting) > 1 else ""
            return names.REASON_WAITING, f"{waiting[0]}{more}"
        return self._find_better(name) if not own else None

    def _find_better(self, name: str) -> tuple[str, str] | None:
        """Whose pods wait for room, if that is why a study has none."""
        engine = self._driver.engine
        queued = {
            chain.study
            for chain in engine.chains.values()
            if chain.name in self._driver.watch.queued
        }
        priority = engine.studies[name].study.spec.priority
        better = [n for n in queued if engine.studies[n].study.spec.priority > priority]
        if not better:
            return None
        message = f"there is no room for its pods: study {min(better)} has a higher priority"
        return names.REASON_WAITING, f"{message}, and its pods wait for room first"

    def _find_stall(self, name: str) -> str | None:
        """Which of its chains seem to hang, if any do."""
        found = [stall for stall in self._driver.stalls.found.values() if name in stall.studies]
        if not found:
            return None
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        return f"{found[0].text}{more}"

    def _plan_conditions(self, conditions: list[Condition]) -> list[Condition]:
        driver = self._driver
        problem = driver.watch.problem
        is_active = bool(driver.engine.chains)
        reason, message = problem or (
            (names.REASON_RUNNING, "") if is_active else (names.COMPLETE, "")
        )
        return set_condition(
            conditions,
            names.PROGRESSING,
            is_active and problem is None,
            reason=reason,
            message=message,
            now=time.time(),
        )

    def _tell(self, item: Accepted, before: StudyStatus, status: StudyStatus) -> None:
        """Events on transitions."""
        tell = self._driver.tools.tell
        if status.phase != before.phase:
            resumed = before.phase == "Suspended" and status.phase in ("Running", "Succeeded")
            if resumed:  # it may have ended since
                tell(item.document, names.REASON_RESUMED, "it goes on", False)
            if before.phase in ("Succeeded", "Failed") and status.phase in ("Running", "Suspended"):
                why = self._driver.reopened.get(item.study.name, "it goes on")
                tell(item.document, names.REASON_REOPENED, why, False)
            elif status.phase == "Running":
                if not resumed:
                    tell(item.document, status.phase, _describe(item, status), False)
            elif status.phase == "Suspended":
                tell(item.document, status.phase, "what runs is saved and stops", False)
            elif status.phase is not None:
                tell(item.document, status.phase, status.message, status.phase == "Failed")
        stalled = find_condition(status.conditions, names.STALLED)
        known = find_condition(before.conditions, names.STALLED)
        is_news = known is None or known.status != "True"
        if stalled is not None and stalled.status == "True" and is_news:
            tell(item.document, stalled.reason, stalled.message, True)
        was = find_condition(before.conditions, names.PROGRESSING)
        now_ = find_condition(status.conditions, names.PROGRESSING)
        if now_ is None or now_.status == "True" or status.phase != "Running":
            return
        if was is None or was.status == "True" or _kind_of(was) != _kind_of(now_):
            tell(item.document, now_.reason, now_.message, True)


def _why_not(type_: str, conditions: list[Condition], state: StudyState) -> str:
    """The reason of Complete or Failed: of one that did hold, that the study goes on."""
    before = find_condition(conditions, type_)
    if state.is_final or before is None:
        return _REASONS[state]
    did_hold = before.status == "True" or before.reason == names.REASON_REOPENED
    return names.REASON_REOPENED if did_hold else _REASONS[state]


def read_study_status(document: Mapping[str, Any]) -> StudyStatus:
    """The status that a Study carries; one that cannot be read is written anew."""
    try:
        return StudyStatus.model_validate(document.get("status") or {})
    except ValidationError:
        return StudyStatus()


_FIGURES = re.compile(r" \(\d+ pods wait\)$|\d+")


def _kind_of(condition: Condition) -> tuple[str, str]:
    """What it is about: as pods come and go, and a quota fills, only figures change."""
    return condition.reason, _FIGURES.sub("", condition.message)


def _describe(item: Accepted, status: StudyStatus) -> str:
    trials = status.trials.total if status.trials is not None else 0
    steps = counted(item.study.spec.steps, "step")
    return f"{counted(trials, 'trial')} of {steps}; plan {status.plan}"
