"""Marks studies and SearchPlans that a newer Hippo works on; this operator leaves them alone.

A newer operator's status may have fields that this one does not know. So it is not read into a
model and written back: only the condition and, in a study, the message change. The newer operator
writes both again once it is back.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from hippo.kube import names
from hippo.kube.client import Api, NotFound
from hippo.kube.resources import SEARCH_PLAN, STUDY, Document, dump
from hippo.kube.status.bounding import bound_message
from hippo.kube.status.conditions import set_condition
from hippo.kube.status.models import ENDED, Condition


async def mark_study(api: Api, study: Mapping[str, Any], message: str, *, now: float) -> bool:
    """Set the condition NewerFormat. Returns whether the status changed: a study that has ended, or
    says so already, stays as it is. Raises ApiError; Conflict if ``study`` is out of date.
    """
    metadata, status = study["metadata"], study.get("status") or {}
    if status.get("phase") in ENDED:
        return False
    conditions = _set_progressing(status, message, int(metadata["generation"]), now=now)
    if conditions is None:
        return False
    changes = {"conditions": conditions, "message": bound_message(message)}
    version = metadata["resourceVersion"]
    place = (metadata["namespace"], metadata["name"])
    try:
        await api.patch_status(STUDY, *place, changes, version=version)
    except NotFound:
        return False
    return True


async def mark_plan(api: Api, namespace: str, name: str, message: str, *, now: float) -> None:
    """The same in the SearchPlan, if there is one. Raises ApiError."""
    try:
        found = await api.get(SEARCH_PLAN, namespace, name)
        status = found.get("status") or {}
        conditions = _set_progressing(status, message, now=now)
        if conditions is not None:
            body = {**found, "status": {**status, "conditions": conditions}}
            await api.replace_status(SEARCH_PLAN, namespace, name, body)
    except NotFound:
        return


def _set_progressing(
    status: Mapping[str, Any], message: str, generation: int | None = None, *, now: float
) -> list[Document] | None:
    """The new conditions; None if they say so already."""
    others = [c for c in status.get("conditions") or [] if c.get("type") != names.PROGRESSING]
    known = [c for c in status.get("conditions") or [] if c.get("type") == names.PROGRESSING]
    if any(c.get("reason") == names.REASON_NEWER for c in known):
        return None
    (condition,) = set_condition(
        _read(known),
        names.PROGRESSING,
        False,
        reason=names.REASON_NEWER,
        message=message,
        now=now,
        generation=generation,
    )
    return [*others, dump(condition)]


def _read(conditions: list[Document]) -> list[Condition]:
    try:
        return [Condition.model_validate(condition) for condition in conditions]
    except ValidationError:
        return []
