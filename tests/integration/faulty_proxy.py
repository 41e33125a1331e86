"""A proxy before a real S3 that spoils single requests or answers, as told by a test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable

from tests.integration import loopback

Rule = Callable[[str, str], str | None]
"""From method and path (with its query) to a fault; None passes the request on.

refuse: answer 503, do nothing.  lose: do it, and close instead of answering.  halve: close after
half of the answer's body.  agree: answer 200, do nothing.
"""


class FaultyProxy(loopback.LoopbackServer):
    def __init__(self, address: str) -> None:
        self.rule: Rule = lambda method, path: None
        self.seen: list[str] = []  # "METHOD path" of every request
        proxy, lock = self, threading.Lock()

        class Handler(loopback.Handler):
            def answer(self) -> None:
                body = self.read_body()
                with lock:
                    proxy.seen.append(f"{self.command} {self.path}")
                    fault = proxy.rule(self.command, self.path)
                if fault in ("refuse", "agree"):
                    self.send_empty(200 if fault == "agree" else 503)
                    return
                asked = self.command, self.path, body, dict(self.headers)
                answer, data = loopback.ask(address, *asked)
                if fault == "lose":
                    self.close_connection = True
                    return
                self.send_head_of(answer, data)
                if fault == "halve":
                    data, self.close_connection = data[: len(data) // 2], True
                with contextlib.suppress(OSError):
                    self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

        super().__init__(Handler)
        self.endpoint = f"http://{self.place}"


def first(fault: str, *, method: str, having: str = "", times: int = 1) -> Rule:
    """The fault for the first requests of a method whose path has this text."""
    left = [times]

    def rule(asked: str, path: str) -> str | None:
        if asked != method or having not in path or not left[0]:
            return None
        left[0] -= 1
        return fault

    return rule
