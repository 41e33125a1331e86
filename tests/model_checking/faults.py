"""What may happen to a request of an operator: it fails, it waits, or the operator dies."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


class Killed(BaseException):
    """The operator is gone, in the middle of a round. Nothing may catch it."""


@dataclass
class Faults:
    """Of one operator's next requests: what is set here happens at the n-th from now, once.

    ``kind``: refused (nothing is done), lost (done, and the answer is an error), killed (before),
    cut (done, and killed before the answer), or held (not done until ``gate`` opens; this counts
    requests to the API server alone). ``met`` counts what has happened, by kind and request.
    """

    kind: str = ""
    countdown: int = -1
    lasts: bool = False
    """It waits for its request beyond the piece of work in which it was set."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    met: Counter[str] = field(default_factory=Counter)

    def set(self, kind: str, after: int, *, lasts: bool = False) -> None:
        self.kind, self.countdown, self.lasts = kind, after, lasts
        self.gate.clear()

    def clear(self) -> None:
        self.kind, self.countdown, self.lasts = "", -1, False

    async def wait(self, request: str) -> None:
        """Before a request, if it is the one to be held up."""
        if self.kind != "held":
            return
        if self.countdown > 0:
            self.countdown -= 1
            return
        self.clear()
        self.met[f"held {request}"] += 1
        self.held.set()
        await self.gate.wait()

    def next(self, make_error: Callable[[], Exception], request: str) -> Callable[[], None]:
        """Called before a request is done; what it returns, after. Either may raise."""
        if self.countdown < 0 or self.kind == "held":
            return _nothing
        self.countdown -= 1
        if self.countdown >= 0:
            return _nothing
        kind = self.kind
        self.clear()
        self.met[f"{kind} {request}"] += 1
        if kind == "killed":
            raise Killed
        if kind == "refused":
            raise make_error()

        def after() -> None:
            raise Killed if kind == "cut" else make_error()

        return after


def _nothing() -> None:
    pass
