"""A proxy before a real S3 that spoils single requests or answers, as told by a test."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Rule = Callable[[str, str], str | None]
"""From method and path (with its query) to a fault; None passes the request on.

refuse: answer 503, do nothing.  lose: do it, and close instead of answering.  halve: close after
half of the answer's body.  agree: answer 200, do nothing.
"""


class FaultyProxy:
    def __init__(self, address: str) -> None:
        self.rule: Rule = lambda method, path: None
        self.seen: list[str] = []  # "METHOD path" of every request
        proxy, lock = self, threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                with lock:
                    proxy.seen.append(f"{self.command} {self.path}")
                    fault = proxy.rule(self.command, self.path)
                if fault in ("refuse", "agree"):
                    self.send_response(200 if fault == "agree" else 503)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                connection = http.client.HTTPConnection(address)
                connection.request(self.command, self.path, body, dict(self.headers))
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                if fault == "lose":
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                if fault == "halve":
                    data, self.close_connection = data[: len(data) // 2], True
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    @contextlib.contextmanager
    def running(self) -> Iterator[FaultyProxy]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def first(fault: str, *, method: str, having: str = "", times: int = 1) -> Rule:
    """The fault for the first requests of a method whose path has this text."""
    left = [times]

    def rule(asked: str, path: str) -> str | None:
        if asked != method or having not in path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return rule
