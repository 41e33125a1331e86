"""States copied into memory that is used again are the same as those copied into fresh one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy
import pytest
import torch

from stage_runner.checkpoints.codec import Snapshot, encode, snapshot
from stage_runner.checkpoints.digest import state_digest
from stage_runner.checkpoints.memory import Memory

STATE: dict[str, Any] = {
    "weights": torch.arange(600_000, dtype=torch.float32).reshape(600, 1000),
    "columns": torch.arange(1000, dtype=torch.float64).reshape(10, 100).t()[::3],
    "half": torch.tensor([1.5, float("nan"), -0.0], dtype=torch.bfloat16),
    "eighth": torch.tensor([1.5, -2.0]).to(torch.float8_e4m3fn),
    "conjugate": torch.tensor([1 + 2j, 3 - 1j]).conj(),
    "flag": torch.tensor(True),
    "nothing": torch.empty(0, 3),
    "count": torch.tensor(7, dtype=torch.uint16),
    "array": numpy.arange(12, dtype=">i2").reshape(3, 4)[:, ::2],
    "fortran": numpy.asfortranarray(numpy.arange(6.0).reshape(2, 3)),
    "number": numpy.array(2.5),
    "words": numpy.array(["a", "bcd"]),
    "empty": numpy.empty((0, 2)),
    "bytes": b"raw",
    "plain": [1, 2.5, None, ("a", True)],
}


def ready(size: int) -> Memory:
    memory = Memory()
    memory.expect(size)
    wait_until(lambda: len(memory._held or b"") >= size)
    return memory


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def data_of(taken: Snapshot) -> bytes:
    return b"".join(bytes(chunk) for chunk in encode(taken))


@pytest.mark.parametrize("size", [0, 1 << 21, 2_402_000])
def test_the_same_bytes_wherever_they_lie(size: int) -> None:
    memory = ready(size) if size else Memory()
    expected = data_of(snapshot(STATE))
    for _ in range(3):
        assert memory.acquire()
        taken = snapshot(STATE, memory)
        assert data_of(taken) == expected
        assert state_digest(taken) == state_digest(STATE)
        memory.release()
        wait_until(lambda: memory._held is not None)


def test_later_training_alters_no_snapshot() -> None:
    memory = ready(4 << 20)
    state = {"weights": torch.zeros(500_000), "array": numpy.zeros(50_000)}
    assert memory.acquire()
    taken = snapshot(state, memory)
    before = data_of(taken)
    state["weights"] += 1
    state["array"][:] = 1
    assert data_of(taken) == before


def test_it_is_for_one_at_a_time() -> None:
    memory = ready(2 << 20)
    assert memory.acquire()
    assert not memory.acquire()
    first = memory.take(1000)
    second = memory.take(1000)
    assert first is not None
    assert second is not None
    first[:], second[:] = b"a" * 1000, b"b" * 1000
    assert bytes(first) == b"a" * 1000
    assert memory.take(0) is None
    assert memory.take(2 << 20) is None
    memory.release()
    wait_until(memory.acquire)  # a thread may just be making it larger


def test_it_grows_to_what_was_needed_and_keeps_nothing_for_small_states() -> None:
    memory = Memory()
    assert memory.acquire()
    assert memory.take(1000) is None
    memory.release()
    assert memory._held is None
    assert memory.acquire()
    assert memory.take(3 << 20) is None
    memory.release()
    wait_until(lambda: len(memory._held or b"") == 3 << 20)


def test_memory_that_there_is_not_is_done_without() -> None:
    memory = Memory()
    memory.expect(1 << 60)
    wait_until(memory.acquire)
    assert data_of(snapshot(STATE, memory)) == data_of(snapshot(STATE))
