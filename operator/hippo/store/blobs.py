"""The storage port: named byte objects, and the errors of accessing them.

Everything that drivers and workers share is a blob: checkpoints, reports, decisions, locks. They
need only six methods of a directory or an object store, so one contract suite tests every store for
the same guarantees:

- a blob is visible completely or not at all, even if its writer dies;
- once ``put`` returns, the blob survives a power failure;
- with ``if_absent``, exactly one of any number of concurrent writers succeeds.
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
"""Age from which an unfinished write counts as abandoned (see ``Blobs.clean``)."""

_MAX_NAME = 1024  # characters; the limit of S3, and well below that of file systems


class StoreError(Exception):
    """The store cannot do what was asked.

    The message is one line that names the remedy. Records, file names and URLs quoted in it are
    made safe to show.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(quote(message))


class MissingBlob(StoreError):
    """No blob has this name."""


class LinkInside(StoreError):
    """A symbolic link lies in a folder of the store; links are not followed there.

    From ``list``, ``links`` holds their names and ``found`` everything else that matched.
    """

    def __init__(
        self, message: str, links: Sequence[str] = (), found: Sequence[BlobInfo] = ()
    ) -> None:
        super().__init__(message)
        self.links = tuple(links)
        self.found = list(found)


class Unreadable(StoreError):
    """A record is truncated, altered, larger than its kind allows, or of an unknown kind."""


class CorruptCheckpoint(StoreError):
    """A checkpoint is missing, truncated, altered or another key's. It must be trained again."""


@dataclass(frozen=True, slots=True, order=True)
class BlobInfo:
    name: str
    size: int  # bytes


class Blobs(Protocol):
    """A flat name space of byte objects. Safe to share between threads and processes.

    Names are relative paths of letters, digits, ``.``, ``_``, ``-`` between slashes. No component
    begins with a dot, and no name is also the folder of another one. Other names are a caller's bug
    and raise ValueError. Every other failure is a StoreError.
    """

    @property
    def is_remote(self) -> bool:
        """Whether each call is a network request, so that calls should be concurrent and few."""
        ...

    def put(
        self,
        name: str,
        chunks: bytes | Iterable[bytes | memoryview],
        *,
        if_absent: bool = False,
    ) -> bool:
        """Writes a blob, atomically and durably, replacing an existing one.

        With ``if_absent`` an existing blob stays and the result is False; the chunks may then be
        unread. Chunks are written as they are produced; an exception from their iterator leaves no
        trace.
        """
        ...

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        """Returns the whole blob.

        Raises MissingBlob, or Unreadable if it has more than ``at_most`` bytes, without reading
        more.
        """
        ...

    def stream(self, name: str) -> AbstractContextManager[BinaryIO]:
        """Opens the blob as a file for reading, even if it is deleted meanwhile.

        Raises MissingBlob.
        """
        ...

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        """Returns all blobs whose name starts with ``prefix`` ("" for all), sorted by name.

        ``a/b`` matches ``a/b``, ``a/bc`` and ``a/b/c``; ``a/b/`` only the last. ``after`` is a name
        or the start of one; only names that sort after it are returned. Raises LinkInside, which
        holds the rest.
        """
        ...

    def delete(self, name: str) -> None:
        """Removes a blob, if there is one."""
        ...

    def clean(self, *, older_than_seconds: float) -> int:
        """Removes leftovers of killed writers; returns the number of their writes.

        A write in progress must not be removed. If it cannot be recognised, only writes that began
        at least ``older_than_seconds`` ago are removed.
        """
        ...


def check_size(name: str, size: int, at_most: int | None) -> None:
    """Raises Unreadable if ``size`` exceeds ``at_most``."""
    if at_most is not None and size > at_most:
        raise Unreadable(f"{name} cannot be read: it has {size:,} bytes, more than {at_most:,}")


def check_name(name: str) -> str:
    """Returns the name if a blob may have it. Raises ValueError."""
    if len(name) > _MAX_NAME or _NAME_PATTERN.fullmatch(name) is None:
        raise ValueError(f"not a blob name: {name!r}")
    return name


def check_prefix(prefix: str) -> str:
    """Returns the prefix if the name of a blob may start with it. Raises ValueError."""
    if len(prefix) > _MAX_NAME or _PREFIX_PATTERN.fullmatch(prefix) is None:
        raise ValueError(f"not a prefix of blob names: {prefix!r}")
    return prefix


def is_name(text: str) -> bool:
    return len(text) <= _MAX_NAME and _NAME_PATTERN.fullmatch(text) is not None
