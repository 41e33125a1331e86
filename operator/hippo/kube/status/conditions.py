"""Conditions as all of Kubernetes writes them: the time of a transition changes with the status."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from hippo.kube.status.bounding import bound_message
from hippo.kube.status.models import Condition


def format_time(moment: float) -> str:
    """Unix time in RFC 3339."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def set_condition(
    conditions: Iterable[Condition],
    type_: str,
    is_true: bool | None,
    *,
    reason: str,
    message: str = "",
    now: float,
    generation: int | None = None,
) -> list[Condition]:
    """The conditions with one of them set; None: unknown."""
    known = {condition.type: condition for condition in conditions}
    status = {True: "True", False: "False", None: "Unknown"}[is_true]
    before = known.get(type_)
    since = format_time(now)
    if before is not None and before.status == status:
        since = before.last_transition_time
    known[type_] = Condition.model_validate(
        {
            "type": type_,
            "status": status,
            "reason": reason,
            "message": bound_message(message),
            "lastTransitionTime": since,
            "observedGeneration": generation,
        }
    )
    return list(known.values())


def find_condition(conditions: Iterable[Condition], type_: str) -> Condition | None:
    return next((condition for condition in conditions if condition.type == type_), None)
