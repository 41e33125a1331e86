"""Takes up a plan from what is durable: the store, its SearchPlan, and the pods at work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hippo.engine.events import Adopted
from hippo.kube import names
from hippo.kube.client import Api
from hippo.kube.pods.state import observe
from hippo.kube.reconciler.context import PlanContext, PlanIdentity
from hippo.kube.reconciler.errors import CANNOT_BE, NewerPod, Reopen
from hippo.kube.resources import POD
from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION, Assignment
from hippo.protocol.reports import Ended, Report
from hippo.store import (
    NewerFormat,
    Unreadable,
)
from hippo.store.encoding import decode


async def check_pods(api: Api, identity: PlanIdentity) -> None:
    """Raises NewerPod if a pod at work does what this operator cannot read, and ApiError."""
    selector = f"{names.LABEL_PLAN}={identity.name}"
    for pod in await api.list(POD, identity.namespace, labels=selector):
        _check_pod(pod)


async def adopt(
    context: PlanContext, pods: Mapping[str, Mapping[str, Any]], distrusted: set[str]
) -> list[Ended]:
    """Take up the chains that were launched before; returns how some have ended meanwhile.

    ``pods``: those of recorded chains. A chain whose reports cannot be is added to ``distrusted``,
    and Reopen is raised.
    """
    records = context.session.records
    context.reports.ended(sorted(records.unfolded - context.chains.records.keys()))
    ended: list[Ended] = []
    for chain, record in list(context.chains.records.items()):
        told, pod = records.reports.get(chain, []), pods.get(chain)
        if pod is not None:
            _check_pod(pod)
        found = _read_assignment(pod) if pod is not None else None
        assignment = found if isinstance(found, Assignment) else None
        askers = (record.study, *(assignment.studies if assignment is not None else ()))
        lender = next((name for name in askers if name in context.engine.studies), None)
        is_broken = chain in records.broken or chain in distrusted
        if assignment is None or lender is None or is_broken:
            has_pod = pod is not None
            await _give_up(context, chain, is_broken=is_broken, has_pod=has_pod, told=told)
        else:
            try:
                await _adopt_chain(context, chain, assignment, lender, told)
            except _CannotBeFollowed:
                distrusted.add(chain)
                raise Reopen from None
            if told and isinstance(told[-1], Ended):
                ended.append(told[-1])
    return ended


async def _give_up(
    context: PlanContext, chain: str, *, is_broken: bool, has_pod: bool, told: list[Report]
) -> None:
    """End a chain that cannot be followed, or has nobody; others go on from what it saved."""
    if is_broken:
        await context.chains.remove(chain, grace_seconds=0)
    elif has_pod:
        await context.chains.remove(chain)
    elif not told and not await asyncio.to_thread(context.session.store.bar, chain):
        raise Reopen  # its pod has come meanwhile
    context.chains.forget([chain])  # what it has left is in the store
    context.reports.ended([chain] if told else [])


class _CannotBeFollowed(Exception):
    """A chain's records contradict each other."""


async def _adopt_chain(
    context: PlanContext, chain: str, assignment: Assignment, lender: str, told: list[Report]
) -> None:
    """Raises _CannotBeFollowed."""
    try:
        control = await asyncio.to_thread(context.session.store.read_control, chain)
    except Unreadable:  # what it was told last is not known
        raise _CannotBeFollowed from None
    alive = tuple(report for report in told if not isinstance(report, Ended))
    try:
        await context.pump.feed(Adopted(assignment, lender, control, alive, more_follow=True))
    except CANNOT_BE:
        raise _CannotBeFollowed from None
    context.reports.expect(chain, len(told))


def _read_assignment(pod: Mapping[str, Any]) -> Assignment | NewerFormat | None:
    """The assignment that a pod was launched with; None if it is missing or damaged. Returns, not
    raises, NewerFormat if a newer Hippo launched it: by its format, or by fields not known here.
    """
    text = (pod["metadata"].get("annotations") or {}).get(names.ANNOTATION_ASSIGNMENT, "")
    what, newest = "the assignment", TIMED_ASSIGNMENT_VERSION
    try:
        return decode(Assignment.model_validate_json, text.encode(), what, newest=newest)
    except NewerFormat as error:
        return error
    except Unreadable as error:
        return NewerFormat(what, newest, newest) if _has_more(error.__context__) else None


def _has_more(error: BaseException | None) -> bool:
    """Whether a record was refused for a field that is not known."""
    known = error.errors(include_url=False) if isinstance(error, ValidationError) else []
    return any(item["type"] == "extra_forbidden" for item in known)


def _check_pod(pod: Mapping[str, Any]) -> None:
    """Raises NewerPod for a pod at work that a newer Hippo launched: it is not ours to end. What
    one that has ended did is in the store.
    """
    if isinstance(_read_assignment(pod), NewerFormat) and not observe(pod).is_finished:
        raise NewerPod(str(pod["metadata"]["name"]))
