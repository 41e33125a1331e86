"""Bounded types of record fields.

Tenants share a store, and one tenant's records must not harm readers of another's: each field has a
maximum value, length or number. The bounds of user input are in ``hippo.model.bounds``; those here
are wider where earlier versions wrote more.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from hippo.model.bounds import LARGEST_INTEGER, MAX_INDEX, MAX_NESTING, MAX_STEPS
from hippo.model.foreign import quote

MAX_METRICS = 100_000
"""Metrics of one report, as older runners wrote them; today's runners refuse more than
``hippo.model.foreign.MAX_METRICS``.
"""
MAX_METRIC_NAME = 1_024
"""Characters, as older runners wrote them."""

MAX_COUNT = LARGEST_INTEGER
MAX_SECONDS = 1e10  # 300 years
LATEST = 1e10  # Unix time: the year 2286
MAX_VERSION = 10**6

MAX_NAME = 200  # characters, as in a component of a blob's name
MAX_LABEL = 1_024  # characters
MAX_TEXT = 1 << 16  # characters

MAX_STUDIES = 10_000  # that share a chain
MAX_MARKS = 1_000_000  # of a route, or of a trial
MAX_CHAINS = 1_000_000  # of a plan
MAX_FIELDS = 256  # of a fingerprint

MAX_PROCESS = 2**31  # of a process ID
MAX_THREADS = 10**6

TREE_DEPTH = MAX_NESTING + 16  # of a study, and the record around it
TREE_NODES = 1_000_000

COMPONENT = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"
"""Pattern of a component of a blob's name."""
_COMPONENT_PATTERN = re.compile(COMPONENT)


def check_component(text: str) -> str:
    """Returns the text if it may be a component of a blob's name. Raises ValueError."""
    if _COMPONENT_PATTERN.fullmatch(text) is None:
        raise ValueError(f"not usable within a blob name: {text!r}")
    return text


def check_tree(document: dict[str, Any]) -> dict[str, Any]:
    """Returns a document if its depth, size and numbers are within bounds. Raises ValueError."""
    level: list[Any] = [document]
    nodes = 0
    for _ in range(TREE_DEPTH):
        nodes += len(level)
        if nodes > TREE_NODES:
            raise ValueError(f"more than {TREE_NODES:,} values")
        level = [inner for value in level for inner in _open(value)]
        if not level:
            return document
    raise ValueError(f"nested deeper than {TREE_DEPTH} levels")


def _open(value: Any) -> Iterable[Any]:
    """Returns the values within a value. Raises ValueError if it is invalid in a document."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if isinstance(value, int) and abs(value) > sys.float_info.max:
        raise ValueError("a number that is too large")
    return ()


def _clip(text: Any) -> Any:
    return text[:MAX_TEXT] if isinstance(text, str) else text


def _whole(least: int, most: int) -> Any:
    return Field(strict=True, ge=least, le=most)


def _real(least: float, most: float) -> Any:
    return Field(ge=least, le=most, allow_inf_nan=False)


Version = Annotated[int, _whole(0, MAX_VERSION)]
Index = Annotated[int, _whole(0, MAX_INDEX)]
Count = Annotated[int, _whole(0, MAX_COUNT)]
Step = Annotated[int, _whole(0, MAX_STEPS)]
Horizon = Annotated[int, _whole(1, MAX_STEPS)]
"""A number of steps to train."""
Whole = Annotated[int, _whole(-MAX_COUNT, MAX_COUNT)]
"""An integer from a user's program; impossible requests are answered with a message."""
Seed = Whole
Process = Annotated[int, _whole(0, MAX_PROCESS)]
Seconds = Annotated[float, _real(0.0, MAX_SECONDS)]
"""A duration, finite so that sums stay finite."""
Moment = Annotated[float, _real(0.0, LATEST)]
"""Unix time."""
Charge = Annotated[float, _real(-1.0, 1e15)]
"""A charge to a study. Rounding may make it slightly negative."""
Measure = Annotated[float, Field(allow_inf_nan=True)]
"""A metric: any float, including NaN and infinities."""

Name = Annotated[str, StringConstraints(max_length=MAX_NAME), AfterValidator(check_component)]
"""Name of a study, a chain or a key that is valid as a component of a blob's name."""
Label = Annotated[str, StringConstraints(max_length=MAX_LABEL)]
Text = Annotated[str, BeforeValidator(_clip), StringConstraints(max_length=MAX_TEXT)]
"""A message for people. Longer ones are cut, so that no result is lost because of its message."""
Line = Annotated[Text, AfterValidator(quote)]
"""A message on one line that is safe to show, whoever wrote the record."""
MetricName = Annotated[str, StringConstraints(max_length=MAX_METRIC_NAME)]
Metrics = Annotated[dict[MetricName, Measure], Field(max_length=MAX_METRICS)]
Fingerprint = Annotated[dict[Label, Label], Field(max_length=MAX_FIELDS)]
Studies = Annotated[tuple[Name, ...], Field(max_length=MAX_STUDIES)]
Marks = Annotated[tuple[Step, ...], Field(max_length=MAX_MARKS)]
Tree = Annotated[dict[str, Any], AfterValidator(check_tree)]
"""A nested document: hyper-parameters, a trainer's config, a study."""
