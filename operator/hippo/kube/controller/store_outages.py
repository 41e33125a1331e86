"""Outages of the store, noticed once for all plans: they go on when it is back, and until then one
small request every few seconds is all that it gets.

A plan that the store has failed waits before it is opened again, longer each time. If the store
fails this one request as well, it is an outage, and its end ends all these waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time

from hippo.kube.observability.metrics import Metrics
from hippo.store import Blobs, StoreError

log = logging.getLogger(__name__)

PROBE_SECONDS = 2.0
"""Between two requests during an outage."""


class StoreWatch:
    """Made in the event loop that it is used in."""

    def __init__(self, blobs: Blobs, metrics: Metrics, *, every: float = PROBE_SECONDS) -> None:
        self._blobs = blobs
        self._metrics = metrics
        self._every = every  # seconds
        self._doubt = asyncio.Event()
        self._returned = asyncio.Event()  # another one for each outage
        self._ended_at = -math.inf  # the last outage, by time.monotonic()

    def note_failure(self, since: float) -> asyncio.Event:
        """The store has failed somebody who began to use it then (``time.monotonic()``); returns
        what is set once it is worth another attempt.
        """
        if self._ended_at >= since:  # an outage that is over failed him
            over = asyncio.Event()
            over.set()
            return over
        self._doubt.set()
        return self._returned

    async def run(self) -> None:
        """For ever: find out whether a failure is an outage, and when that is over."""
        while True:
            await self._doubt.wait()
            self._doubt.clear()
            reason = await self._ask()
            if reason is None:
                continue
            log.warning("the store cannot be used: %s", reason)
            while await self._ask() is not None:  # noqa: ASYNC110 - a store tells nobody
                await asyncio.sleep(self._every)
            log.info("the store answers again")
            self._doubt.clear()
            self._ended_at = time.monotonic()
            returned, self._returned = self._returned, asyncio.Event()
            returned.set()

    async def _ask(self) -> str | None:
        """What the store says to a small request; None: it answers."""
        try:
            await asyncio.to_thread(self._blobs.list, "none-such/")
        except StoreError as error:
            self._metrics.note_store_down()
            return str(error)
        self._metrics.note_store_up()
        return None


async def rest(seconds: float, ends: asyncio.Event | None) -> None:
    """Wait so long, or until the event is set."""
    if ends is None:
        return await asyncio.sleep(seconds)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await ends.wait()
