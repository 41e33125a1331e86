"""Bounds of all that is read from a store, whoever wrote it.

A store is shared by tenants, and a tenant's records must harm no reader of others'. So a record has
a greatest size, which is checked before and while it is read, and each of its fields a greatest
value, length or number, which decoding checks. The bounds of what users write are in
``hippo.model.bounds``; those here are wider where earlier versions wrote more. They leave room for
the largest studies: 10,000 trials, 10,000 pieces, 10^12 steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from hippo.model.bounds import MAX_INDEX
from hippo.store.blobs import Unreadable, check_size
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
