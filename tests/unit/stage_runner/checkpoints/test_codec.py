"""Everything that may be saved comes back bit for bit; everything else is refused by its path."""

from __future__ import annotations

import collections
import contextlib
import decimal
import enum
import fractions
import json
import math
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from torch.optim import lr_scheduler

from stage_runner.checkpoints.codec import (
    CodecError,
    NewerCheckpoint,
    UnsavableState,
    decode,
    encode,
    find_format,
    snapshot,
)
from stage_runner.checkpoints.digest import (
    find_differences,
    leaf_digests,
    state_digest,
    tell_differences,
)
from tests.sameness import tell_apart

SCHEDULERS: dict[str, dict[str, Any]] = {
    "MultiStepLR": {"milestones": [2, 2, 5]},
    "StepLR": {"step_size": 2},
    "ConstantLR": {},
    "LinearLR": {},
    "ExponentialLR": {"gamma": 0.9},
    "PolynomialLR": {},
    "CosineAnnealingLR": {"T_max": 5},
    "CosineAnnealingWarmRestarts": {"T_0": 5},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 9},
    "CyclicLR": {"base_lr": 0.1, "max_lr": 0.2},
    "ReduceLROnPlateau": {},
    "LambdaLR": {"lr_lambda": lambda epoch: 0.9**epoch},
}


def through(state: Any) -> Any:
    return decode(b"".join(encode(state)))


def test_special_numbers_keep_their_bits() -> None:
    payload = struct.unpack(">d", bytes.fromhex("7ff8000000000123"))[0]
    state = [math.nan, payload, -math.inf, -0.0, 5e-324, 2**53 + 1, -(10**5000), 1e16]
    assert not tell_apart(through(state), state)


def test_the_order_of_keys_is_kept_and_part_of_the_digest() -> None:
    one, other = {"a": 1, 2: "b", True: 3}, {2: "b", True: 3, "a": 1}
    assert list(through(one)) == ["a", 2, True]
    assert state_digest(one) != state_digest(other)
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


def test_what_shares_memory_shares_it_again() -> None:
    base = torch.arange(12.0).reshape(3, 4)
    state = {"t": base.t(), "expanded": base[0].expand(2, 4), "again": base, "once": base}
    restored = through(state)
    restored["again"].zero_()
    assert restored["again"] is restored["once"]
    assert not any(tensor.any() for tensor in restored.values())
    assert sum(map(len, encode(state))) < sum(map(len, encode(base))) + 400, "and is stored once"


def test_an_empty_view_does_not_part_what_shares_memory() -> None:
    base = np.arange(8.0)
    restored = through({"whole": base, "nothing": base[3:3], "tail": base[4:]})
    restored["tail"][:] = 0
    assert restored["whole"].tolist() == [0, 1, 2, 3, 0, 0, 0, 0]


def test_an_object_in_two_places_is_one_again() -> None:
    ranks = [1, 2]
    restored = through({"a": ranks, "b": {"c": ranks, "own": [1, 2]}})
    restored["a"].append(3)
    assert restored["b"] == {"c": [1, 2, 3], "own": [1, 2]}


@pytest.mark.parametrize(
    "module",
    [
        torch.nn.LSTM(3, 4, num_layers=2),
        torch.nn.BatchNorm2d(3),
        torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last),
        torch.nn.Conv3d(3, 4, 1).to(memory_format=torch.channels_last_3d),
        torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(2, 2)),
        torch.nn.Linear(3, 3, dtype=torch.complex64),
    ],
    ids=lambda module: type(module).__name__,
)
def test_modules_come_back_with_versions_and_layouts(module: torch.nn.Module) -> None:
    state = module.state_dict()
    restored = through(state)
    assert not tell_apart(state, restored)
    assert restored._metadata == state._metadata  # type: ignore[attr-defined]
    module.load_state_dict(restored)


