"""Requests to one bucket, retried while that may help.

The ``minio`` package signs and sends. Its own ``put_object`` supports neither conditional writes
nor sending memory without a copy, and its retries do not tell whether an earlier attempt may have
been carried out. So requests go through the one protected method behind all of its public ones.
"""

from __future__ import annotations

import itertools
import os
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, cast

import urllib3
from minio import Minio
from minio.datatypes import parse_list_objects
from minio.error import S3Error
from urllib3.response import BaseHTTPResponse

from hippo.store.concurrency import AT_ONCE
from hippo.store.s3.chunks import Part
from hippo.store.s3.errors import FAILURES, code_of, explain, is_passing, status_of, understanding
from hippo.store.s3.network import NotS3, Pools, open_trust
from hippo.store.s3.settings import S3Settings

PARALLEL = 4
"""Concurrent requests for one blob."""

WRITER = "x-amz-meta-writer"

_PAGE = 1000  # keys; the most that S3 lists at once
_MOST_EMPTY = 100  # pages in a row
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 3.0  # seconds

T = TypeVar("T")
Headers = dict[str, str]


class Bucket(Minio):
    """A Minio that can send an arbitrary request."""

    def __init__(self, settings: S3Settings) -> None:
        self.bucket = settings.bucket
        # No byte within a third of the patience is a failure, which leaves time to retry.
        timeout = urllib3.Timeout(
            connect=min(_CONNECT_SECONDS, settings.patience), read=settings.patience / 3
        )
        super().__init__(
            settings.host,
            secure=settings.is_secure,
            region=settings.region,
            credentials=settings.provider,
            http_client=Pools(
                settings.proxies,
                open_trust(settings.certificates),
                timeout=timeout,
                maxsize=2 * AT_ONCE,
                retries=False,
            ),
        )

    def request(
        self,
        method: str,
        key: str | None,
        *,
        query: Headers | None = None,
        headers: Headers | None = None,
        body: Part | None = None,
        preload: bool = True,
    ) -> BaseHTTPResponse:
        with understanding():
            return self._execute(
                method,
                self.bucket,
                key,
                body=cast(bytes, body),
                headers=cast(Any, dict(headers or {})),
                query_params=cast(Any, dict(query or {})),
                preload_content=preload,
            )

    def list_pages(self, prefix: str, *, after: str) -> Iterator[list[tuple[str, int]]]:
        """Yields pages of (key, size). Raises NotS3 if the listing does not end."""
        query = {"list-type": "2", "delimiter": "", "encoding-type": "url"}
        query |= {"max-keys": str(_PAGE), "prefix": prefix}
        if after:
            query["start-after"] = after
        seen, empty = "", 0
        while True:
            answer = self.request("GET", None, query=query)
            with understanding():
                found, is_truncated, token, _ = parse_list_objects(answer)
                page = [(item.object_name or "", item.size or 0) for item in found]
            yield [(key, size) for key, size in page if key.startswith(prefix) and size >= 0]
            if not is_truncated:
                return
            empty = 0 if page else empty + 1
            if not token or token == seen or empty == _MOST_EMPTY:
                raise NotS3("a listing without end")
            query["continuation-token"] = seen = token


