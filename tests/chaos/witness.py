"""Is told by trainers of each step that they train; and may tell a trainer to misbehave.

One datagram a step, over loopback or a pod's link to its node, where none is lost on the way.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_LARGEST = 4096  # bytes
_CHECK_SECONDS = 0.2
_BUFFER = 1 << 22  # bytes: thousands of steps while nobody listens


@dataclass(frozen=True, slots=True)
class Step:
    """Trained by ``worker`` (a chain's pod, or a chain), which then stood at ``number``."""

    worker: str
    number: int
    after: str  # a hash of all that was trained to get there
    at: float  # time.monotonic()


class Witness:
    """Listens at ``address`` while it is ``listening``."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.settimeout(_CHECK_SECONDS)
        self._socket.bind((host, 0))
        self._steps: list[Step] = []
        self._orders: dict[str, str] = {}
        self._is_over = threading.Event()

    @property
    def address(self) -> list[str | int]:
        host, port = self._socket.getsockname()
        return [str(host), int(port)]

    @property
    def steps(self) -> list[Step]:
        """So far, in order."""
        return list(self._steps)

    def order(self, worker: str, misdeed: str) -> None:
        """When it tells of its next step, the worker is told to do this."""
        self._orders[worker] = misdeed

    @contextmanager
    def listening(self) -> Iterator[Witness]:
        thread = threading.Thread(target=self._listen, name="witness")
        thread.start()
        try:
            yield self
        finally:
            self._is_over.set()
            thread.join()
            self._socket.close()

    def _listen(self) -> None:
        while not self._is_over.is_set():
            try:
                data, sender = self._socket.recvfrom(_LARGEST)
            except TimeoutError:
                continue
            worker, number, after = data.decode().split()
            self._steps.append(Step(worker, int(number), after, time.monotonic()))
            if (misdeed := self._orders.pop(worker, None)) is not None:
                self._socket.sendto(misdeed.encode(), sender)
