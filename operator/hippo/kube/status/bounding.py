"""Bounds of statuses and Events, whatever users, trainers and servers have written: texts hold no
control characters, and every object stays far below the limit of etcd (1.5 MB).

All statuses are written through ``bound_status``, which replaces whatever does not fit by its count
or size. The operator's memory in a SearchPlan (chains, fingerprint, image) is never cut: its parts
are bounded where they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from hippo.kube import names
from hippo.kube.status.wording import for_cluster
from hippo.model.foreign import as_line, clip, quote

MAX_STATUS_BYTES = 256 * 1024
"""A Study's or Trial's status, as JSON in UTF-8. The bounds below imply it; tests check that."""
MAX_PLAN_STATUS_BYTES = 1024 * 1024
"""A SearchPlan's status, likewise."""
MAX_TEXT = 2048
"""Bytes of a message or reason."""
MAX_WORD = 256
"""Bytes of any other text: a name, a phase, a value."""
MAX_MAP_BYTES = 32 * 1024
"""Metrics or hyper-parameters, as JSON."""
MAX_CHANGES_BYTES = 1024
"""Changes of a stage of the tree, as JSON."""
MAX_VALUE_BYTES = 1024
"""Value of a hyper-parameter: a longer schedule is not shown."""
MAX_CONDITIONS = 16
MAX_EVENT_BYTES = 1000
"""Message of an Event: API servers take 1024."""
MAX_CHAINS = 2000
"""Workers of a plan at once: each has its record."""

_MEMORY = frozenset({"chains", "fingerprint", "imageId"})
_TEXTS = frozenset({"message", "reason"})
_SETTINGS = {"hyperparameters": MAX_MAP_BYTES, "changes": MAX_CHANGES_BYTES}
_OWN = frozenset(
    {names.ACCEPTED, names.PROGRESSING, names.SUSPENDED, names.COMPLETE, names.FAILED}
    | {names.STALLED, names.NON_DETERMINISTIC, names.REASON_NEWER}
)
_MORE = "..."
"""The entry that says how many more there are."""
_MARGIN_BYTES = 64  # for that


def bound_message(text: str, most: int = MAX_TEXT) -> str:
    """A message for people on a cluster."""
    return clip(for_cluster(quote(text, 2 * most)), most)


def bound_status(status: Mapping[str, Any]) -> dict[str, Any]:
    """A status as it is to be written. Bounding it again changes nothing."""
    bounded: dict[str, Any] = {}
    for name, value in status.items():
        if name in _MEMORY:
            bounded[name] = value
        elif name in _TEXTS and isinstance(value, str):
            bounded[name] = bound_message(value)
        elif name == "metrics":
            kept = bounded[name] = _fit(value, MAX_MAP_BYTES)
            if len(kept) < len(value):
                bounded["metricsCount"] = len(value)
        elif name in _SETTINGS:
            kept = bounded[name] = _fit(value, _SETTINGS[name])
            if len(kept) < len(value):
                kept[_MORE] = f"{len(value) - len(kept)} more"
        elif name == "conditions":
            bounded[name] = [bound_status(condition) for condition in _choose_conditions(value)]
        else:
            bounded[name] = _bound(value)
    return bounded


def _bound(value: Any) -> Any:
    match value:
        case str():
            return quote(value, MAX_WORD)
        case Mapping():
            return bound_status(value)
        case list():
            return [_bound(item) for item in value]
        case _:
            return value


def _choose_conditions(conditions: list[Any]) -> list[Any]:
    """Hippo's own, if others have added too many."""
    if len(conditions) <= MAX_CONDITIONS:
        return conditions
    own = [item for item in conditions if item["type"] in _OWN]
    others = [item for item in conditions if item["type"] not in _OWN]
    return (own + others)[:MAX_CONDITIONS]


def _fit(values: Mapping[str, Any], most: int) -> dict[str, Any]:
    """As many entries as fit into so many bytes, in their order."""
    kept: dict[str, Any] = {}
    room = most - _MARGIN_BYTES
    for name, value in values.items():
        entry = {quote(name, MAX_WORD): _fit_value(value)}
        room -= _size(entry) if name != _MORE else max(0, _size(entry) - _MARGIN_BYTES)
        if room < 0:
            break
        kept.update(entry)
    return kept


def _fit_value(value: Any) -> Any:
    if isinstance(value, str):
        return quote(value, MAX_WORD)
    if not isinstance(value, list | dict):
        return value
    size = _size(value)
    if size <= MAX_VALUE_BYTES:
        tidied = _tidy(value)
        if _size(tidied) <= MAX_VALUE_BYTES:
            return tidied
    return f"too long to be shown: {size} bytes"


def _tidy(value: Any) -> Any:
    """The texts within a value."""
    match value:
        case str():
            return as_line(value)
        case list():
            return [_tidy(item) for item in value]
        case dict():
            return {as_line(name): _tidy(item) for name, item in value.items()}
        case _:
            return value


def _size(value: Any) -> int:
    """In bytes, as JSON."""
    return len(json.dumps(value, ensure_ascii=False).encode("utf-8", "backslashreplace"))
