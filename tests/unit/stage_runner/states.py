"""Random states of every kind that may be saved, as Hypothesis strategies."""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

TORCH_TYPES = [
    *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint16, torch.uint32, torch.uint64, torch.float16, torch.bfloat16, torch.float32),
    *(torch.float64, torch.complex32, torch.complex64, torch.complex128, torch.float8_e4m3fn),
    *(torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz, torch.float8_e8m0fnu),
]
NUMPY_TYPES = [
    *("?", "b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "e", "f", "d", "F", "D"),
    *(">i2", ">u4", ">i8", ">f2", ">f4", ">f8", ">c8", ">c16"),
    *("U3", ">U2", "S4", "M8[ms]", "M8[25s]", "m8[D]", ">M8[us]", "U0"),
]
SHAPES = st.lists(st.sampled_from([0, 1, 1, 2, 3, 4]), max_size=4).map(tuple)


def _bytes(draw: st.DrawFn, size: int) -> bytes:
    seed = draw(st.integers(0, 2**32 - 1))
    return np.random.default_rng(seed).bytes(size)


@st.composite
def tensors(draw: st.DrawFn) -> torch.Tensor:
    """Dense, permuted, expanded, with gaps, beginning in the middle of their storage."""
    dtype = draw(st.sampled_from(TORCH_TYPES))
    shape = draw(SHAPES)
    offset = draw(st.sampled_from([0, 0, 1, 3]))
    size = (math.prod(shape) + offset) * dtype.itemsize
    raw = torch.zeros(size, dtype=torch.uint8)
    raw.numpy()[:] = np.frombuffer(_bytes(draw, size), np.uint8)
    if dtype is torch.bool:
        raw &= 1
    return rearranged(draw, raw.view(dtype)[offset:].reshape(shape), dtype)


def rearranged(draw: st.DrawFn, tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A view of it, now and then with flags."""
    if tensor.dim() and draw(st.booleans()):
        tensor = tensor.permute(draw(st.permutations(range(tensor.dim()))))
    for dimension in range(tensor.dim()):
        match draw(st.sampled_from(["all", "all", "some", "one", "many"])):
            case "some":
                tensor = tensor[(slice(None),) * dimension + (slice(None, None, 2),)]
            case "one" if tensor.shape[dimension]:
                tensor = tensor.narrow(dimension, tensor.shape[dimension] - 1, 1)
            case "many" if tensor.shape[dimension] == 1:
                sizes = list(tensor.shape)
                sizes[dimension] = draw(st.integers(1, 3))
                tensor = tensor.expand(sizes)
    if dtype.is_complex and draw(st.booleans()):
        tensor = tensor.conj()
    if not (dtype.is_floating_point or dtype.is_complex) or dtype.itemsize == 1:
        return tensor
    return draw(
        st.sampled_from(
            [
                lambda: tensor,
                lambda: tensor.detach().requires_grad_(),
                lambda: torch.nn.Parameter(tensor.detach()),
                lambda: torch.nn.Parameter(tensor.detach(), requires_grad=False),
            ]
        )
    )()


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Of each type, in either order, reversed, with gaps, read-only, repeated."""
    dtype = np.dtype(draw(st.sampled_from(NUMPY_TYPES)))
    shape = draw(SHAPES)
    if dtype.kind in "US":
        array = np.full(shape, "ab"[: dtype.itemsize], dtype)
    else:
        data = _bytes(draw, math.prod(shape) * dtype.itemsize)
        array = np.ndarray(shape, dtype, np.frombuffer(data, np.uint8).copy())
        if dtype.kind == "b":
            array = np.asarray(array.view(np.uint8) & 1).view(bool)
    if draw(st.booleans()):
        array = array.copy(order=draw(st.sampled_from(["C", "F", "K"])))
    if array.ndim and draw(st.booleans()):
        array = array.transpose(draw(st.permutations(range(array.ndim))))
    for axis in range(array.ndim):
        step = draw(st.sampled_from([None, None, 2, -1]))
        array = array[(*(slice(None),) * axis, slice(None, None, step), ...)]
    if draw(st.booleans()):
        array = np.broadcast_to(array, (draw(st.integers(1, 3)), *array.shape))
    elif draw(st.booleans()):
        array.flags.writeable = False
    return array


@st.composite
def numpy_scalars(draw: st.DrawFn) -> np.generic:
    dtype = np.dtype(draw(st.sampled_from([t for t in NUMPY_TYPES if t[0] not in "US>"])))
    data = _bytes(draw, dtype.itemsize)
    if dtype.kind == "b":
        data = bytes([data[0] & 1])
    scalar: np.generic = np.ndarray((), dtype, data)[()]
    return scalar


TEXTS = st.text(st.characters(exclude_categories=())) | st.just("\ud83d\ude00 apart")
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | TEXTS
    | numpy_scalars()
    | TEXTS.map(np.str_)
    | st.just(np.str_("a\0"))
    | st.binary().map(np.bytes_)
)
LEAVES = (
    SCALARS
    | st.binary()
    | st.binary().map(bytearray)
    | tensors()
    | arrays()
    | st.sampled_from([torch.Size([2, 3]), torch.float16, torch.device("cuda:1"), torch.Size()])
)
KEYS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | TEXTS
    | st.floats()
    | st.integers(-9, 9).map(np.int64)
    | st.complex_numbers(allow_nan=False),
    lambda keys: st.lists(keys, max_size=2).map(tuple),
    max_leaves=3,
)


def _with_metadata(pair: tuple[Any, Any]) -> Any:
    ordered: Any = OrderedDict(pair[0])
    if pair[1]:
        ordered._metadata = OrderedDict(pair[1])
    return ordered


@st.composite
def sharing(draw: st.DrawFn) -> dict[str, Any]:
    """Views of one memory, and one object in two places."""
    base = torch.arange(24.0).reshape(4, 6)
    array = np.arange(24.0).reshape(4, 6)
    pool = [
        base,
        *(base[1], base.t(), base[:, 2], base[1:3, ::2], base.view(torch.int32)[2]),
        *(base.detach(), base.numpy(), base.numpy()[::-1], base[0, :1].expand(3)),
        *(array, array[:, 1], array[::-1, ::2], array.T, torch.from_numpy(array)[2]),
        *(array[1:1], array[2, 3:3], base[1:1], array[::-1]),
        *(array.view(np.int16)[3], array.reshape(-1)[5:7], bytearray(b"x"), [1], {"a": [2]}),
    ]
    chosen = draw(st.lists(st.sampled_from(range(len(pool))), max_size=6))
    return {f"n{index}": pool[number] for index, number in enumerate(chosen)}


STATES = st.recursive(
    LEAVES | sharing(),
    lambda states: (
        st.lists(states, max_size=4)
        | st.lists(states, max_size=4).map(tuple)
        | st.dictionaries(KEYS, states, max_size=4)
        | st.dictionaries(KEYS, states, max_size=3).map(Counter)
        | st.tuples(st.lists(states, max_size=3), st.none() | st.integers(3, 5)).map(
            lambda pair: deque(pair[0], maxlen=pair[1])
        )
        | st.tuples(
            st.dictionaries(TEXTS, states, max_size=3),
            st.dictionaries(TEXTS, states, max_size=2),
        ).map(_with_metadata)
        | st.lists(states, min_size=1, max_size=2).map(lambda items: [items, items, {"k": items}])
    ),
    max_leaves=10,
)
