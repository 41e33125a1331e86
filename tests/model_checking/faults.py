"""What may happen to a request of an operator: it fails, it waits, or the operator dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field


class Killed(BaseException):
    """The operator is gone, in the middle of a round. Nothing may catch it."""


@dataclass
class Faults:
    """Of one operator's next requests: what is set here happens at the n-th from now, once.

    ``kind``: refused (nothing is done), lost (done, and the answer is an error), killed (before),
    cut (done, and killed before the answer), or held (not done until ``gate`` opens; this counts
    requests to the API server alone).
    """

    kind: str = ""
    countdown: int = -1
    held: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def set(self, kind: str, after: int) -> None:
        self.kind, self.countdown = kind, after
        self.gate.clear()

    def clear(self) -> None:
        self.kind, self.countdown = "", -1

    async def wait(self) -> None:
        """Before a request, if it is the one to be held up."""
        if self.kind != "held":
            return
        if self.countdown > 0:
            self.countdown -= 1
            return
        self.clear()
        self.held.set()
        await self.gate.wait()

    def next(self, make_error: Callable[[], Exception]) -> Callable[[], None]:
        """Called before a request is done; what it returns, after. Either may raise."""
        if self.countdown < 0 or self.kind == "held":
            return _nothing
        self.countdown -= 1
        if self.countdown >= 0:
            return _nothing
        kind = self.kind
        self.clear()
        if kind == "killed":
            raise Killed
        if kind == "refused":
            raise make_error()

        def after() -> None:
            raise Killed if kind == "cut" else make_error()

        return after


def _nothing() -> None:
    pass
