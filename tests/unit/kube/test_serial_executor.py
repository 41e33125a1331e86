"""Threads of one's own: they delay nobody, and nobody waits for them at the end."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest

from hippo.kube import serial_executor as module
from hippo.kube.serial_executor import NoThread, SerialExecutor
from tests.unit.kube.memory import run


def test_calls_are_done_one_after_the_other_elsewhere() -> None:
    marks: list[int] = []
    told = contextvars.ContextVar("told", default="")

    def call(number: int, *, more: int = 0) -> tuple[int, str, int]:
        marks.append(number)
        return number + more, told.get(), threading.get_ident()

    async def go() -> None:
        executor, other = SerialExecutor("one"), SerialExecutor("another")
        told.set("of the caller")
        found = await asyncio.gather(*(executor.run(call, n, more=1) for n in range(20)))
        assert [number for number, _, _ in found] == list(range(1, 21))
        assert marks == list(range(20))
        assert {text for _, text, _ in found} == {"of the caller"}
        assert threading.get_ident() not in {thread for _, _, thread in found}
        await other.run(call, 0)

    run(go())


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), SystemExit(3)])
def test_what_a_call_raises_is_raised(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def beat() -> None:
        raise AssertionError("it did not take long")

    async def go() -> None:
        executor = SerialExecutor("one")
        for work in (executor.run(fail), executor.run_long(fail, beat)):
            with pytest.raises(type(error)):
                await work
        assert await executor.run(lambda: 5) == 5

    run(go())


def test_however_many_are_stuck_the_others_work() -> None:
    async def go() -> None:
        release = threading.Event()
        stuck = [SerialExecutor(f"stuck {number}") for number in range(100)]
        works = [asyncio.create_task(executor.run(release.wait)) for executor in stuck]
        while not all(executor.is_busy for executor in stuck):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
        assert await SerialExecutor("sound").run(lambda: 1) == 1
        assert await asyncio.to_thread(lambda: 2) == 2
        release.set()
        assert all(await asyncio.gather(*works))

    run(go())


def test_meanwhile_something_else_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.001)
    release = threading.Event()
    beats = 0

    async def beat() -> None:
        nonlocal beats
        beats += 1
        if beats == 3:
            release.set()

    async def go() -> None:
        assert await SerialExecutor("one").run_long(release.wait, beat)
        assert beats >= 3

    run(go())


def test_who_no_longer_waits_leaves_it_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_SECONDS", 0.001)
    release = threading.Event()

    async def fail() -> None:
        raise OSError("the lock is lost")

    async def go() -> None:
        executor = SerialExecutor("one")
        with pytest.raises(OSError, match="lost"):
            await executor.run_long(release.wait, fail)
        assert executor.is_busy
        task = asyncio.create_task(executor.run(lambda: 1))
        await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()
        follower = asyncio.create_task(executor.run(lambda: 2))
        await asyncio.sleep(0)
        release.set()
        assert await follower == 2
        while executor.is_busy:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)

    run(go())


def test_where_there_are_no_more_threads_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def go() -> None:
        executor = SerialExecutor("one")
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            with pytest.raises(NoThread, match="can't start new thread"):
                await executor.run(lambda: 1)
        assert not executor.is_busy
        assert await executor.run(lambda: 2) == 2

    run(go())


def test_a_call_queued_behind_one_that_gets_no_thread_is_told_so_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    executor = SerialExecutor("one")
    queued = []

    def refuse(_: threading.Thread) -> None:
        queued.append(executor._submit(lambda: 2))  # another thread's, just now
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(NoThread):
        run(executor.run(lambda: 1))
    with pytest.raises(NoThread):
        queued[0].result(timeout=1.0)
    assert not executor.is_busy


@pytest.mark.slow
def test_the_process_ends_whatever_is_stuck() -> None:
    code = (
        "import asyncio, threading\n"
        "from hippo.kube.serial_executor import SerialExecutor\n"
        "async def go():\n"
        "    work = asyncio.create_task(SerialExecutor('stuck').run(threading.Event().wait))\n"
        "    await asyncio.sleep(0.01)\n"
        "    print('over')\n"
        "asyncio.run(go())\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert found.stdout == "over\n"