@pytest.mark.parametrize("name", sorted(set(dir(lr_scheduler)) & set(SCHEDULERS)))
def test_schedulers_of_learning_rates_come_back(name: str) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1, momentum=0.9)
    scheduler = getattr(lr_scheduler, name)(optimizer, **SCHEDULERS[name])
    for _ in range(3):
        optimizer.step()
        scheduler.step(*([0.5] if name == "ReduceLROnPlateau" else []))
    state = scheduler.state_dict()
    assert not tell_apart(state, through(state))


@pytest.mark.parametrize(
    "generator",
    [np.random.PCG64(1), np.random.MT19937(1), np.random.Philox(1), np.random.SFC64(1)],
    ids=lambda generator: type(generator).__name__,
)
def test_states_of_generators_come_back(generator: Any) -> None:
    state = {
        "numpy": generator.state,
        "python": random.Random(1).getstate(),
        "torch": torch.Generator().manual_seed(1).get_state(),
    }
    restored = through(state)
    assert not tell_apart(state, restored)
    generator.state = restored["numpy"]
    torch.Generator().set_state(restored["torch"])
    random.Random().setstate(restored["python"])


def test_restored_tensors_are_on_the_cpu_whatever_the_default_is() -> None:
    data = b"".join(encode({"x": torch.ones(2), "pair": [torch.ones(2, 2)[0], torch.ones(0)]}))
    with torch.device("meta"):
        restored = decode(data)
    assert restored["x"].tolist() == [1, 1]


def test_memory_between_the_elements_is_no_part_of_a_state() -> None:
    table = torch.zeros(4, 3)
    before = state_digest(table[:, 1])
    table[:, 0] = torch.nan
    assert state_digest(table[:, 1]) == before
    restored = through(table[:, 1])
    assert restored.stride() == (3,)
    assert restored.tolist() == [0, 0, 0, 0]


def test_conjugates_and_parameters() -> None:
    number = torch.tensor([1 + 2j]).conj()
    assert through(number).is_conj()
    assert torch.equal(through(number), number)
    negative = torch.tensor([1 + 2j]).conj().imag
    assert (through(negative).is_neg(), through(negative).item()) == (True, -2)
    frozen = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    restored = through([frozen, torch.nn.Parameter(torch.ones(2)), torch.ones(1).requires_grad_()])
    assert [type(tensor).__name__ for tensor in restored] == ["Parameter", "Parameter", "Tensor"]
    assert [tensor.requires_grad for tensor in restored] == [False, True, True]


@pytest.mark.parametrize(
    "scalar",
    [
        *(np.float32(0.1), np.float64(0.1), np.int8(3), np.bool_(True), np.str_("a"), np.str_("")),
        np.str_("a\0"),
        *(
            np.bytes_(b"a"),
            np.longlong(3),
            np.complex64(1j),
            np.datetime64("2020-01-01"),
            np.half(2),
        ),
        *(np.timedelta64(3, "h"), np.datetime64("NaT"), np.float64(-0.0), np.uint64(2**64 - 1)),
    ],
    ids=repr,
)
def test_numpy_scalars_keep_their_type(scalar: np.generic) -> None:
    restored = through({"x": scalar, scalar: 1})
    assert not tell_apart(restored["x"], scalar)
    assert type(list(restored)[1]) is type(scalar)


def test_format_1_is_still_read() -> None:
    data = (Path(__file__).parents[3] / "golden" / "format-1.checkpoint").read_bytes()
    assert find_format(data) == 1
    expected = {
        "model": {
            "weight": torch.arange(6.0).reshape(2, 3),
            "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
            "scalar": torch.tensor(7),
        },
        "array": np.arange(4, dtype=">i4").reshape(2, 2),
        "when": np.array(["2020-01-01"], "M8[s]"),
        "text": "é",
        "bytes": b"\x00\xff",
        "numbers": [1, 2**80, -0.0, math.inf, 1 + 2j, None, True],
        "tuple": (1, (2,)),
        3: "int key",
        (1, "a"): "tuple key",
    }
    assert not tell_apart(decode(data), expected)


