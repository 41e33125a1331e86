"""Blobs in a bucket of S3, or of a server that speaks its protocol, such as MinIO.

A blob is an object. Data that fits one part is written by one request, more as a multipart upload;
both become visible as a whole or not at all. ``If-None-Match: *`` makes the first writer win. The
server must honour it, which the first such write of a process verifies.

Uploads of killed writers remain, invisible, until ``clean`` or the bucket's life cycle aborts them.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, BinaryIO, TypeVar

from minio.error import S3Error
from urllib3.response import BaseHTTPResponse

from hippo.store.blobs import (
    BlobInfo,
    MissingBlob,
    StoreError,
    check_name,
    check_prefix,
    check_size,
    is_name,
)
from hippo.store.s3.chunks import Part, Parts
from hippo.store.s3.client import PARALLEL, Bucket, S3Client
from hippo.store.s3.errors import explain, status_of
from hippo.store.s3.network import NotS3
from hippo.store.s3.settings import S3Settings
from hippo.store.s3.uploads import Upload, find_uploads

_STREAMED_PART = 5 << 20  # bytes; the least that S3 allows, so that a stream takes little memory
_HELD_PART = 16 << 20  # bytes, of data that is in memory anyway
_DOUBLED_AFTER = 1000  # parts; S3 accepts 10,000: enough for its largest object, 5 TiB
_LONGEST_SIZE = 18  # digits
_STREAM_BUFFER = 1 << 18  # bytes

T = TypeVar("T")


class S3Blobs:
    """A prefix of a bucket as Blobs. The bucket must exist."""

    is_remote = True

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._client = S3Client(settings)
        self._trusted_by = 0  # ID of the process that has seen conditions honoured

    def __str__(self) -> str:
        return str(self._settings)

    def put(
        self,
        name: str,
        chunks: bytes | Iterable[bytes | memoryview],
        *,
        if_absent: bool = False,
    ) -> bool:
        check_name(name)
        parts = Parts(chunks)
        size = _HELD_PART if parts.is_held else _STREAMED_PART
        first = parts.take(size)
        if not parts.has_more:
            return self._put_whole(name, first, if_absent=if_absent)
        if if_absent and self._client.find("write", name) is not None:
            return False
        upload = Upload.begin(self._client, name)
        try:
            if parts.is_held:
                tags = _write_side_by_side(upload, first, parts, size)
            else:
                tags = [upload.write(1, first)]
                del first
                while parts.has_more:
                    part = parts.take(_size_of(len(tags) + 1, size))
                    tags.append(upload.write(len(tags) + 1, part))
                    del part  # frees its memory before the next one is made
            if upload.complete(tags, if_absent=if_absent):
                return True
        except BaseException:
            with contextlib.suppress(StoreError):
                upload.abort()
            raise
        upload.abort()
        return False

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        key = self._settings.prefix + check_name(name)
        if at_most is None:
            with self.stream(name) as file:
                return file.read()
        return _read(self._client, name, lambda b, _: _get_bounded(b, key, name, at_most))

    @contextlib.contextmanager
    def stream(self, name: str) -> Iterator[BinaryIO]:
        with (
            _Reader(self._client, check_name(name)) as reader,
            io.BufferedReader(reader, _STREAM_BUFFER) as file,
        ):
            yield file

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        found = self._client.list(check_prefix(prefix), after=check_prefix(after))
        return sorted(BlobInfo(name, size) for name, size in found if is_name(name))

    def delete(self, name: str) -> None:
        try:
            self._client.request("delete", "DELETE", check_name(name))
        except S3Error as error:
            if status_of(error) != 404:
                raise explain(error, "delete", name, self._settings) from error

    def clean(self, *, older_than_seconds: float) -> int:
        limit = datetime.now(UTC) - timedelta(seconds=older_than_seconds)
        stale = [upload for upload, begun in find_uploads(self._client) if begun < limit]
        for upload in stale:
            upload.abort()
        return len(stale)

    def _put_whole(self, name: str, data: Part, *, if_absent: bool) -> bool:
        is_first = self._client.put(name, data, if_absent=if_absent)
        if not if_absent or self._trusted_by == os.getpid():
            return is_first
        if is_first and self._client.put(name, data, if_absent=True):
            raise StoreError(
                f"{self._settings.endpoint} does not honour If-None-Match, so two writers could"
                " both be first: upgrade the server, or use another --store"
            )
        self._trusted_by = os.getpid()
        return is_first


def _get_bounded(bucket: Bucket, key: str, name: str, at_most: int) -> bytes:
    answer = bucket.request("GET", key, preload=False)
    try:
        check_size(name, _length_of(answer), at_most)
        data = b""
        while more := answer.read(at_most + 1 - len(data), decode_content=False):
            data += more
            check_size(name, len(data), at_most)
        return data
    finally:
        answer.close()  # if it was read to its end, its connection is back in the pool


def _length_of(answer: BaseHTTPResponse) -> int:
    """Returns the size of the blob in an answer, in bytes. Raises NotS3."""
    text = answer.headers.get("Content-Length", "")
    if not text.isascii() or not text.isdigit() or len(text) > _LONGEST_SIZE:
        answer.close()
        raise NotS3("a blob without its size")
    return int(text)


def _size_of(number: int, size: int) -> int:
    """Returns the size of a part in bytes; later parts are larger, so that no blob has too many."""
    return size << (number // _DOUBLED_AFTER)


def _write_side_by_side(upload: Upload, first: Part, parts: Parts, size: int) -> list[str]:
    """Writes parts concurrently; reads more only as earlier ones are written."""
    tags: list[str] = []
    running: deque[Future[str]] = deque()
    with ThreadPoolExecutor(PARALLEL, "upload") as threads:
        try:
            running.append(threads.submit(upload.write, 1, first))
            while parts.has_more:
                number = len(tags) + len(running) + 1
                part = parts.take(_size_of(number, size))
                running.append(threads.submit(upload.write, number, part))
                if len(running) > PARALLEL:
                    tags.append(running.popleft().result())
            tags.extend(future.result() for future in running)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return tags


class _Reader(io.RawIOBase):
    """A blob being read. A broken connection is resumed where it broke.

    Only the same object is resumed: if it was replaced meanwhile, reading fails.
    """

    def __init__(self, client: S3Client, name: str) -> None:
        self._client = client
        self._name = name
        self._position = 0
        self._tag = ""
        self._size = -1  # bytes; unknown until it is opened
        self._answer: BaseHTTPResponse | None = None
        _read(client, name, lambda bucket, _: self._open(bucket))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        if self._position == self._size or not view:
            return 0

        def attempt(bucket: Bucket, _: bool) -> bytes:
            if self._answer is None:
                self._open(bucket)
            assert self._answer is not None
            try:
                return self._answer.read(len(view), decode_content=False)
            except BaseException:
                self._disconnect()
                raise

        data = _read(self._client, self._name, attempt)
        view[: len(data)] = data
        self._position += len(data)
        return len(data)

    def close(self) -> None:
        self._disconnect()
        super().close()

    def _open(self, bucket: Bucket) -> None:
        headers = {}
        if self._position:
            headers = {"Range": f"bytes={self._position}-", "If-Match": self._tag}
        key = self._client.settings.prefix + self._name
        self._answer = answer = bucket.request("GET", key, headers=headers, preload=False)
        if not self._position:
            self._tag = answer.headers.get("ETag", "")
            self._size = _length_of(answer)

    def _disconnect(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.close()  # if it was read to its end, its connection is back in the pool


def _read(client: S3Client, name: str, attempt: Callable[[Bucket, bool], T]) -> T:
    """Raises MissingBlob, StoreError."""
    try:
        return client.persist("read", name, attempt)
    except S3Error as error:
        if status_of(error) == 404:
            raise MissingBlob(f"there is no {name} in {client.settings}") from None
        if status_of(error) == 412:
            raise StoreError(f"{name} in {client.settings} changed while it was read") from None
        raise explain(error, "read", name, client.settings) from error
