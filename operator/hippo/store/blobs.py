"""The port to storage: named byte objects, and what can go wrong with them.

Everything the drivers and workers share is a blob: checkpoints, reports, decisions, locks. Six
methods are all they need of a directory or an object store, so that one contract suite can hold
every store to the same promises:

- a blob is seen whole or not at all, whoever dies while writing it;
- once ``put`` returns, the blob survives a power failure;
- with ``if_absent`` exactly one of any number of concurrent writers is the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from hippo.model.foreign import quote
from hippo.protocol.fields import COMPONENT

_NAME_PATTERN = re.compile(rf"{COMPONENT}(?:/{COMPONENT})*")
_PREFIX_PATTERN = re.compile(rf"(?:{COMPONENT}/)*(?:{COMPONENT})?")
STALE_SECONDS = 24 * 3600.0
"""No write takes so long: what has not ended by then never will (see ``Blobs.clean``)."""

_MAX_NAME = 1024  # characters; the limit of S3, and well below that of file systems


class StoreError(Exception):
    """The store cannot do what was asked. The text is one line that names the remedy; what it
    quotes of records, file names and URLs does no harm where it is shown.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(quote(message))


class MissingBlob(StoreError):
    """There is no blob of this name."""


class LinkInside(StoreError):
    """A symbolic link lies in a folder that is a store; none is followed there.

    From a list, ``links`` are their names and ``found`` is all else that was to be listed.
    """

    def __init__(
        self, message: str, links: Sequence[str] = (), found: Sequence[BlobInfo] = ()
    ) -> None:
        super().__init__(message)
        self.links = tuple(links)
        self.found = list(found)


class Unreadable(StoreError):
    """Truncated, altered, larger than its kind may be, or of a kind that was never written here."""


class CorruptCheckpoint(StoreError):
    """A checkpoint is missing, truncated, altered or another one's: train again, never load it."""


@dataclass(frozen=True, slots=True, order=True)
class BlobInfo:
    name: str
    size: int  # bytes


class Blobs(Protocol):
    """A flat name space of byte objects. Safe to share between threads and processes.

    Names are relative paths of letters, digits, ``.``, ``_``, ``-`` between slashes; no part begins
    with a dot, and no name is also the folder of another one. Other names are a caller's bug:
    ValueError. Every other failure is a StoreError.
    """

    @property
    def is_remote(self) -> bool:
        """Whether each call is a request over a network: better many at once, and few in vain."""
        ...

    def put(
        self,
        name: str,
        chunks: bytes | Iterable[bytes | memoryview],
        *,
        if_absent: bool = False,
    ) -> bool:
        """Write a blob, atomically and durably; an existing one is replaced.

        With ``if_absent`` an existing one stays, and the answer is False (the chunks may then be
        unread). Chunks are written as they come; an exception from their iterator leaves no trace.
        """
        ...

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        """The whole blob. Raises MissingBlob, and Unreadable if it has more than ``at_most`` bytes:
        then no more than that was read.
        """
        ...

    def stream(self, name: str) -> AbstractContextManager[BinaryIO]:
        """The blob as a file open for reading, whatever becomes of its name. Raises MissingBlob."""
        ...

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        """All blobs whose name starts with this text ("" is all of them), sorted by name.

        ``a/b`` matches ``a/b``, ``a/bc`` and ``a/b/c``; ``a/b/`` only the last. With ``after``, a
        name or the start of one, only names that sort behind it. Raises LinkInside, with the rest.
        """
        ...

    def delete(self, name: str) -> None:
        """Remove a blob; nothing happens if there is none."""
        ...

    def clean(self, *, older_than_seconds: float) -> int:
        """Remove what killed writers have left behind, unseen; returns how many writes it was.

        A write that goes on must not be taken for one: where that cannot be told, only writes
        that began at least so long ago are removed.
        """
        ...


def check_size(name: str, size: int, at_most: int | None) -> None:
    """Raises Unreadable."""
    if at_most is not None and size > at_most:
        raise Unreadable(f"{name} cannot be read: it has {size:,} bytes, more than {at_most:,}")


def check_name(name: str) -> str:
    """The name itself, if a blob may have it. Raises ValueError."""
    if len(name) > _MAX_NAME or _NAME_PATTERN.fullmatch(name) is None:
        raise ValueError(f"not a blob name: {name!r}")
    return name


def check_prefix(prefix: str) -> str:
    """The prefix itself, if the name of a blob may start with it. Raises ValueError."""
    if len(prefix) > _MAX_NAME or _PREFIX_PATTERN.fullmatch(prefix) is None:
        raise ValueError(f"not a prefix of blob names: {prefix!r}")
    return prefix


def is_name(text: str) -> bool:
    return len(text) <= _MAX_NAME and _NAME_PATTERN.fullmatch(text) is not None
