"""An operator of the model: the real one, in virtual time, with no task of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, cast

from hippo.kube.client import ApiError
from hippo.kube.controller.controller import Operator
from hippo.kube.controller.plan_worker import PlanWorker
from hippo.kube.observability.metrics import Metrics
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY, TRIAL, Document
from hippo.kube.serial_executor import SerialExecutor
from hippo.kube.settings import Settings
from hippo.store import Holder
from tests.model_checking.faults import Faults
from tests.model_checking.server import Connection, Server
from tests.model_checking.store import MemoryBlobs
from tests.unit.kube.memory import copied

P = ParamSpec("P")
T = TypeVar("T")

WATCHED = {resource.plural: resource for resource in (STUDY, TRIAL, SEARCH_PLAN, POD)}

EPOCH = 1_800_000_000.0
"""Unix time at the beginning."""

Key = tuple[str, str]
"""Plural and name."""


class _Inline(SerialExecutor):
    """Without a thread: each run gives the same."""

    async def run(self, call: Callable[P, T], /, *arguments: P.args, **options: P.kwargs) -> T:
        return call(*arguments, **options)

    async def run_long(self, call: Callable[[], T], meanwhile: Callable[[], Awaitable[None]]) -> T:
        return call()


class _WithoutTasks(Operator):
    """The model says when a plan has its turn."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> Any:
        work.close()


class ModelledOperator:
    """Sees of the cluster what its watches have told, object by object."""

    def __init__(self, server: Server, blobs: dict[str, bytes], identity: str, number: int) -> None:
        self.number = number
        self.faults = Faults(met=server.met)
        self._server = server
        self._told: dict[Key, Document] = {}  # as its watches have told last
        api = cast(Any, Connection(server, self.faults))
        settings = Settings(store="s3://bucket", identity=identity)
        self.operator = _WithoutTasks(
            api,
            MemoryBlobs(blobs, self.faults),
            settings,
            Metrics(),
            clock=lambda: server.now,
            unix_clock=lambda: EPOCH + server.now,
            build_holder=self.build_holder,
            build_executor=_Inline,
        )

    @property
    def plans(self) -> list[PlanWorker]:
        return list(self.operator.plans.values())

    def build_holder(self, identity: str, *, eagerly: bool = True) -> Holder:
        """As in a pod: process 1 of its own, which sees no other pod's."""
        boot = f"kubernetes {identity}" if eagerly else ""
        return Holder(f"operator {identity}", boot, 1, f"start {self.number}", "hippo operator")

    async def start(self) -> None:
        """Studies are listed; all else its watches tell later."""
        await self.operator.resync.look_again()

    async def list_again(self) -> None:
        """What the resync does, and each plan's look at its pods."""
        await self.operator.resync.look_again()
        for task in self.plans:
            task.listed = float("-inf")

    # -- what watches tell -------------------------------------------------------------------------

    def behind(self) -> list[Key]:
        """Objects of which something is still to be told."""
        there = self._server.watched(WATCHED)
        changed = [
            key
            for key, document in there.items()
            if key not in self._told or version(self._told[key]) != version(document)
        ]
        return sorted({*changed, *(self._told.keys() - there.keys())})

    async def deliver(self, key: Key) -> None:
        """Tell of one object, as it is now."""
        found = self._server.watched(WATCHED).get(key)
        if found is not None:
            before = self._told.get(key)
            if before is not None and before["metadata"]["uid"] != found["metadata"]["uid"]:
                await self._tell(key, before, is_gone=True)
            self._told[key] = found = copied(found)
            await self._tell(key, found, is_gone=False)
        elif (last := self._told.pop(key, None)) is not None:
            await self._tell(key, last, is_gone=True)

    async def repeat(self, key: Key) -> None:
        """Tell again what was told last, as a watch does that was interrupted."""
        if (last := self._told.get(key)) is not None:
            await self._tell(key, last, is_gone=False)

    @property
    def told(self) -> list[Key]:
        return sorted(self._told)

    async def _tell(self, key: Key, document: Document, *, is_gone: bool) -> None:
        resource, operator = WATCHED[key[0]], self.operator
        if resource is STUDY:
            await self._tell_study(document, is_gone=is_gone)
        elif resource is TRIAL:
            operator.trial_changed(document, is_gone=is_gone)
        elif resource is SEARCH_PLAN:
            operator.plan_changed(document, is_gone=is_gone)
        else:
            operator.pod_changed(document, is_gone=is_gone)

    async def _tell_study(self, document: Document, *, is_gone: bool) -> None:
        """Up to three times, as the handler of the watch does; a later listing tells the rest."""
        for _ in range(3):
            with contextlib.suppress(ApiError):
                await self.operator.study_changed(document, is_gone=is_gone)
                return


def version(document: Document) -> str:
    return str(document["metadata"]["resourceVersion"])
