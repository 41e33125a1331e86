"""The proxy before servers that are to fail: what is told to go wrong does, and nothing else."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.chaos.proxy import Asked, Proxy, Spoil

seen: list[str] = []


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        seen.append(f"{self.command} {self.path} {self.headers['Host']} {body.decode()}")
        data = b"done: " + body
        self.send_response(201)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_PUT = answer  # noqa: N815

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    seen.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with Proxy(f"http://127.0.0.1:{server.server_port}").running() as proxy:
        yield proxy
    server.shutdown()
    thread.join()
    server.server_close()


def ask(proxy: Proxy, method: str, path: str, body: str = "") -> tuple[int, str]:
    host = proxy.endpoint.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=10)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_it_passes_on_what_nobody_spoils(proxy: Proxy) -> None:
    assert ask(proxy, "PUT", "/a%2Fb?x=1%2B", "body") == (201, "done: body")
    assert seen == [f"PUT /a%2Fb?x=1%2B {proxy.endpoint.removeprefix('http://')} body"]


def test_it_answers_instead_loses_answers_and_waits(proxy: Proxy) -> None:
    done: list[str] = []
    spoils = {
        "/instead": Spoil(before=lambda: done.append("before"), instead=503, body=b"no"),
        "/lost": Spoil(then=lambda: done.append("then"), is_lost=True),
        "/late": Spoil(wait=0.1, lag=0.1),
    }

    def rule(asked: Asked) -> Spoil | None:
        assert asked.peer == "127.0.0.1"
        return spoils.get(asked.path)

    proxy.rule = rule
    assert ask(proxy, "GET", "/instead") == (503, "no")
    assert not seen
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        ask(proxy, "PUT", "/lost")
    assert len(seen) == 1
    assert done == ["before", "then"]
    began = time.monotonic()
    assert ask(proxy, "GET", "/late") == (201, "done: ")
    assert time.monotonic() - began >= 0.2