def test_a_newer_format_is_no_damage() -> None:
    data = bytearray(b"".join(encode([1])))
    data[8] = 3
    with pytest.raises(NewerCheckpoint, match="written by a newer Hippo") as caught:
        decode(data)
    assert "\n" not in str(caught.value)


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


class Kind(enum.IntEnum):
    SMALL = 1


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ({"optimizer": {"x": torch.Generator()}}, "state['optimizer']['x']: a torch"),
        ([1, {2, 3}], "state[1]: a set cannot be saved; save a sorted list"),
        ({"a": (1, collections.defaultdict(int))}, "state['a'][1]: a collections.defaultdict"),
        ({"a": collections.UserDict()}, "state['a']: a collections.UserDict"),
        ({"a": [frozenset({1})]}, "state['a'][0]: a frozenset cannot be saved; save a sorted list"),
        ({"k": Kind.SMALL}, "state['k']: a tests.unit.stage_runner.checkpoints.test_codec.Kind"),
        ({"f": fractions.Fraction(1, 3)}, "state['f']: a fractions.Fraction"),
        ({"d": decimal.Decimal("0.1")}, "state['d']: a decimal.Decimal"),
        ({"s": slice(1)}, "state['s']: a slice"),
        ({"r": range(3)}, "state['r']: a range"),
        ({Kind.SMALL: 1}, "cannot be saved as a key"),
        ({"x": (torch.ones(1, requires_grad=True) * 2)}, "state['x']: a tensor with a graph"),
        ({"x": torch.nn.Buffer(torch.ones(1))}, "state['x']: a tensor with an attribute"),
        ({"x": torch.ones(5).unfold(0, 2, 1)}, "state['x']: its elements share memory"),
        ({"x": sliding_window_view(np.ones(5), 2)}, "state['x']: its elements share memory"),
        ({"x": np.longdouble(1)}, "state['x']: a numpy.longdouble"),
        ({"x": np.ones(2, np.longdouble)}, "state['x']: an array of dtype float128"),
        ({"x": np.ones(2, np.dtype("f4", metadata={"a": 1}))}, "state['x']: an array of dtype"),
        (
            {"x": np.ndarray((1,), "f4", bytearray(8), 1)},
            "state['x']: an array that is not aligned",
        ),
        ({"x": np.rec.array([(1,)])}, "state['x']: a recarray"),
        ({"x": np.array(["a"], np.dtypes.StringDType())}, "state['x']: an array of dtype"),
        ({"x": type("Mine", (np.float64,), {})(1)}, "state['x']: a"),
        ({"x": type("Mine", (torch.Tensor,), {})([1])}, "state['x']: a Mine"),
        ({"x": np.void(b"ab")}, "state['x']: a numpy.void"),
        ({"f": len}, "state['f']: a builtin_function_or_method"),
        ({"p": Point(1, 2)}, "save a plain tuple"),
        ({"m": torch.nn.Linear(1, 1)}, "save its state_dict()"),
        ({"a": np.array([object()])}, "state['a']: an array of dtype object"),
        ({"a": np.zeros(2, [("x", "f4")])}, "state['a']: an array of dtype"),
        ({"a": np.ma.masked_array([1])}, "state['a']: a MaskedArray"),
        ({"s": torch.eye(2).to_sparse()}, "state['s']: a sparse_coo tensor"),
        ({"s": torch.empty(2, device="meta")}, "state['s']: a tensor on the meta device"),
        ({b"key": 1}, "state[b'key']: a bytes cannot be saved as a key"),
    ],
)
def test_anything_else_is_refused_by_its_path(state: Any, said: str) -> None:
    with pytest.raises(UnsavableState) as caught:
        snapshot(state)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*quantize")
