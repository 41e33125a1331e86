"""Bounds of all that is read from a store, whoever wrote it.

A store is shared by tenants, and a tenant's records must harm no reader of others'. So a record has
a greatest size, which is checked before and while it is read, and each of its fields a greatest
value, length or number, which decoding checks. The bounds of what users write are in
``hippo.model.bounds``; those here are wider where earlier versions wrote more. They leave room for
the largest studies: 10,000 trials, 10,000 pieces, 10^12 steps.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from hippo.model.bounds import LARGEST_INTEGER, MAX_INDEX, MAX_NESTING, MAX_STEPS
from hippo.model.foreign import quote
from hippo.store.blobs import Unreadable, check_component, check_size
from hippo.store.memory import find_memory

MIB = 1 << 20


class Kind(StrEnum):
    """The kinds of records, as messages name them."""

    PLAN = "plan"
    SPENDING = "spending"
    STUDY = "study"
    DECISION = "decision"
    REQUEST = "request"
    ANSWER = "answer"
    MANIFEST = "manifest"
    CONTROL = "control"
    REPORT = "report"
    LEDGER = "ledger chunk"
    LOCK = "lock"
    STAMP = "cluster's stamp"
    ASSIGNMENT = "assignment"


MAX_BYTES = {
    Kind.PLAN: 8 * MIB,  # the trainer's config
    Kind.SPENDING: 16 * MIB,  # a line for each chain and study
    Kind.STUDY: 8 * MIB,
    Kind.DECISION: 8 * MIB,  # one trial's hyper-parameters: up to 10,000 pieces each
    Kind.REQUEST: 8 * MIB,
    Kind.ANSWER: 2 * MIB,
    Kind.MANIFEST: MIB,
    Kind.CONTROL: 16 * MIB,  # two routes
    Kind.REPORT: 2 * MIB,  # metrics, by far the most
    Kind.LEDGER: 32 * MIB,  # ten times as much as 10,000 usual reports
    Kind.LOCK: MIB,
    Kind.STAMP: MIB,
    Kind.ASSIGNMENT: 16 * MIB,
}
"""Bytes of one record. A larger one is not read, and is Unreadable."""

MAX_RECORDS = 2_000_000
"""Of a plan, of those that are held at once."""
MAX_HELD_BYTES = 1 << 30
"""Bytes of these together; less where there is less memory than MEMORY_PER_BYTE for each."""
MEMORY_PER_BYTE = 16
"""What a byte of a record takes at most: decoded some 8, with reports of one metric or a thousand,
and what is built of them as much again.
"""

BYTES_PER_VALUE = 16
"""A record holds at most one value for so many of the bytes that it may have: what ``[[],[],...``
takes in memory is many times its size.
"""

FOLDED_BYTES = 4 * MIB
"""A chunk of the ledger is written once it holds so much: far below what is read."""

LONGEST_NUMBER = len(str(MAX_INDEX))
"""Digits of a number in a blob's name. One with more was not written by Hippo."""

MAX_METRICS = 100_000
"""In one report, as earlier runners wrote them; today's refuse more than
``hippo.model.foreign.MAX_METRICS``.
"""
MAX_METRIC_NAME = 1_024
"""Characters, likewise."""

MAX_COUNT = LARGEST_INTEGER
MAX_SECONDS = 1e10  # 300 years
LATEST = 1e10  # Unix time: the year 2286
MAX_VERSION = 10**6

MAX_NAME = 200  # characters, as of a part of a blob's name
MAX_LABEL = 1_024  # characters
MAX_TEXT = 1 << 16  # characters

MAX_STUDIES = 10_000  # that share a chain
MAX_MARKS = 1_000_000  # of a route, or of a trial
MAX_CHAINS = 1_000_000  # of a plan
MAX_FIELDS = 256  # of a fingerprint

MAX_PROCESS = 2**31  # number of a process
MAX_THREADS = 10**6

TREE_DEPTH = MAX_NESTING + 16  # of a study, and what a record puts around it
TREE_NODES = 1_000_000


class Held:
    """Counts records that are to be held at once, before any of them is read."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = self._total = 0

    def add(self, sizes: Iterable[int]) -> None:
        """In bytes. Raises Unreadable if all so far are too many, or too large together."""
        for size in sizes:
            self._count += 1
            self._total += size
        if self._count > MAX_RECORDS:
            told = f"{self._count:,} records, more than {MAX_RECORDS:,}"
            raise Unreadable(f"{self._what} cannot be read: it has {told}")
        memory = find_memory()
        if self._total > min(MAX_HELD_BYTES, memory // MEMORY_PER_BYTE):
            told = f"{self._total:,} bytes, too many for {memory:,} bytes of memory"
            if memory // MEMORY_PER_BYTE >= MAX_HELD_BYTES:
                told = f"{self._total:,} bytes, more than {MAX_HELD_BYTES:,}"
            raise Unreadable(f"{self._what} cannot be read: its records have {told}")


def check_record(what: str, data: bytes, kind: Kind) -> None:
    """Whether a record is small enough to be decoded. Raises Unreadable."""
    check_size(what, len(data), MAX_BYTES[kind])
    most = MAX_BYTES[kind] // BYTES_PER_VALUE
    if sum(map(data.count, (b",", b"[", b"{"))) > most:
        raise Unreadable(f"{what} cannot be read: it has more than {most:,} values")


def check_tree(document: dict[str, Any]) -> dict[str, Any]:
    """A document that its readers take apart, if it is finite in every respect: depth, values,
    numbers. Raises ValueError.
    """
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
    """The values within a value. Raises ValueError if it is no value of a document."""
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
"""A number of steps to be trained."""
Whole = Annotated[int, _whole(-MAX_COUNT, MAX_COUNT)]
"""An integer from a user's program, whose impossible requests are answered in words."""
Seed = Whole
Process = Annotated[int, _whole(0, MAX_PROCESS)]
Seconds = Annotated[float, _real(0.0, MAX_SECONDS)]
"""A duration, finite so that sums stay finite."""
Moment = Annotated[float, _real(0.0, LATEST)]
"""Unix time."""
Charge = Annotated[float, _real(-1.0, 1e15)]
"""A charge to a study. Rounding may leave it a little below 0."""
Measure = Annotated[float, Field(allow_inf_nan=True)]
"""A metric: any float, NaN and the infinities too."""

Name = Annotated[str, StringConstraints(max_length=MAX_NAME), AfterValidator(check_component)]
"""Name of a study, a chain or a key, which can be a part of a blob's name."""
Label = Annotated[str, StringConstraints(max_length=MAX_LABEL)]
Text = Annotated[str, BeforeValidator(_clip), StringConstraints(max_length=MAX_TEXT)]
"""A message for people. A longer one is cut: no result is lost for its message."""
Line = Annotated[Text, AfterValidator(quote)]
"""The same on one line that is safe to show, whoever wrote the record."""
MetricName = Annotated[str, StringConstraints(max_length=MAX_METRIC_NAME)]
Metrics = Annotated[dict[MetricName, Measure], Field(max_length=MAX_METRICS)]
Fingerprint = Annotated[dict[Label, Label], Field(max_length=MAX_FIELDS)]
Studies = Annotated[tuple[Name, ...], Field(max_length=MAX_STUDIES)]
Marks = Annotated[tuple[Step, ...], Field(max_length=MAX_MARKS)]
Tree = Annotated[dict[str, Any], AfterValidator(check_tree)]
"""A document of its own: hyper-parameters, a trainer's config, a study."""
