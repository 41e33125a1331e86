"""The status and conditions of a study, and the Events on what has changed in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from hippo.kube import names
from hippo.kube.accepted_study import Accepted
from hippo.kube.reconciler.snapshot import Snapshot
from hippo.kube.status.builder import fill_study_status
from hippo.kube.status.conditions import find_condition, format_time, set_condition
from hippo.kube.status.models import Condition, StudyStatus
from hippo.lifecycles import StudyState
from hippo.model.words import counted

_REASONS = {
    StudyState.RUNNING: names.REASON_RUNNING,
    StudyState.SUSPENDED: names.REASON_SUSPENDED,
    StudyState.SUCCEEDED: names.REASON_SUCCEEDED,
    StudyState.FAILED: names.REASON_FAILED,
}


def build_study_status(
    snapshot: Snapshot, name: str, item: Accepted, before: StudyStatus, *, now: float
) -> StudyStatus:
    """The status of a study; ``before`` is what it was, ``now`` Unix time."""
    run = snapshot.engine.studies[name]
    status = fill_study_status(before, snapshot.engine, run)
    status.plan = snapshot.name
    status.observed_generation = item.generation
    status.started_at = status.started_at or format_time(now)
    status.retried = snapshot.documents.get(name, {}).get("retried")
    if not run.state.is_final:
        status.ended_at = None
    elif status.ended_at is None:
        status.ended_at = format_time(now)
    status.conditions = _build_conditions(snapshot, name, item, status.conditions, now)
    problem, trouble = snapshot.find_problem(name), snapshot.engine.find_trouble(name)
    if run.state is StudyState.RUNNING and problem is not None:
        status.message = problem[1]
    elif run.state is StudyState.RUNNING and trouble is not None:
        status.message = trouble.message
    elif run.state is StudyState.RUNNING and (stall := snapshot.find_stall(name)) is not None:
        status.message = stall
    return status


def _build_conditions(
    snapshot: Snapshot, name: str, item: Accepted, conditions: list[Condition], now: float
) -> list[Condition]:
    run = snapshot.engine.studies[name]
    state, message = run.state, run.message
    problem = snapshot.find_problem(name)
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
    stall = snapshot.find_stall(name)
    if stall is not None:
        put(names.STALLED, True, names.REASON_NO_STEP, stall)
    elif find_condition(conditions, names.STALLED) is not None:
        put(names.STALLED, False, _REASONS[state])
    if name in snapshot.inexact:
        put(
            names.NON_DETERMINISTIC,
            True,
            names.NON_DETERMINISTIC,
            "a step was trained twice with different results: find the cause with hippo verify",
        )
    return conditions


def _why_not(type_: str, conditions: list[Condition], state: StudyState) -> str:
    """The reason of Complete or Failed: of one that did hold, that the study goes on."""
    before = find_condition(conditions, type_)
    if state.is_final or before is None:
        return _REASONS[state]
    did_hold = before.status == "True" or before.reason == names.REASON_REOPENED
    return names.REASON_REOPENED if did_hold else _REASONS[state]


def tell_transition(
    snapshot: Snapshot,
    item: Accepted,
    before: StudyStatus,
    status: StudyStatus,
    tell: Callable[[Mapping[str, Any], str, str, bool], None],
) -> None:
    """Post Events on what has changed for a study."""
    if status.phase != before.phase:
        resumed = before.phase == "Suspended" and status.phase in ("Running", "Succeeded")
        if resumed:  # it may have ended since
            tell(item.document, names.REASON_RESUMED, "it goes on", False)
        if before.phase in ("Succeeded", "Failed") and status.phase in ("Running", "Suspended"):
            why = snapshot.reopened.get(item.study.name, "it goes on")
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


_FIGURES = re.compile(r" \(\d+ pods wait\)$|\d+")


def _kind_of(condition: Condition) -> tuple[str, str]:
    """The subject of a condition: as pods come and go, and a quota fills, only figures change."""
    return condition.reason, _FIGURES.sub("", condition.message)


def _describe(item: Accepted, status: StudyStatus) -> str:
    trials = status.trials.total if status.trials is not None else 0
    steps = counted(item.study.spec.steps, "step")
    return f"{counted(trials, 'trial')} of {steps}; plan {status.plan}"