def test_quantized_tensors_are_refused() -> None:
    tensor = torch.quantize_per_tensor(torch.ones(1), 1, 0, torch.qint8)
    with pytest.raises(UnsavableState, match=r"state\['q'\]: a strided tensor of qint8"):
        snapshot({"q": tensor})


def test_a_state_that_contains_itself_is_refused() -> None:
    state: list[Any] = []
    state.append(state)
    with pytest.raises(UnsavableState, match=r"state\[0\]: contains itself"):
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


def build(tree: Any, blocks: list[Any] | None = None, data: bytes = b"", version: int = 1) -> bytes:
    content = {"tree": tree, "blocks": blocks or []}
    if version > 1:
        content = {"tree": tree, "values": blocks or [], "blocks": [len(data)]}
    header = json.dumps(content).encode()
    start = struct.pack("<8sIIQ", b"\x89HIPPO\r\n", version, 0, len(header)) + header
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
        build({"same": 0}, version=2),
        build([{"same": 0}], version=2),
        build([{"same": True}], version=2),
        build({"scalar": ["<U99999999", ""]}, version=2),
        build({"scalar": ["|O", "00"]}, version=2),
        build({"scalar": ["<f8", "00"]}, version=2),
        build({"dtype": "load"}, version=2),
        build({"device": "house"}, version=2),
        build({"ordered": [[], [["items", 1]]]}, version=2),
        build({"deque": [[], -1]}, version=2),
        build(None, [["tensor", "float32", [2], [8], 0, 0, []]], bytes(8), version=2),
        build(None, [["tensor", "float32", [2], [-4], 0, 4, []]], bytes(8), version=2),
        build(None, [["tensor", "float32", [2], [4], 0, 2, []]], bytes(10), version=2),
        build(None, [["tensor", "float32", [2], [4], 1, 0, []]], bytes(8), version=2),
        build(None, [["tensor", "float32", [2**62, 4], [0, 0], 0, 0, []]], bytes(8), version=2),
        build(None, [["array", "<f4", [2], [-4], 0, 0, []]], bytes(8), version=2),
        build(None, [["array", "<f4", [2], [8], 0, 0, []]], bytes(8), version=2),
        build(None, [["array", "<f4", [2**62], [0], 0, 0, []]], bytes(8), version=2),
        build(None, [["bytes", "", [9], None, 0, 0, []]], bytes(8), version=2),
        build(None, [["bytes", "", [8], None, 0, 0, []]] * 2, bytes(8), version=2),
        build(None, version=3),
        build(None, version=0),
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
        "import sys; from stage_runner import Trainer;"
        "from stage_runner.checkpoints.codec import *;"
        "import stage_runner.chain, stage_runner.worker;"
        "decode(b''.join(encode(snapshot({'a': [1, b'x']}))));"
        "assert not {'torch', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_differences_are_told_in_words() -> None:
    shared = [1]
    saved = {"r": np.float64(0.5), "m": torch.ones(2, 2), "v": 1, "d": {}, "a": shared, "b": shared}
    now = {"r": 0.5, "m": torch.ones(2, 2).t().clone(), "v": 2, "a": [1], "b": [1]}
    told = {
        path: tell_differences(*(leaf_digests(snapshot({path: s.get(path)})) for s in (saved, now)))
        for path in saved
    }
    assert told == {
        "r": "r is the float 0.5, and was a NumPy scalar of type <f8",
        "m": "m is a float32 tensor (2, 2) with strides [4, 8] in bytes,"
        " and was a float32 tensor (2, 2)",
        "v": "v is the int 2, and was the int 1",
        "d": "d is None, and was a dict with keys in this order",
        "a": "",
        "b": "",
    }
    assert find_differences(leaf_digests(snapshot(saved)), leaf_digests(snapshot(now))) == [
        *("r", "m", "v", "d", "b", "b[0]")
    ]
