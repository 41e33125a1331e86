"""Arrays and tensors as raw bytes and back; NumPy and PyTorch are touched only if needed."""

from __future__ import annotations

import importlib
import math
import re
import sys
from dataclasses import dataclass
from typing import Any

from stage_runner.memory import Memory

_NUMPY_DTYPE = re.compile(r"[<>|][biufcSUMm][0-9]{1,9}(\[[0-9A-Za-z]{1,8}\])?")
_TORCH_DTYPES = frozenset(
    {
        *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    }
)


class Unsavable(Exception):
    """Why a value cannot be saved; the caller adds its path."""


@dataclass(frozen=True, slots=True)
class Block:
    """A dense block of numbers in C order: bytes, an array or a tensor."""

    kind: str  # bytes | array | tensor
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def find_block(value: Any, *, copy: bool, memory: Memory | None = None) -> Block | None:
    """The block that a value is; None if it is no array, tensor or bytes. Raises Unsavable.

    With ``copy`` the block shares no memory with the value; it is in ``memory`` if there is room.
    """
    if type(value) is bytes:
        return Block("bytes", "", (len(value),), memoryview(value))
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _from_array(numpy, value, copy=copy, memory=memory)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return _from_tensor(torch, value, copy=copy, memory=memory)
    return None


def restore(kind: str, dtype: str, shape: tuple[int, ...], data: memoryview) -> Any:
    """A fresh value with these bytes. Raises ValueError if they do not fit together."""
    if kind == "bytes":
        return data.tobytes()
    if any(size < 0 for size in shape) or len(shape) > 32:
        raise ValueError(f"no shape: {shape}")
    if kind == "array":
        return _to_array(dtype, shape, data)
    if kind == "tensor":
        return _to_tensor(dtype, shape, data)
    raise ValueError(f"no kind of block: {kind}")


def find_scalar(value: Any) -> Any:
    """What a NumPy scalar is as plain Python; any other value unchanged."""
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return value
    item = value.item()
    return value if isinstance(item, numpy.generic) else item


def _from_array(numpy: Any, array: Any, *, copy: bool, memory: Memory | None) -> Block:
    if type(array) is not numpy.ndarray:
        raise Unsavable(f"a {type(array).__name__} cannot be saved; save a plain numpy.ndarray")
    if _NUMPY_DTYPE.fullmatch(array.dtype.str) is None or array.dtype.names is not None:
        raise Unsavable(f"an array of dtype {array.dtype} cannot be saved; save plain numbers")
    room = memory.take(array.nbytes) if copy and memory is not None else None
    if room is not None:
        dense = numpy.ndarray(array.shape, array.dtype, room)
        dense[...] = array
    elif copy:
        dense = numpy.array(array, order="C", copy=True)
    else:
        dense = numpy.asarray(array, order="C")
    return Block("array", array.dtype.str, array.shape, _bytes_of(numpy, dense))


def _from_tensor(torch: Any, tensor: Any, *, copy: bool, memory: Memory | None) -> Block:
    plain = (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer)
    dtype = str(tensor.dtype).removeprefix("torch.")
    if type(tensor) not in plain:
        raise Unsavable(f"a {type(tensor).__name__} cannot be saved; save a plain torch.Tensor")
    if tensor.layout != torch.strided or tensor.is_nested or dtype not in _TORCH_DTYPES:
        what = f"{tensor.layout} tensor of {tensor.dtype}".replace("torch.", "")
        raise Unsavable(f"a {what} cannot be saved; save a dense one")
    if tensor.is_meta:
        raise Unsavable("a tensor on the meta device has no data to save")
    held = tensor.detach().resolve_conj().resolve_neg()
    room = memory.take(held.nbytes) if copy and memory is not None else None
    if room is not None:
        flat = held.contiguous().reshape(-1).view(torch.uint8)
        torch.frombuffer(room, dtype=torch.uint8).copy_(flat)
        return Block("tensor", dtype, tuple(tensor.shape), room)
    moved = held.to("cpu").contiguous()
    if copy and moved.data_ptr() == tensor.data_ptr():
        moved = moved.clone()
    raw = moved.reshape(-1).view(torch.uint8).numpy()
    data = memoryview(raw) if raw.size else memoryview(b"")
    return Block("tensor", dtype, tuple(tensor.shape), data)


def _bytes_of(numpy: Any, dense: Any) -> memoryview:
    return memoryview(dense.reshape(-1).view(numpy.uint8)) if dense.nbytes else memoryview(b"")


def _to_array(dtype: str, shape: tuple[int, ...], data: memoryview) -> Any:
    if _NUMPY_DTYPE.fullmatch(dtype) is None:
        raise ValueError(f"no dtype of NumPy: {dtype}")
    numpy = importlib.import_module("numpy")
    try:
        type_ = numpy.dtype(dtype)
    except TypeError as error:
        raise ValueError(str(error)) from None
    _check_size(shape, type_.itemsize, data)
    array = numpy.zeros(shape, type_)
    if data.nbytes:
        array.reshape(-1).view(numpy.uint8)[:] = numpy.frombuffer(data, numpy.uint8)
    return array


def _to_tensor(dtype: str, shape: tuple[int, ...], data: memoryview) -> Any:
    if dtype not in _TORCH_DTYPES:
        raise ValueError(f"no dtype of PyTorch: {dtype}")
    torch = importlib.import_module("torch")
    type_ = getattr(torch, dtype, None)
    if type_ is None:
        raise ValueError(f"this version of PyTorch has no dtype {dtype}")
    _check_size(shape, type_.itemsize, data)
    tensor = torch.empty(shape, dtype=type_)
    if data.nbytes:
        numpy = importlib.import_module("numpy")
        tensor.reshape(-1).view(torch.uint8).numpy()[:] = numpy.frombuffer(data, numpy.uint8)
    return tensor


def _check_size(shape: tuple[int, ...], item_size: int, data: memoryview) -> None:
    if math.prod(shape) * item_size != data.nbytes:
        raise ValueError(f"{data.nbytes} bytes do not make shape {shape}")