class S3Client:
    """A client that threads may share, also across a fork: each process has its own connections."""

    def __init__(self, settings: S3Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._connected: tuple[int, Bucket] | None = None
        self._is_down = False  # patience ran out; no retries until a request succeeds

    def request(
        self, action: str, method: str, name: str | None, **options: Any
    ) -> BaseHTTPResponse:
        """Sends a request about a blob; returns the answer if it was carried out.

        Raises S3Error if the answer is about the blob itself (404, 409, 412): see ``code_of``.
        """
        key = None if name is None else self.settings.prefix + name
        return self.persist(action, name or "", lambda b, _: b.request(method, key, **options))

    def persist(self, action: str, name: str, send: Callable[[Bucket, bool], T]) -> T:
        """Calls ``send``, and retries while the failure may pass, for as long as patience lasts.

        ``send`` is told whether an earlier attempt may have been carried out.
        """
        deadline, pause = None, _FIRST_PAUSE
        while True:
            try:
                done = send(self._bucket(), deadline is not None)
                self._is_down = False
                return done
            except FAILURES as error:
                if is_about_blob(error):
                    self._is_down = False
                    raise
                if not is_passing(error):
                    raise explain(error, action, name, self.settings) from error
                now = time.monotonic()
                deadline = deadline or now + self.settings.patience
                if self._is_down or now + pause > deadline:
                    self._is_down = True
                    raise explain(error, action, name, self.settings) from error
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter
            pause = min(2 * pause, _LONGEST_PAUSE)

    def find(self, action: str, name: str) -> Headers | None:
        """Returns the headers of a blob, or None if there is none."""
        try:
            answer = self.request(action, "HEAD", name)
            return {key.lower(): value for key, value in answer.headers.items()}
        except S3Error as error:
            if status_of(error) == 404:
                return None
            raise

    def put(self, name: str, body: Part, *, if_absent: bool = False) -> bool:
        """Writes a blob in one request; returns False if ``if_absent`` found one."""
        writer = new_writer()
        headers = {WRITER: writer, **({"If-None-Match": "*"} if if_absent else {})}

        def send(bucket: Bucket, is_repeated: bool) -> bool:
            key = self.settings.prefix + name
            try:
                bucket.request("PUT", key, headers=headers, body=body)
            except S3Error as error:
                return self.settle(
                    error, name, writer, if_absent=if_absent, is_repeated=is_repeated
                )
            return True

        return self.write(name, send)

    def list(self, prefix: str, *, after: str) -> Iterator[tuple[str, int]]:
        """Yields names and sizes, in the server's order; ``after`` is the start of a name."""
        start, last = self.settings.prefix, after

        def page(bucket: Bucket, _: bool) -> Iterator[tuple[str, int]]:
            pages = bucket.list_pages(start + prefix, after=start + last if last else "")
            first = next(pages)  # sends the request
            return itertools.chain(first, itertools.chain.from_iterable(pages))

        while True:
            try:
                for key, size in self.persist("list", prefix, page):
                    last = key[len(start) :]
                    yield last, size
                return
            except FAILURES as error:  # on a later page: resume after the last name
                if not is_passing(error):
                    raise explain(error, "list", prefix, self.settings) from error

    def write(self, name: str, send: Callable[[Bucket, bool], bool]) -> bool:
        try:
            return self.persist("write", name, send)
        except S3Error as error:
            raise explain(error, "write", name, self.settings) from error

    def settle(
        self, error: S3Error, name: str, writer: str, *, if_absent: bool, is_repeated: bool
    ) -> bool:
        """After a failed write, returns whether the stored blob is ours.

        Raises the error itself if it says nothing about that.
        """
        is_refused = if_absent and status_of(error) in (409, 412)
        is_gone = is_repeated and code_of(error) == "NoSuchUpload"
        if status_of(error) == 412 and is_refused and not is_repeated:
            return False
        if not is_refused and not is_gone:
            raise error
        found = self.find("write", name)  # perhaps ours, by an attempt whose answer was lost
        if found is not None and found.get(WRITER) == writer:
            return True
        if is_gone:
            raise error
        if found is None:  # a conflict with a delete, or with a writer that then failed
            raise ConnectionError(0, "conflicting writes") from error
        return False

    def _bucket(self) -> Bucket:
        """A child process must not use its parent's connections."""
        pid = os.getpid()
        with self._lock:
            if self._connected is None or self._connected[0] != pid:
                self._connected = pid, Bucket(self.settings)
            return self._connected[1]


def is_about_blob(error: Exception) -> bool:
    """Whether the server understood, and the answer is about this blob: missing, or a condition."""
    return (
        isinstance(error, S3Error)
        and status_of(error) in (404, 409, 412)
        and code_of(error) not in ("NoSuchBucket", "OperationAborted")
    )


def new_writer() -> str:
    """Returns a unique ID for a write, stored in the blob's metadata."""
    return secrets.token_hex(8)
