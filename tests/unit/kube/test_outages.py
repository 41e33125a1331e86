"""Who waits because of the store goes on when it is back, and not before its time otherwise."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from hippo.kube import operator
from hippo.kube.metrics import Metrics
from hippo.kube.outages import StoreWatch, rest
from hippo.kube.settings import Settings
from hippo.store import BlobInfo, DirectoryBlobs
from tests.unit.kube.memory import MemoryApi, add_study, run

LONG = 3600.0


class CountingBlobs(DirectoryBlobs):
    asked = 0

    def list(self, prefix: str, *, after: str = "") -> list[BlobInfo]:
        self.asked += 1
        return super().list(prefix, after=after)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


def has_asked(blobs: CountingBlobs, times: int) -> bool:
    return blobs.asked >= times


def break_(root: Path) -> None:
    """A folder that is a file fails every request."""
    root.write_text("")


def mend(root: Path) -> None:
    root.unlink()


def is_up(metrics: Metrics) -> bool:
    return bool(metrics.registry.get_sample_value("hippo_store_up"))


async def wait_for(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not what():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.001)


def test_the_end_of_an_outage_ends_all_waits(root: Path) -> None:
    async def go() -> None:
        blobs, metrics = CountingBlobs(root), Metrics(CollectorRegistry())
        watch = StoreWatch(blobs, metrics, every=0.001)
        running = asyncio.create_task(watch.run())
        for _ in range(2):  # one outage after the other
            break_(root)
            asked = blobs.asked
            now = time.monotonic()
            waits = [asyncio.create_task(rest(LONG, watch.note_failure(now))) for _ in range(3)]
            await wait_for(partial(has_asked, blobs, asked + 3))
            assert not is_up(metrics)
            assert not any(wait.done() for wait in waits)
            mend(root)
            async with asyncio.timeout(30):
                await asyncio.gather(*waits)
            assert is_up(metrics)
            asked = blobs.asked
            await asyncio.sleep(0.05)
            assert blobs.asked == asked  # nobody asks a store that is well
            await rest(LONG, watch.note_failure(now))  # whom the outage that is over has failed
        running.cancel()

    run(go())


def test_a_store_that_answers_has_no_outage_to_wait_for(root: Path) -> None:
    """What fails a plan then is the plan's own: trying it again at once would help nobody."""

    async def go() -> None:
        blobs, metrics = CountingBlobs(root), Metrics(CollectorRegistry())
        watch = StoreWatch(blobs, metrics, every=0.001)
        running = asyncio.create_task(watch.run())
        returned = watch.note_failure(time.monotonic())
        wait = asyncio.create_task(rest(LONG, returned))
        await wait_for(lambda: blobs.asked == 1)
        await asyncio.sleep(0.05)
        assert (wait.done(), blobs.asked) == (False, 1)
        wait.cancel()
        await rest(0.01, returned)  # and the time itself ends it
        running.cancel()

    run(go())


def test_a_plan_goes_on_when_the_store_is_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(operator, "LEAST_PAUSE", LONG)
    monkeypatch.setattr(operator, "MOST_PAUSE", LONG)

    async def go() -> None:
        server, metrics = MemoryApi(), Metrics(CollectorRegistry())
        await add_study(server, "a")
        settings = Settings(store="s3://bucket")
        made = operator.Operator(server.api, DirectoryBlobs(root), settings, metrics)
        made.store_watch = StoreWatch(made.tools.blobs, metrics, every=0.001)
        made.spawn(made.store_watch.run(), "store")
        break_(root)
        await made.look_again()
        (task,) = made.plans.values()
        await wait_for(lambda: task.failures == 1 and not is_up(metrics))
        mend(root)
        await wait_for(lambda: task.driver is not None)
        await made.stop()

    run(go())
