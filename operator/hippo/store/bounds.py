"""Bounds of everything that is read from a store, whoever wrote it.

Tenants share a store, and one tenant's records must not harm readers of another's. So each record
has a maximum size, checked before and while it is read, and each of its fields a maximum value,
length or number, checked by decoding. The bounds of user input are in ``hippo.model.bounds``; those
here are wider where earlier versions wrote more. They leave room for the largest studies: 10,000
trials, 10,000 pieces, 10^12 steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from hippo.model.bounds import MAX_INDEX
from hippo.store.blobs import Unreadable, check_size
from hippo.store.memory import find_memory

MIB = 1 << 20


class Kind(StrEnum):
    """The kinds of records, as named in messages."""

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
    Kind.PLAN: 8 * MIB,  # mostly the trainer's config
    Kind.SPENDING: 16 * MIB,  # one line per chain and study
    Kind.STUDY: 8 * MIB,
    Kind.DECISION: 8 * MIB,  # hyper-parameters of one trial, up to 10,000 pieces each
    Kind.REQUEST: 8 * MIB,
    Kind.ANSWER: 2 * MIB,
    Kind.MANIFEST: MIB,
    Kind.CONTROL: 16 * MIB,  # two routes
    Kind.REPORT: 2 * MIB,  # mostly metrics
    Kind.LEDGER: 32 * MIB,  # ten times 10,000 usual reports
    Kind.LOCK: MIB,
    Kind.STAMP: MIB,
    Kind.ASSIGNMENT: 16 * MIB,
}
"""Maximum bytes of one record. A larger one is Unreadable."""

MAX_RECORDS = 2_000_000
"""Maximum records of a plan that are held in memory at once."""
MAX_HELD_BYTES = 1 << 30
"""Maximum total bytes of these records; less if memory has less than MEMORY_PER_BYTE per byte."""
MEMORY_PER_BYTE = 16
"""Memory per byte of a record, at most: about 8 decoded, with reports of one metric or a thousand,
and as much again for the objects built from it.
"""

BYTES_PER_VALUE = 16
"""A record may hold one value per this many bytes of its maximum size, because values such as those
of ``[[],[],...`` take many times their size in memory.
"""

FOLDED_BYTES = 4 * MIB
"""Size at which a ledger chunk is written: far below the maximum that is read."""

LONGEST_NUMBER = len(str(MAX_INDEX))
"""Digits of a number in a blob's name. Hippo never writes more."""


class Held:
    """Counts the records to be held at once, before any of them is read."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._count = self._total = 0

    def add(self, sizes: Iterable[int]) -> None:
        """Adds records by their sizes in bytes. Raises Unreadable if the total exceeds a bound."""
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
    """Raises Unreadable if a record is too large to be decoded."""
    check_size(what, len(data), MAX_BYTES[kind])
    most = MAX_BYTES[kind] // BYTES_PER_VALUE
    if sum(map(data.count, (b",", b"[", b"{"))) > most:
        raise Unreadable(f"{what} cannot be read: it has more than {most:,} values")
