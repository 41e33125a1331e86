"""Events on Studies: what a person wants to know, on transitions only, counted when repeated."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from hippo.kube.client import AlreadyExists, Api, ApiError, NotFound
from hippo.kube.manifests import event_name
from hippo.kube.resources import EVENT
from hippo.kube.status.bounding import MAX_EVENT_BYTES, bound_message
from hippo.kube.status.conditions import format_time

MAX_WAITING = 1000
"""Events that are not posted yet. Beyond that the oldest of the fullest namespace are dropped:
they are no record."""
_REMEMBERED = 2000

log = logging.getLogger(__name__)


class _Turns:
    """Events that wait, of each namespace in turn: a flood of one drowns its own alone."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[dict[str, Any]]] = {}  # the next namespace first
        self._has_some = asyncio.Event()

    def put(self, namespace: str, event: dict[str, Any]) -> None:
        self._waiting.setdefault(namespace, deque()).append(event)
        if self.qsize() > MAX_WAITING:
            max(self._waiting.values(), key=len).popleft()
        self._has_some.set()

    def qsize(self) -> int:
        return sum(map(len, self._waiting.values()))

    def empty(self) -> bool:
        return not self._waiting

    def get_nowait(self) -> dict[str, Any]:
        namespace, events = next(iter(self._waiting.items()))
        del self._waiting[namespace]
        event = events.popleft()
        if events:
            self._waiting[namespace] = events
        return event

    async def get(self) -> dict[str, Any]:
        while self.empty():
            self._has_some.clear()
            await self._has_some.wait()
        return self.get_nowait()


class Events:
    """Posts Events from a queue, so that nothing waits for them and none fails anything."""

    def __init__(self, api: Api, clock: Callable[[], float] = time.time) -> None:
        """``clock`` gives Unix time."""
        self._api = api
        self._clock = clock
        self._queue = _Turns()
        self._counts: OrderedDict[str, int] = OrderedDict()

    def tell(self, about: Mapping[str, Any], reason: str, message: str, is_warning: bool) -> None:
        """``about``: the object, as the API returns it."""
        metadata, message = about["metadata"], bound_message(message, MAX_EVENT_BYTES)
        involved = {
            "apiVersion": about["apiVersion"],
            "kind": about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        }
        now = format_time(self._clock())
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": event_name(involved, reason, message),
                "namespace": metadata["namespace"],
            },
            "involvedObject": involved,
            "type": "Warning" if is_warning else "Normal",
            "reason": reason,
            "message": message,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "source": {"component": "hippo"},
            "reportingComponent": "hippo",
        }
        self._queue.put(metadata["namespace"], event)

    async def run(self) -> None:
        """Post what comes, for ever."""
        while True:
            event = await self._queue.get()
            try:
                await self._post(event)
            except ApiError as error:
                log.warning("an Event could not be posted: %s", error)

    async def _post(self, event: dict[str, Any]) -> None:
        name, namespace = event["metadata"]["name"], event["metadata"]["namespace"]
        count = self._counts[name] = self._counts.pop(name, 0) + 1
        if len(self._counts) > _REMEMBERED:
            self._counts.popitem(last=False)
        if count == 1:
            try:
                await self._api.create(EVENT, namespace, event)
            except AlreadyExists:  # by this operator, before it was restarted
                return
        else:
            repeated = {"count": count, "lastTimestamp": event["lastTimestamp"]}
            try:
                await self._api.patch(EVENT, namespace, name, repeated)
            except NotFound:  # it has expired
                self._counts.pop(name, None)
                await self._api.create(EVENT, namespace, event)
