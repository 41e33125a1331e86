"""A checkpoint's bytes, whoever wrote them: read as data, refused as a whole, and never run."""

from __future__ import annotations

import contextlib
import pickle
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stage_runner.checkpoints.codec import CodecError, decode, encode, snapshot
from tests.unit.hostile.values import spoil_bytes

STATE: dict[str, Any] = {
    "weights": np.arange(12, dtype=np.float32).reshape(3, 4),
    "count": 7,
    "nested": {1: (True, None, 2.5), "text": "é"},
    "list": [np.int64(3), b"bytes"],
}


def encoded() -> bytes:
    return b"".join(bytes(chunk) for chunk in encode(snapshot(STATE)))


def test_it_is_read_back() -> None:
    assert decode(encoded())["count"] == 7


@pytest.mark.slow
@settings(max_examples=300)
@given(st.integers(0, 2**32))
def test_spoilt_bytes_are_refused_or_data_and_take_no_more_room_than_they_are(seed: int) -> None:
    dice = random.Random(seed)
    data = encoded()
    for _ in range(dice.randrange(1, 4)):
        data = spoil_bytes(data, dice) if dice.random() < 0.5 else _flip(data, dice)
    tracemalloc.start()
    state = None
    try:
        with contextlib.suppress(CodecError):
            state = decode(data)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 50 * len(data) + (1 << 20)
    assert _is_plain(state)


def _flip(data: bytes, dice: random.Random) -> bytes:
    if not data:
        return data
    # The header, where sizes, types and shapes stand, is the more interesting part.
    position = dice.randrange(min(len(data), 400) if dice.random() < 0.8 else len(data))
    return data[:position] + bytes([dice.choice(b'0123456789-[]{}",:eE')]) + data[position + 1 :]


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_plain, [*value, *value.values()]))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    kinds = (type(None), bool, int, float, str, bytes, np.ndarray, np.generic)
    return isinstance(value, kinds) and getattr(value, "dtype", None) != np.dtype(object)


class Canary:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return (Path.touch, (self.place,))


def test_a_pickle_is_no_checkpoint(tmp_path: Path) -> None:
    canary = tmp_path / "it-ran"
    payload = pickle.dumps(Canary(canary))
    for data in (payload, encoded() + payload, encoded()[:16] + payload, payload + encoded()):
        with pytest.raises(CodecError):
            decode(data)
    assert not canary.exists()
    pickle.loads(payload)
    assert canary.exists(), "the canary would have sung"
