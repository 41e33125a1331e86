"""Everything that may be saved comes back bit for bit; everything else is refused by its path."""

from __future__ import annotations

import collections
import contextlib
import json
import math
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stage_runner.codec import CodecError, UnsavableState, decode, encode, snapshot
from stage_runner.digest import find_differences, leaf_digests, state_digest

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text()
KEYS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda keys: st.lists(keys, max_size=2).map(tuple),
    max_leaves=3,
)
STATES = st.recursive(
    SCALARS | st.binary(),
    lambda states: (
        st.lists(states, max_size=4)
        | st.lists(states, max_size=4).map(tuple)
        | st.dictionaries(KEYS, states, max_size=4)
    ),
    max_leaves=12,
)


def through(state: Any) -> Any:
    return decode(b"".join(encode(state)))


def same(one: Any, other: Any) -> bool:
    """Equal in type, order and every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return same(list(one), list(other)) and same(list(one.values()), list(other.values()))
    return bool(one == other)


@given(STATES)
def test_plain_data_comes_back(state: Any) -> None:
    assert same(through(state), state)
    assert state_digest(through(state)) == state_digest(state)


@given(STATES, STATES)
def test_digests_are_equal_for_equal_states_only(one: Any, other: Any) -> None:
    assert (state_digest(one) == state_digest(other)) == same(ordered(one), ordered(other))


def ordered(state: Any) -> Any:
    if isinstance(state, dict):
        keys = sorted(state, key=lambda key: b"".join(bytes(c) for c in encode(key)))
        return {key: ordered(state[key]) for key in keys}
    if isinstance(state, (list, tuple)):
        return type(state)(ordered(item) for item in state)
    return state


def test_special_numbers_keep_their_bits() -> None:
    payload = struct.unpack(">d", bytes.fromhex("7ff8000000000123"))[0]
    state = [math.nan, payload, -math.inf, -0.0, 5e-324, 2**53 + 1, -(10**5000), 1e16]
    assert same(through(state), state)


def test_the_order_of_keys_is_kept_but_not_part_of_the_digest() -> None:
    one, other = {"a": 1, 2: "b", True: 3}, {2: "b", True: 3, "a": 1}
    assert list(through(one)) == ["a", 2, True]
    assert state_digest(one) == state_digest(other)
    assert state_digest({1: "x"}) != state_digest({"1": "x"})


DTYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16),
    *(torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (5, 3)], ids=str)
def test_tensors_of_every_type_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    size = math.prod(shape) * dtype.itemsize
    raw = torch.randint(0, 2, (size,), dtype=torch.uint8)
    tensor = raw.view(dtype).reshape(shape)
    restored = through({"x": tensor})["x"]
    assert restored.dtype == dtype
    assert restored.shape == tensor.shape
    assert torch.equal(restored.reshape(-1).view(torch.uint8), raw)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2],
        np.asfortranarray(np.random.default_rng(0).normal(size=(3, 4))),
        np.array(3.5),
        np.zeros((0, 3), np.float16),
        np.array([True, False]),
        np.array(["ab", "c"]),
        np.array([b"ab", b"c"]),
        np.array(["2020-01-01"], "M8[s]"),
        np.array([1 + 2j], np.complex64),
    ],
    ids=lambda array: array.dtype.str,
)
def test_arrays(array: np.ndarray[Any, Any]) -> None:
    restored = through(array)
    assert restored.dtype == array.dtype
    assert restored.shape == array.shape
    assert restored.tobytes() == np.ascontiguousarray(array).tobytes()
    restored[...] = array  # it is the caller's to change
    assert restored.flags.aligned


def test_views_and_aliases() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"t": base.t(), "expanded": base[0].expand(2, 4), "again": base, "once": base}
    restored = through(state)
    assert all(torch.equal(restored[name], state[name]) for name in state)
    restored["again"].zero_()
    assert torch.equal(restored["once"], base)


def test_conjugates_and_parameters() -> None:
    number = torch.tensor([1 + 2j]).conj()
    assert torch.equal(through(number), number)
    parameter = torch.nn.Parameter(torch.ones(2))
    assert type(through(parameter)) is torch.Tensor


def test_numpy_scalars_become_plain() -> None:
    assert same(
        through([np.float32(0.1), np.int8(3), np.bool_(True), np.str_("a")]),
        [float(np.float32(0.1)), 3, True, "a"],
    )
    assert through({np.int64(3): 1}) == {3: 1}


def test_a_snapshot_is_not_altered_by_later_training() -> None:
    state = {"t": torch.zeros(3), "e": torch.zeros(2, 3).t(), "a": np.zeros(3), "list": [0]}
    before = state_digest(state)
    taken = snapshot(state)
    state["t"] += 1
    state["e"] += 1
    state["a"] += 1
    state["list"].append(1)  # type: ignore[attr-defined]
    assert state_digest(taken) == before != state_digest(state)
    assert state_digest(decode(b"".join(encode(taken)))) == before


def test_encoding_copies_nothing() -> None:
    tensor = torch.zeros(1000)
    chunks = encode({"x": tensor})
    tensor += 1
    assert torch.equal(decode(b"".join(chunks))["x"], tensor)


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"optimizer": {"x": torch.Generator()}}, "state['optimizer']['x']: a torch"),
        ([1, {2, 3}], "state[1]: a set cannot be saved; save a sorted list"),
        ({"a": (1, collections.Counter("aab"))}, "state['a'][1]: a collections.Counter"),
        ({"f": len}, "state['f']: a builtin_function_or_method"),
        ({"p": Point(1, 2)}, "save a plain tuple"),
        ({"m": torch.nn.Linear(1, 1)}, "save its state_dict()"),
        ({"a": np.array([object()])}, "state['a']: an array of dtype object"),
        ({"a": np.zeros(2, [("x", "f4")])}, "state['a']: an array of dtype"),
        ({"a": np.ma.masked_array([1])}, "state['a']: a MaskedArray"),
        ({"s": torch.eye(2).to_sparse()}, "state['s']: a sparse_coo tensor"),
        ({"s": torch.empty(2, device="meta")}, "state['s']: a tensor on the meta device"),
        ({b"key": 1}, "state[b'key']: a bytes cannot be saved as a key"),
        ({"b": bytearray(b"x")}, "save a plain bytes"),
        ({"d": np.datetime64("2020-01-01")}, "state['d']: a "),
    ],
)
def test_anything_else_is_refused_by_its_path(state: Any, said: str) -> None:
    with pytest.raises(UnsavableState) as caught:
        snapshot(state)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_state_that_contains_itself_is_refused() -> None:
    state: list[Any] = []
    state.append(state)
    with pytest.raises(UnsavableState, match="does it contain itself"):
        encode(state)


SAMPLE = b"".join(
    encode({"w": torch.ones(3), "a": np.arange(4), 3: (None, 2**80, math.inf, b"xyz")})
)


@given(st.integers(0, len(SAMPLE) - 1), st.binary(min_size=1, max_size=8))
@settings(max_examples=300)
def test_altered_bytes_are_no_danger(position: int, replacement: bytes) -> None:
    data = SAMPLE[:position] + replacement + SAMPLE[position + len(replacement) :]
    with contextlib.suppress(CodecError):
        decode(data)


@pytest.mark.parametrize("length", range(0, len(SAMPLE), 7))
def test_truncated_bytes_are_refused(length: int) -> None:
    with pytest.raises(CodecError):
        decode(SAMPLE[:length])


def build(tree: Any, blocks: list[Any] | None = None, data: bytes = b"") -> bytes:
    header = json.dumps({"tree": tree, "blocks": blocks or []}).encode()
    start = struct.pack("<8sIIQ", b"\x89HIPPO\r\n", 1, 0, len(header)) + header
    start += bytes(-len(start) % 64)
    return start + data + bytes(-len(data) % 64)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",
        build({"pickle": "x"}),
        build({"block": 0}),
        build({"block": -1}, [["bytes", "", [1], 1]], b"x"),
        build({"tuple": 3, "dict": []}),
        build({"dict": [[[], 1]]}),
        build({"dict": [[{"dict": []}, 1]]}),
        build({"dict": [["a", 1], ["a", 2]]}),
        build({"dict": [["a"]]}),
        build({"float": "zz"}),
        build({"int": "zz"}),
        build(None, [["array", "|O", [1], 8]], bytes(8)),
        build(None, [["array", "<f8", [2**40], 8]], bytes(8)),
        build(None, [["array", "<f8", [-1, -1], 8]], bytes(8)),
        build(None, [["array", "<f8", [2**62, 4], 0]]),
        build(None, [["array", "<f8", ["1"], 8]], bytes(8)),
        build(None, [["tensor", "qint8", [1], 1]], b"x"),
        build(None, [["tensor", "load", [1], 1]], b"x"),
        build(None, [["bytes", "", [1], -64]], b"x"),
        build(None, [["bytes", "", [1], 2**70]], b"x"),
        build(None, [["code", "", [1], 1]], b"x"),
        build(None, []) + b"more" + bytes(60),
        build("x").replace(b'"x"', b"[[["),
        build(None).replace(b"\x01\x00\x00\x00", b"\x02\x00\x00\x00", 1),
    ],
)
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


def test_deep_nesting_is_refused_not_overflown() -> None:
    header = b'{"tree":' + b"[" * 100_000 + b"]" * 100_000 + b',"blocks":[]}'
    data = struct.pack("<8sIIQ", b"\x89HIPPO\r\n", 1, 0, len(header)) + header
    with pytest.raises(CodecError):
        decode(data + bytes(-len(data) % 64))


def test_differences_are_named() -> None:
    one = {"model": {"fc.weight": torch.ones(2), "b": 1}, "layers": [1, (2, 3)], "gone": 1}
    other = {"model": {"fc.weight": torch.zeros(2), "b": 1}, "layers": [1, (2, 4)], "new": 1}
    found = find_differences(leaf_digests(snapshot(one)), leaf_digests(snapshot(other)))
    assert found == ["model.fc.weight", "layers[1][1]", "gone", "new"]


def test_neither_torch_nor_numpy_is_imported_for_plain_data() -> None:
    code = (
        "import sys; from stage_runner.codec import *; from stage_runner import Trainer;"
        "import stage_runner.chain, stage_runner.worker;"
        "decode(b''.join(encode(snapshot({'a': [1, b'x']}))));"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
