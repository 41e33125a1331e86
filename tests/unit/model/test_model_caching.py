"""Caches are bounded by bytes, and return the right values."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.model import Sequence
from hippo.model.caching import ByteCache
from hippo.model.sequences import sequence as module
from hippo.model.sequences.interning import Interned
from hippo.model.sequences.sequence import expand, read_concrete, runs_of
from hippo.model.spaces.space import Space
from tests import strategies


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60), st.booleans())))
def test_there_is_never_more_than_fits_and_never_anything_else(
    moves: list[tuple[int, int, bool]],
) -> None:
    cache: ByteCache[int, int] = ByteCache(100)
    put: dict[int, int] = {}
    for key, size, is_put in moves:
        if is_put:
            cache.put(key, size, size)
            put[key] = size if 2 * size <= 100 else put.get(key, size)
        found = cache.get(key)
        assert found is None or found == put[key]
        assert cache.size <= 100


def test_what_is_used_stays() -> None:
    cache: ByteCache[int, str] = ByteCache(100)
    cache.put(0, "kept", 10)
    for key in range(1, 100):
        cache.put(key, "passing", 10)
        assert cache.get(0) == "kept"
    assert len(cache) <= 10


def large(number: int) -> dict[str, Any]:
    return {"step": {"initial": 0.1, "gamma": round(0.999 - number * 1e-6, 7), "every": 10}}


@pytest.mark.parametrize(
    "written",
    [
        large(0),
        {"cosine": {"initial": 0.1, "final": 0.01, "steps": 900}},
        {"piecewise": [[0, 0.1], [10, {"exponential": {"initial": 0.1, "gamma": 0.99123}}]]},
        {"exponential": {"initial": 1e-300, "gamma": 12345678901.5}},
    ],
    ids=json.dumps,
)
def test_sizes_are_not_told_too_small(written: Any) -> None:
    expand(read_concrete(written, ""), 50, "")  # what all share is there
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        runs = expand(read_concrete(written, ""), 50, "")
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken <= runs.size * 1.1


def test_schedules_that_were_worked_out_are_kept_by_their_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interned = Interned(1 << 20)
    monkeypatch.setattr(module, "_INTERNED", interned)
    for number in range(30):
        sequence = Sequence.of({"lr": large(number)}, 3_000)
        assert sequence.runs("lr") is runs_of(large(number), 3_000, path="lr")
        assert 0 < interned.size <= 1 << 20


@pytest.mark.slow
@given(strategies.spaces())
def test_forks_are_the_same_whatever_is_still_kept(written: dict[str, Any]) -> None:
    space, forgetful = Space(written), Space(written)
    forgetful._points, forgetful._forks = ByteCache(0), ByteCache(0)
    for index in range(3):
        sequence = Sequence.of(space.draw(0, index), 40)
        assert space.fork_steps(sequence) == forgetful.fork_steps(sequence)
        assert space.fork_steps(sequence) == forgetful.fork_steps(sequence)
