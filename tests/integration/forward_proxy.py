"""A forward proxy on loopback, as stands between many sites and the internet: it asks for a user,
and leads to one real server, by whatever name that is called.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import selectors
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, WORD = "site-user", "site-pass/word"
_HOP_BY_HOP = {"proxy-authorization", "connection", "transfer-encoding", "content-length"}


class ForwardProxy:
    def __init__(self, address: str) -> None:
        """``address``: host:port of the server."""
        self.seen: list[str] = []  # "METHOD target" of every request
        self.refused = 0  # without the right user
        proxy = self
        place = urllib.parse.urlsplit(f"//{address}")
        keys = base64.b64encode(f"{USER}:{WORD}".encode()).decode()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def knows_user(self) -> bool:
                proxy.seen.append(f"{self.command} {self.path}")
                if self.headers.get("Proxy-Authorization") == f"Basic {keys}":
                    return True
                proxy.refused += 1
                self.send_response(407)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return False

            def do_CONNECT(self) -> None:
                if not self.knows_user():
                    return
                with socket.create_connection((place.hostname, place.port)) as server:
                    self.send_response(200)
                    self.end_headers()
                    _join(self.connection, server)
                self.close_connection = True

            def forward(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if not self.knows_user():
                    return
                target = urllib.parse.urlsplit(self.path)
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
                connection = http.client.HTTPConnection(address)
                connection.request(
                    self.command,
                    urllib.parse.urlunsplit(("", "", *target[2:])),
                    body,
                    headers,
                )
                answer = connection.getresponse()
                data = answer.read()
                connection.close()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else len(data)
                self.send_header("Content-Length", str(length))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.place = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{USER}:{urllib.parse.quote(WORD, safe='')}@{self.place}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    @contextlib.contextmanager
    def running(self) -> Iterator[ForwardProxy]:
        self._thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


def _join(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either sends, until one has closed."""
    with selectors.DefaultSelector() as selector:
        selector.register(one, selectors.EVENT_READ, other)
        selector.register(other, selectors.EVENT_READ, one)
        while True:
            for key, _ in selector.select():
                assert isinstance(key.fileobj, socket.socket)
                data = key.fileobj.recv(1 << 16)
                if not data:
                    return
                key.data.sendall(data)
