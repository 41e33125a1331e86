"""Whether anything can tell two states apart: a comparison that knows nothing of checkpoints."""

from __future__ import annotations

import struct
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
import torch

CHANGEABLE = (list, dict, OrderedDict, Counter, deque, bytearray, np.ndarray, torch.Tensor)


def tell_apart(one: Any, other: Any) -> list[str]:
    """In what two states differ, by path: type, bits, layout, flags, identity, shared memory."""
    walk = _Walk()
    found = [*walk.compare(one, other, "state")]
    for (path, a, b), (path_2, c, d) in combinations(walk.pairs, 2):
        if _relation(a, c) != _relation(b, d):
            found.append(f"{path} and {path_2} share memory otherwise")
    return found


class _Walk:
    def __init__(self) -> None:
        self.pairs: list[tuple[str, Any, Any]] = []  # arrays and tensors
        self._mine: dict[int, Any] = {}
        self._theirs: dict[int, Any] = {}

    def compare(self, one: Any, other: Any, path: str) -> Iterator[str]:
        if type(one) is not type(other):
            yield f"{path}: {type(other)} for {type(one)}"
            return
        if isinstance(one, CHANGEABLE):
            known = id(one) in self._mine
            twin = self._mine.setdefault(id(one), other)
            back = self._theirs.setdefault(id(other), one)
            if twin is not other or back is not one:
                yield f"{path}: another object"
            if known:
                return
        match one:
            case np.ndarray() | torch.Tensor():
                self.pairs.append((path, one, other))
                compare = _arrays if isinstance(one, np.ndarray) else _tensors
                yield from (f"{path}: {what}" for what in compare(one, other))
            case dict():
                yield from self.compare(tuple(one), tuple(other), f"keys of {path}")
                for key, mine, theirs in zip(one, one.values(), other.values(), strict=False):
                    yield from self.compare(mine, theirs, f"{path}[{key!r}]")
                if type(one) is not dict:
                    yield from self.compare(vars(one), vars(other), f"vars of {path}")
            case list() | tuple() | deque():
                if getattr(one, "maxlen", 0) != getattr(other, "maxlen", 0):
                    yield f"{path}: another maxlen"
                if len(one) != len(other):
                    yield f"{path}: another length"
                for index, (mine, theirs) in enumerate(zip(one, other, strict=False)):
                    yield from self.compare(mine, theirs, f"{path}[{index}]")
            case _:
                if _bits(one) != _bits(other):
                    yield f"{path}: {other!r} for {one!r}"


def _bits(value: Any) -> Any:
    match value:
        case np.generic():
            return value.dtype.str, value.dtype.char, value.tobytes()
        case float():
            return struct.pack(">d", value)
        case complex():
            return struct.pack(">dd", value.real, value.imag)
        case str():
            return [ord(letter) for letter in value]
        case _:
            return value


def _arrays(one: Any, other: Any) -> Iterator[str]:
    for name in ("shape", "strides"):
        if getattr(one, name) != getattr(other, name):
            yield f"{name} {getattr(other, name)} for {getattr(one, name)}"
    if (one.dtype.str, one.dtype.char) != (other.dtype.str, other.dtype.char):
        yield f"{other.dtype!r} for {one.dtype!r}"
    if one.flags.writeable != other.flags.writeable or not other.flags.aligned:
        yield f"flags {other.flags}"
    if one.tobytes() != other.tobytes():
        yield "other bits"


def _tensors(one: Any, other: Any) -> Iterator[str]:
    for name in ("dtype", "shape", "requires_grad", "device", "layout"):
        if getattr(one, name) != getattr(other, name):
            yield f"{name} {getattr(other, name)} for {getattr(one, name)}"
    for name in ("stride", "is_conj", "is_neg", "is_contiguous"):
        if getattr(one, name)() != getattr(other, name)():
            yield f"{name} {getattr(other, name)()} for {getattr(one, name)()}"
    memory_is_torchs = all(x.untyped_storage().data_ptr() % 64 == 0 for x in (one, other))
    if memory_is_torchs and one.numel() and (one.data_ptr() - other.data_ptr()) % 64:
        yield "other alignment"
    if one.shape == other.shape and _raw(one) != _raw(other):
        yield "other bits"


def _raw(tensor: Any) -> bytes:
    resolved = tensor.detach().resolve_conj().resolve_neg()
    resolved = resolved.clone(memory_format=torch.contiguous_format)
    return bytes(resolved.reshape(-1).view(torch.uint8).numpy()) if resolved.numel() else b""


def _relation(one: Any, other: Any) -> int | None:
    """Where ``other`` lies from ``one`` in memory that both cover; None if there is none."""
    (low, high), (low_2, high_2) = _bounds(one), _bounds(other)
    overlap = low < high_2 and low_2 < high
    return _address(other) - _address(one) if overlap else None


def _bounds(value: Any) -> tuple[int, int]:
    if isinstance(value, np.ndarray):
        low, high = np.lib.array_utils.byte_bounds(value)
        return (low, high) if value.nbytes else (0, 0)
    if not value.numel():
        return 0, 0
    span = sum(s * (n - 1) for s, n in zip(value.stride(), value.shape, strict=True)) + 1
    return value.data_ptr(), value.data_ptr() + span * value.element_size()


def _address(value: Any) -> int:
    if isinstance(value, np.ndarray):
        return int(value.__array_interface__["data"][0])
    return int(value.data_ptr())
