"""Memory layouts of arrays and tensors: plain arithmetic on shapes and strides.

Strides are always in bytes. Sizes and strides of dimensions are in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

ALIGNMENT = 64
"""Bytes. Kernels may give other results if memory begins at another offset modulo this."""

MAX_REPEATED = 64 << 20
"""Bytes that the values of a state may take, written out, beyond those that are stored: by elements
that repeat (strides of 0), and by empty shapes of large dimensions. Whoever copies such a value
needs that memory, so a small file must not ask for any amount of it.
"""

_MOST_DIMENSIONS = 64


class Form(NamedTuple):
    """A value's type, and the layout of its elements in the block that holds them."""

    kind: str  # bytes | bytearray | array | tensor
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...] | None = None  # None: the library's layout of a new value
    block: int = 0
    offset: int = 0  # bytes from the block's beginning to the first element
    flags: tuple[str, ...] = ()  # readonly | parameter | grad | conj | neg


def find_c_strides(shape: Sequence[int], item_size: int) -> tuple[int, ...]:
    """Return the strides of an array in C order; sizes of 0 count as 1, as in PyTorch."""
    strides, stride = [], item_size
    for size in reversed(shape):
        strides.append(stride)
        stride *= max(size, 1)
    return tuple(reversed(strides))


def find_bounds(shape: Sequence[int], strides: Sequence[int], item_size: int) -> tuple[int, int]:
    """Return the begin and end of memory, in bytes from the first element; equal if it is empty."""
    if 0 in shape or not item_size:
        return 0, 0
    reach = [stride * (size - 1) for size, stride in zip(shape, strides, strict=True)]
    return sum(r for r in reach if r < 0), item_size + sum(r for r in reach if r > 0)


def is_dense(shape: Sequence[int], strides: Sequence[int], item_size: int) -> bool:
    """Return whether the elements fill their memory without gaps, each once: in some order of
    dimensions, in either direction, they are in C order.
    """
    expected = item_size
    for stride, size in _steps(shape, strides):
        if stride != expected:
            return False
        expected *= size
    return True


def overlaps_itself(shape: Sequence[int], strides: Sequence[int], item_size: int) -> bool:
    """Return whether elements share memory, or may, other than by repetition (a stride of 0)."""
    extent = item_size
    for stride, size in _steps(shape, strides):
        if stride and stride < extent:
            return True
        extent += stride * (size - 1)
    return False


def find_excess(shape: Sequence[int], item_size: int, held: int) -> int:
    """Return the bytes that the elements take beyond ``held``, if each is written out."""
    return max(0, math.prod(max(size, 1) for size in shape) * item_size - held)


def check_form(form: Form) -> None:
    """Raise ValueError for a form that no library would accept."""
    strides = form.strides if form.strides is not None else (0,) * len(form.shape)
    numbers = [*form.shape, *strides, form.block, form.offset]
    if any(type(number) is not int for number in numbers):
        raise ValueError("a shape holds something else than integers")
    if len(form.shape) > _MOST_DIMENSIONS or len(strides) != len(form.shape):
        raise ValueError(f"no shape: {form.shape} with strides {strides}")
    if any(number < 0 for number in (*form.shape, form.block, form.offset)):
        raise ValueError(f"no shape: {form.shape} at {form.offset}")
    if form.strides is not None and overlaps_itself(form.shape, form.strides, 1):
        raise ValueError(f"elements of shape {form.shape} share memory: {form.strides}")


def _steps(shape: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """Return absolute strides and sizes of the dimensions with more than one element, sorted."""
    pairs = zip(strides, shape, strict=True)
    return sorted((abs(stride), size) for stride, size in pairs if size > 1)
