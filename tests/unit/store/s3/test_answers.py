"""A server that does not answer as S3 does is reported in one line, at once and in little
memory.
"""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hippo.store import BlobInfo, Blobs, StoreError
from hippo.store.s3.bucket import S3Blobs
from hippo.store.s3.network import MAX_ANSWER
from hippo.store.s3.settings import read_settings

LENGTH, ENDLESS = "Content-Length", 3 * MAX_ANSWER
TYPE = {"Content-Type": "application/xml"}


class Server(ThreadingHTTPServer):
    """Gives one answer to everything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Callable[[str], tuple[int, dict[str, str], bytes]] = lambda _: (200, {}, b"")
        self.size = 0  # bytes after the body, which the header says nothing of

    def say(
        self, body: str | bytes, headers: dict[str, str] = TYPE, status: int = 200, size: int = 0
    ) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.answer = lambda _: (status, headers, data)
        self.size = size


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get(LENGTH, 0)))
        status, headers, body = self.server.answer(self.path)
        self.send_response(status)
        if LENGTH not in headers and not self.server.size:
            self.send_header(LENGTH, str(len(body)))
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)
            for _ in range(self.server.size >> 20):
                self.wfile.write(bytes(1 << 20))

    do_PUT = do_HEAD = do_POST = do_DELETE = do_GET  # noqa: N815


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def blobs(server: Server) -> S3Blobs:
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
        "HIPPO_S3_PATIENCE": "0.3",
    }
    return S3Blobs(read_settings("s3://bucket/prefix", environment))


def page(*items: str, more: str = "") -> str:
    contents = "".join(f"<Contents>{item}</Contents>" for item in items)
    return f"<R><Name>b</Name><IsTruncated>{bool(more)}</IsTruncated>{more}{contents}</R>"


def item(key: str, size: str = "1") -> str:
    return f"<Key>{key}</Key><Size>{size}</Size>"


def stream(blobs: Blobs) -> bytes:
    with blobs.stream("ns/a") as file:
        return file.read()


TOKEN = "<NextContinuationToken>t</NextContinuationToken>"
LISTINGS: dict[str, str | bytes] = {
    "size that is none": page(item("prefix/ns/a", "abc")),
    "size of many digits": page(item("prefix/ns/a", "9" * 5000)),
    "no key": page("<Size>1</Size>"),
    "date that is none": page(item("prefix/ns/a") + "<LastModified>x</LastModified>"),
    "other document": "<a/>",
    "half a document": "<R><Name>",
    "binary": b"\xff\xfe<a",
    "deep": "<a>" * 100_000,
    "the same page again": page(item("prefix/ns/a"), more=TOKEN),
    "more, but not where": page(more="<Other/>"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LISTINGS)
def test_a_listing_that_is_none(server: Server, blobs: S3Blobs, name: str) -> None:
    server.say(LISTINGS[name])
    with pytest.raises(StoreError, match="does not answer as S3 does: check AWS_ENDPOINT_URL"):
        blobs.list("ns/")


def test_empty_pages_come_to_an_end(server: Server, blobs: S3Blobs) -> None:
    pages = iter(range(10_000))

    def answer(_: str) -> tuple[int, dict[str, str], bytes]:
        token = TOKEN.replace(">t<", f">t{next(pages)}<")
        return 200, TYPE, page(more=token).encode()

    server.answer = answer
    with pytest.raises(StoreError, match="does not answer as S3 does"):
        blobs.list("ns/")
    assert next(pages) <= 101


def test_uploads_come_to_an_end(server: Server, blobs: S3Blobs) -> None:
    server.say("<R><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker></R>")
    with pytest.raises(StoreError, match="does not answer as S3 does"):
        blobs.clean(older_than_seconds=1.0)


def test_what_was_not_asked_for_is_not_listed(server: Server, blobs: S3Blobs) -> None:
    keys = ["prefix/ns/a", "../../etc/x", "/etc/ns/x", "prefix/other/x", "prefix/ns//x"]
    keys += ["prefix/ns/../x", "prefix/ns/\u202ex", "prefix/ns/x/", f"prefix/ns/{'x' * 2000}"]
    server.say(page(*map(item, keys), item("prefix/ns/b", "-5")))
    assert blobs.list("ns/") == [BlobInfo("ns/a", 1)]


def test_listings_go_on_where_a_page_ended(server: Server, blobs: S3Blobs) -> None:
    asked = []

    def answer(path: str) -> tuple[int, dict[str, str], bytes]:
        asked.append(path)
        found = (
            page(item("prefix/ns/b"))
            if "token=t" in path
            else page(item("prefix/ns/a"), more=TOKEN)
        )
        return 200, TYPE, found.encode()

    server.answer = answer
    assert [info.name for info in blobs.list("ns/")] == ["ns/a", "ns/b"]
    assert len(asked) == 2


@pytest.mark.parametrize("length", ["", "abc", "-4", "9" * 5000])
def test_a_blob_without_its_size(server: Server, blobs: S3Blobs, length: str) -> None:
    server.say(b"abc", {LENGTH: length})
    reads: list[Callable[[], bytes]] = [
        lambda: stream(blobs),
        lambda: blobs.get("ns/a", at_most=10),
    ]
    for read in reads:
        with pytest.raises(StoreError, match="cannot read s3://bucket/prefix/ns/a"):
            read()


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 400, 404])
def test_answers_without_end_take_little_memory(
    server: Server, blobs: S3Blobs, status: int
) -> None:
    server.say(b"", TYPE, status, ENDLESS)
    uses: list[Callable[[], object]] = [
        lambda: blobs.list("ns/"),
        lambda: blobs.put("ns/a", b"x"),
        lambda: stream(blobs),
    ]
    for use in uses:
        tracemalloc.start()
        try:
            with pytest.raises(StoreError, match="does not answer as S3 does"):
                use()
            assert tracemalloc.get_traced_memory()[1] < 2 * MAX_ANSWER
        finally:
            tracemalloc.stop()


def test_a_failure_in_no_encoding(server: Server, blobs: S3Blobs) -> None:
    server.say(b"\xff\xfe", {"Content-Type": "text/plain"}, 400)
    with pytest.raises(StoreError, match="cannot list s3://bucket/prefix/ns/"):
        blobs.list("ns/")
