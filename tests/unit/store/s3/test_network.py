"""Requests go through the proxy that the environment names, as in other programs."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator

import pytest
from minio.credentials.providers import StaticProvider

from hippo.store import StoreError
from hippo.store.s3.bucket import S3Blobs
from hippo.store.s3.network import Proxies
from hippo.store.s3.settings import S3Settings, read_settings

PROXY = "http://proxy.example.org:3128"


@pytest.mark.parametrize(
    ("variables", "url", "asked"),
    [
        ({}, "http://s3.example.org", None),
        ({"HTTP_PROXY": PROXY}, "http://s3.example.org", PROXY),
        ({"HTTP_PROXY": PROXY}, "https://s3.example.org", None),
        ({"HTTPS_PROXY": PROXY}, "https://s3.example.org", PROXY),
        ({"https_proxy": "proxy.example.org:3128\n"}, "https://s3.example.org", PROXY),
        ({"ALL_PROXY": PROXY}, "https://s3.example.org", PROXY),
        ({"ALL_PROXY": "http://a:1", "https_proxy": PROXY}, "https://s3.example.org", PROXY),
        ({"HTTPS_PROXY": PROXY, "https_proxy": ""}, "https://s3.example.org", None),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": PROXY}, "https://s3.example.org", PROXY),
        (
            {"HTTPS_PROXY": "https://proxy.example.org"},
            "https://s3",
            "https://proxy.example.org:443",
        ),
        ({"HTTPS_PROXY": "http://u:p@[fd00::1]:3128"}, "https://s3", "http://[fd00::1]:3128"),
    ],
)
def test_which_proxy_is_asked(variables: dict[str, str], url: str, asked: str | None) -> None:
    found = Proxies(variables).find(url)
    assert (found and found.address) == asked


@pytest.mark.parametrize(
    ("exempt", "url", "is_exempt"),
    [
        ("", "http://s3.example.org:9000", False),
        ("s3.example.org", "http://s3.example.org:9000", True),
        ("a.org, example.org", "http://s3.example.org:9000", True),
        ("a.org .example.org", "http://s3.example.org:9000", True),
        ("*.example.org", "http://s3.example.org:9000", True),
        ("S3.Example.Org", "http://s3.example.org:9000", True),
        ("ample.org", "http://s3.example.org:9000", False),
        ("s3.example.org:9000", "http://s3.example.org:9000", True),
        ("s3.example.org:9001", "http://s3.example.org:9000", False),
        ("s3.example.org:443", "https://s3.example.org", True),
        ("s3.example.org:443", "http://s3.example.org", False),
        ("a.org,*", "http://s3.example.org", True),
        (".amazonaws.com", "https://bucket.s3.eu-west-1.amazonaws.com", True),
        ("10.0.0.0/8", "http://10.1.2.3:9000", True),
        ("10.0.0.0/8", "http://11.1.2.3:9000", False),
        ("10.1.2.3", "http://10.1.2.3:9000", True),
        ("fd00::/8", "http://[fd00::1]:9000", True),
        ("[fd00::1]", "http://[fd00::1]:9000", True),
        # No other machine can reach these.
        ("", "http://localhost:9000", True),
        ("", "http://127.0.0.1:9000", True),
        ("", "http://127.8.8.8:9000", True),
        ("", "http://[::1]:9000", True),
        ("", "http://169.254.169.254/latest/api/token", True),
    ],
)
def test_who_is_asked_directly(exempt: str, url: str, is_exempt: bool) -> None:
    variables = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": exempt}
    assert (Proxies(variables).find(url) is None) is is_exempt


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("socks5://u:secret@proxy:1080", "ALL_PROXY names a proxy for socks5: Hippo can use"),
        ("http://", "ALL_PROXY is no address of a proxy"),
        ("http://u:secret@proxy:port", "ALL_PROXY is no address of a proxy"),
        ("u:secret@", "ALL_PROXY is no address of a proxy"),
        ("http://u:secret%E2%82%AC@proxy:1", "ALL_PROXY holds a user or password with a character"),
        ("http://proxy\nsecret:1", "ALL_PROXY holds a line break"),
    ],
)
def test_what_is_no_proxy(value: str, says: str) -> None:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    with pytest.raises(StoreError, match=says) as error:
        read_settings("s3://bucket", {**keys, "ALL_PROXY": value})
    assert "secret" not in str(error.value)


def test_a_proxy_that_is_not_asked_is_not_looked_at() -> None:
    variables = {"ALL_PROXY": "socks5://proxy:1080", "NO_PROXY": "amazonaws.com"}
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    read_settings("s3://bucket", {**keys, **variables})


class Listener:
    """Answers each connection with the same bytes; records what it receives."""

    def __init__(self) -> None:
        self.answer = b""
        self.seen: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                data = connection.recv(65536)
                if not data:
                    return
                self.seen.append(data)
                connection.sendall(self.answer)

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)):
            pass
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    found = Listener()
    yield found
    found.close()


def open_store(endpoint: str, variables: dict[str, str]) -> S3Blobs:
    settings = S3Settings(
        bucket="bucket",
        prefix="",
        host=endpoint.partition("://")[2],
        is_secure=endpoint.startswith("https"),
        region="us-east-1",
        provider=StaticProvider("key", "very-secret"),
        proxies=Proxies(variables),
        patience=60.0,  # nothing here is to be tried again
    )
    return S3Blobs(settings)


def complain(blobs: S3Blobs) -> str:
    with pytest.raises(StoreError) as error:
        blobs.get("a")
    line = str(error.value)
    assert "secret" not in line
    assert "\n" not in line
    return line


def http(status: int, body: bytes = b"") -> bytes:
    head = f"HTTP/1.1 {status} Told\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_is_told_the_user_and_no_line_tells_the_password(
    listener: Listener, scheme: str
) -> None:
    listener.answer = http(407)
    address = f"127.0.0.1:{listener.port}"
    blobs = open_store(
        f"{scheme}://s3.example.org", {f"{scheme}_proxy": f"http://me:p%40secret@{address}"}
    )
    line = complain(blobs)
    assert f"the proxy http://{address} ({scheme}_proxy) does not let it through" in line
    assert "HTTP status 407" in line
    first = "CONNECT s3.example.org:443" if scheme == "https" else "GET http://s3.example.org/buck"
    assert listener.seen[0].startswith(first.encode())
    keys = base64.b64encode(b"me:p@secret")
    assert b"authorization: basic " + keys.lower() in listener.seen[0].lower()


def test_a_proxy_answers_for_the_store(listener: Listener) -> None:
    listener.answer = http(200, b"data")
    blobs = open_store("http://s3.example.org", {"HTTP_PROXY": f"http://127.0.0.1:{listener.port}"})
    assert blobs.get("a") == b"data"


def test_who_asks_for_tls_where_there_is_none_is_told_at_once(listener: Listener) -> None:
    listener.answer = http(400)
    line = complain(open_store(f"https://127.0.0.1:{listener.port}", {}))
    assert "no secure connection to https://127.0.0.1" in line
    assert "wrong version number" in line.lower()


def test_who_speaks_http_to_tls_is_told_at_once(listener: Listener) -> None:
    listener.answer = http(400, b"Client sent an HTTP request to an HTTPS server.")
    line = complain(open_store(f"http://127.0.0.1:{listener.port}", {}))
    assert "answers with HTTP status 400 over http: perhaps it wants https" in line
