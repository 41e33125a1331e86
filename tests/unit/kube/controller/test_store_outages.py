"""Who waits because of the store goes on when it is back, and not before its time otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from hippo.kube.controller import plan_worker
from hippo.kube.controller.controller import Operator
from hippo.kube.controller.store_outages import StoreWatch, rest
from hippo.kube.observability.metrics import Metrics
from hippo.kube.settings import Settings
from hippo.store import BlobInfo, DirectoryBlobs, StoreError
from tests.unit.kube.memory import MemoryApi, add_study, run

LONG = 3600.0


class Store(DirectoryBlobs):
    """One that can be out of reach."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked = 0  # small requests
        self.is_away = False

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        self.asked += prefix == "none-such/"
        self._reach()
        return super().list(prefix, after=after)

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        self._reach()
        return super().get(name, at_most=at_most)

    def put(self, name: str, chunks: Any, *, if_absent: bool = False) -> bool:
        self._reach()
        return super().put(name, chunks, if_absent=if_absent)

    def _reach(self) -> None:
        if self.is_away:
            raise StoreError("the store is away")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def has_asked(store: Store, times: int) -> bool:
    return store.asked >= times


def is_up(metrics: Metrics) -> bool:
    return bool(metrics.registry.get_sample_value("hippo_store_up"))


async def wait_for(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)


def test_the_end_of_an_outage_ends_all_waits(store: Store) -> None:
    async def go() -> None:
        metrics = Metrics(CollectorRegistry())
        watch = StoreWatch(store, metrics, every=0.001)
        running = asyncio.create_task(watch.run())
        for _ in range(2):  # one outage after the other
            store.is_away = True
            now = time.monotonic()
            waits = [asyncio.create_task(rest(LONG, watch.note_failure(now))) for _ in range(3)]
            await wait_for(partial(has_asked, store, store.asked + 3))
            assert not is_up(metrics)
            assert not any(wait.done() for wait in waits)
            store.is_away = False
            async with asyncio.timeout(30):
                await asyncio.gather(*waits)
            assert is_up(metrics)
            asked = store.asked
            await asyncio.sleep(0.05)
            assert store.asked == asked  # nobody asks a store that is well
            await rest(LONG, watch.note_failure(now))  # whom the outage that is over has failed
        running.cancel()

    run(go())


def test_a_store_that_answers_has_no_outage_to_wait_for(store: Store) -> None:
    """What fails a plan then is the plan's own: trying it again at once would help nobody."""

    async def go() -> None:
        watch = StoreWatch(store, Metrics(CollectorRegistry()), every=0.001)
        running = asyncio.create_task(watch.run())
        returned = watch.note_failure(time.monotonic())
        wait = asyncio.create_task(rest(LONG, returned))
        await wait_for(lambda: store.asked == 1)
        await asyncio.sleep(0.05)
        assert (wait.done(), store.asked) == (False, 1)
        wait.cancel()
        await rest(0.01, returned)  # and the time itself ends it
        running.cancel()

    run(go())


def test_a_plan_goes_on_when_the_store_is_back(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it held the plan's lock, which it cannot release while the store is away."""
    monkeypatch.setattr(plan_worker, "LEAST_PAUSE", LONG)
    monkeypatch.setattr(plan_worker, "MOST_PAUSE", LONG)

    async def go() -> None:
        server, metrics = MemoryApi(), Metrics(CollectorRegistry())
        await add_study(server, "a")
        made = Operator(server.api, store, Settings(store="s3://bucket"), metrics)
        made.shared.store_watch = StoreWatch(store, metrics, every=0.001)
        made.spawn(made.shared.store_watch.run(), "store")
        store.is_away = True
        await made.resync.look_again()
        (task,) = made.plans.values()
        for _ in range(3):
            await wait_for(lambda: task.reconciler is None and task.failures > 0)
            await wait_for(partial(has_asked, store, store.asked + 2))
            store.is_away = False
            await wait_for(lambda: task.reconciler is not None and task.failures == 0)
            store.is_away = True
            task.wake.set()
        store.is_away = False
        await made.stop()

    run(go())
