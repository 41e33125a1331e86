"""A store in memory that keeps the promises of ``hippo.store.blobs``, as an operator reaches it."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from hippo.store import BlobInfo, MissingBlob, StoreError
from hippo.store.blobs import check_name, check_prefix, check_size
from tests.model_checking.faults import Faults


def _error() -> Exception:
    return StoreError("the store does not answer")


def _kind(name: str) -> str:
    """Of a record, by where it is within its plan's folder."""
    parts = [*name.split("/"), "", "", ""]
    return (parts[4] if parts[2] == "studies" else parts[2]) or "folder"


class MemoryBlobs:
    """A view of ``blobs``, by name, which others share; ``faults`` are this view's own."""

    is_remote = False

    def __init__(self, blobs: dict[str, bytes], faults: Faults | None = None) -> None:
        self.blobs = blobs
        self.faults = faults or Faults()

    def put(
        self,
        name: str,
        chunks: bytes | Iterable[bytes | memoryview],
        *,
        if_absent: bool = False,
    ) -> bool:
        after = self.faults.next(_error, f"put {_kind(name)}")
        is_first = check_name(name) not in self.blobs
        if is_first or not if_absent:
            data = chunks if isinstance(chunks, bytes) else b"".join(bytes(c) for c in chunks)
            self.blobs[name] = data
        after()
        return is_first or not if_absent

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        after = self.faults.next(_error, f"get {_kind(name)}")
        if check_name(name) not in self.blobs:
            raise MissingBlob(f"{name} is missing")
        check_size(name, len(self.blobs[name]), at_most)
        after()
        return self.blobs[name]

    @contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        yield io.BytesIO(self.get(name))

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        answered = self.faults.next(_error, f"list {_kind(prefix)}")
        check_prefix(prefix)
        found = [
            BlobInfo(name, len(self.blobs[name]))
            for name in sorted(name for name in self.blobs if name.startswith(prefix))
            if name > after
        ]
        answered()
        return found

    def delete(self, name: str) -> None:
        after = self.faults.next(_error, f"delete {_kind(name)}")
        self.blobs.pop(check_name(name), None)
        after()

    def clean(self, *, older_than_seconds: float) -> int:
        return 0
