"""A forward proxy on loopback, as stands between many sites and the internet: it asks for a user,
and leads to one real server, by whatever name that is called.
"""

from __future__ import annotations

import base64
import selectors
import socket
import urllib.parse

from tests.integration import loopback

USER, WORD = "site-user", "site-pass/word"
_HOP_BY_HOP = {"proxy-authorization", "connection", "transfer-encoding", "content-length"}


class ForwardProxy(loopback.LoopbackServer):
    def __init__(self, address: str) -> None:
        """``address``: host:port of the server."""
        self.seen: list[str] = []  # "METHOD target" of every request
        self.refused = 0  # without the right user
        proxy = self
        place = urllib.parse.urlsplit(f"//{address}")
        keys = base64.b64encode(f"{USER}:{WORD}".encode()).decode()

        class Handler(loopback.Handler):
            def knows_user(self) -> bool:
                proxy.seen.append(f"{self.command} {self.path}")
                if self.headers.get("Proxy-Authorization") == f"Basic {keys}":
                    return True
                proxy.refused += 1
                self.send_empty(407)
                return False

            def tunnel(self) -> None:
                if not self.knows_user():
                    return
                with socket.create_connection((place.hostname, place.port)) as server:
                    self.send_response(200)
                    self.end_headers()
                    _join(self.connection, server)
                self.close_connection = True

            def forward(self) -> None:
                body = self.read_body()
                if not self.knows_user():
                    return
                path = urllib.parse.urlunsplit(("", "", *urllib.parse.urlsplit(self.path)[2:]))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP_BY_HOP}
                answer, data = loopback.ask(address, self.command, path, body, headers)
                self.send_head_of(answer, data)
                self.wfile.write(data)

            do_CONNECT = tunnel  # noqa: N815
            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = forward  # noqa: N815

        super().__init__(Handler)
        self.url = f"http://{USER}:{urllib.parse.quote(WORD, safe='')}@{self.place}"


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
