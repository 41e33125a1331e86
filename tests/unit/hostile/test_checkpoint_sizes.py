"""A checkpoint takes a small multiple of its bytes to read, whatever it claims to be."""

from __future__ import annotations

import json
import os
import random
import re
import struct
import tracemalloc
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stage_runner.checkpoints import codec, trees
from stage_runner.checkpoints.codec import CodecError, UnsavableState, decode, encode, snapshot
from stage_runner.checkpoints.layouts import MAX_REPEATED
from stage_runner.checkpoints.trees import BYTES_PER_ENTRY
from tests.unit.hostile.values import NASTY, places, put
from tests.unit.stage_runner.states import STATES

NIGHTLY = os.environ.get("HIPPO_TEST_PROFILE") == "nightly"
TIMES = 12
"""Bytes of memory for each of the file, beside what a file may cost at least."""
JSON_TIMES = 24
"""The same for a header that is nothing but the worst of JSON: ``{},`` takes 72 bytes."""
ENTRIES = 5000
"""Instead of LEAST_ENTRIES: less of everything, so that tests are quick."""
LEAST = 24 * ENTRIES + (1 << 20)
START = struct.Struct("<8sIIQ")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trees, "LEAST_ENTRIES", ENTRIES)


def write(header: Any, data: bytes = b"", version: int = 2) -> bytes:
    """A checkpoint of this header, whatever it says."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    start = START.pack(b"\x89HIPPO\r\n", version, 0, len(text)) + text
    return start + bytes(-len(start) % 64) + data + bytes(-len(data) % 64)


def measure(data: bytes) -> tuple[Any, int]:
    """What is read (a CodecError if it is refused), and the most memory that it took."""
    tracemalloc.start()
    try:
        state: Any = decode(data)
    except CodecError as error:
        state = error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return state, peak


@pytest.mark.slow
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    "item",
    [
        *(b"[]", b"{}", b"0", b'""', b"null", b'{"dict":[]}', b'{"tuple":[]}', b'{"deque":[[],1]}'),
        *(b'{"same":0}', b"[[[]]]", b'{"scalar":["<f4","00000000"]}', b'{"int":"0x0"}', b'{"a":0}'),
    ],
)
@pytest.mark.usefixtures("few")
def test_many_small_values_are_refused_before_they_are_parsed(item: bytes, version: int) -> None:
    size = 3 * BYTES_PER_ENTRY * ENTRIES
    items = b",".join([item] * (size // (len(item) + 1)))
    for header in (
        b'{"blocks":[],"values":[],"tree":[%s]}' % items,
        b'{"blocks":[%s],"values":[],"tree":[]}' % items,
        b'{"blocks":[],"values":[%s],"tree":[]}' % items,
        b'{"blocks":[],"values":[],"tree":[],"other":[%s]}' % items,
    ):
        data = write(header, version=version)
        state, peak = measure(data)
        if len(item) < 20:
            assert isinstance(state, CodecError), str(state)[:80]
            assert "far more memory than it has bytes" in str(state)
            assert peak < 2 * len(data) + (1 << 16)
        assert peak < TIMES * len(data) + LEAST


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("text", [b'"', b'\\"', b'"\\', b'\\\\"', b"{[,"])
@pytest.mark.parametrize("ends", [b'"', b"", b"\\", b'\\"'])
def test_texts_are_told_apart_in_one_pass(text: bytes, ends: bytes) -> None:
    """Whoever looks for the end of each text from its beginning takes hours."""
    header = b'{"blocks":[],"values":[],"tree":[' + b"[]," * 40_000 + b'"' + text * 300_000 + ends
    assert isinstance(measure(write(header))[0], CodecError)


@pytest.mark.slow
@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(STATES)
def test_the_entries_of_what_is_saved_are_not_underestimated(state: Any) -> None:
    walk = trees.Walk()
    walk.take(state, "state", 0)
    taken = snapshot(state)
    header = codec._write_header(taken)
    within = sum(trees.count_entries(text[0]) for text in codec._TEXT.finditer(header))
    found = trees.count_entries(header) - within
    assert found <= codec._estimate_entries(walk, taken.forms)


CLAIMS: list[tuple[str, str, list[int], list[int] | None]] = [
    ("array", "|S0", [10**9], None),
    ("array", "<U0", [10**9], [0]),
    ("array", "|u1", [10**9], [0]),
    ("array", "<f8", [10**6, 10**6], [0, 8]),
    ("array", "<f8", [2**31, 2**31, 2**31], [0, 0, 0]),
    ("array", "<f8", [0, 10**12], None),
    ("array", "<U999999999", [0], None),
    ("array", "<f8", [32, 8], [8, 8]),
    ("array", "<i8", [8, 8, 8], [8, 8, 8]),
    ("tensor", "uint8", [10**9], [0]),
    ("tensor", "float64", [10**6, 10**6], [0, 8]),
    ("tensor", "float32", [0, 10**12], None),
    ("tensor", "float64", [33, 32], [8, 8]),
    ("bytes", "", [10**9], None),
]


@pytest.mark.parametrize(("kind", "dtype", "shape", "strides"), CLAIMS)
def test_no_value_claims_what_is_not_there(
    kind: str, dtype: str, shape: list[int], strides: list[int] | None
) -> None:
    header = {
        "tree": {"block": 0},
        "values": [[kind, dtype, shape, strides, 0, 0, []]],
        "blocks": [512],
    }
    state, peak = measure(write(header, bytes(512)))
    assert isinstance(state, CodecError), state
    assert peak < LEAST
    old = {"tree": {"block": 0}, "blocks": [[kind, dtype, shape, 512]]}
    assert isinstance(measure(write(old, bytes(512), version=1))[0], CodecError)


def test_many_small_claims_are_one_large_one() -> None:
    once = ["array", "|u1", [MAX_REPEATED // 4], [0], 0, 0, []]
    header: dict[str, Any] = {"tree": [{"block": n} for n in range(4)], "blocks": [1]}
    assert len(decode(write({**header, "values": [once] * 4}, b"x"))) == 4
    header["tree"].append({"block": 4})
    with pytest.raises(CodecError, match="more than there are"):
        decode(write({**header, "values": [once] * 5}, b"x"))


def test_what_repeats_too_much_is_refused_when_it_is_saved() -> None:
    many = np.broadcast_to(np.float32(1.0), (MAX_REPEATED,))
    for state in ({"a": {"b": many}}, {"a": {"b": torch.from_numpy(np.array(1.0)).expand(2**40)}}):
        with pytest.raises(UnsavableState, match=r"^state\['a'\]\['b'\]: its elements repeat"):
            snapshot(state)
    few = {"x": torch.zeros(1).expand(2**20), "y": np.broadcast_to(np.float32(1), (2**22,))}
    read = decode(b"".join(encode(few)))
    assert (read["x"].stride(), read["y"].strides) == ((0,), (0,))


def test_an_array_of_items_of_no_bytes_is_refused_when_it_is_saved() -> None:
    records = np.zeros(2, [("none", "S0"), ("number", "i4")])
    with pytest.raises(UnsavableState, match=r"^state\['x'\]: an array of dtype \|S0"):
        snapshot({"x": records["none"]})


@pytest.mark.slow
@pytest.mark.parametrize(
    "state",
    [
        {"order": list(range(100_000))},
        {"losses": [0.1234567 * n for n in range(400_000)]},
        {"log": "step, loss, [1, 2], {3: 4}\n" * 60_000},
        {"order": list(range(1_000_000)), "weights": np.zeros(1_000_000)},
        {"moments": {n: {"step": torch.zeros(()), "a": torch.zeros(3)} for n in range(3000)}},
        {n: {"a": torch.zeros(64, 4), "b": torch.zeros(64), "c": (1, 0.5)} for n in range(2000)},
    ],
    ids=["order", "losses", "log", "order of a model", "tiny tensors", "small tensors"],
)
def test_what_trainers_keep_is_no_hostile_state(state: Any) -> None:
    read = decode(b"".join(encode(snapshot(state))))
    assert list(read) == list(state)
    assert str(read)[:1000] == str(state)[:1000]


@pytest.mark.slow
@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("entry", [7, [], {}, (1,), {"a": 1}])
def test_what_is_saved_can_be_read_whatever_its_size(entry: Any) -> None:
    """Around the most that may be saved."""
    refused, read = set[str](), 0
    for count in range(400, 10_400, 1000):
        try:
            chunks = encode(snapshot({"list": [entry] * count}))
        except UnsavableState as error:
            refused.add(re.sub(r"\d+", "N", str(error)))
            continue
        assert len(decode(b"".join(chunks))["list"]) == count
        read += 1
    assert read
    (line,) = refused
    assert line.startswith("state: it holds N numbers, texts and lists outside of arrays")
    assert "save long lists as arrays" in line


def find_state() -> dict[str, Any]:
    shared = torch.arange(24.0).reshape(4, 6)
    return {
        "weights": np.arange(12, dtype=np.float32).reshape(3, 4)[::-1],
        "views": [shared, shared[1:], shared.t(), shared[0].expand(3, 6)],
        "named": {1: (True, None, 2.5), "text": "é", (1, "a"): [np.int64(3), b"bytes"]},
        "empty": [np.zeros((0, 3)), torch.zeros(2, 0), b"", "", [], {}],
    }


def spoil(header: Any, dice: random.Random) -> Any:
    """Numbers grow, values move to where others stand, and stand there often."""
    path = dice.choice(places(header)[1:])
    number = dice.choice([0, 1, -1, 2**31, 2**40, 2**62, 10**9, dice.randrange(100)])
    inner = header
    for part in dice.choice(places(header)):
        inner = inner[part]
    value = dice.choice([number, dice.choice(NASTY), inner, [inner] * dice.choice([2, 50, 1000])])
    return put(header, path, value)


@pytest.mark.slow
@settings(max_examples=20_000 if NIGHTLY else 400)
@given(st.integers(0, 2**32))
def test_spoilt_headers_take_little_memory(seed: int) -> None:
    dice = random.Random(seed)
    data = b"".join(encode(snapshot(find_state())))
    length = START.unpack_from(data)[3]
    header = json.loads(data[START.size : START.size + length])
    blocks = data[START.size + length + -(START.size + length) % 64 :]
    for _ in range(dice.randrange(1, 5)):
        header = spoil(header, dice)
        if len(json.dumps(header)) > 1 << 20:
            break
    made = write(header, blocks, version=dice.choice([1, 2, 2, 2]))
    state, peak = measure(made)
    assert peak < JSON_TIMES * len(made) + LEAST
    assert find_claims(state) < len(made) + MAX_REPEATED + (1 << 20)


def find_claims(state: Any) -> int:
    """Bytes of all arrays and tensors, each once."""
    found: dict[int, int] = {}
    pending = [state]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending += [*value.values()]
        elif isinstance(value, (list, tuple)):
            pending += value
        elif isinstance(value, (np.ndarray, torch.Tensor)):
            found[id(value)] = value.nbytes
    return sum(found.values())
