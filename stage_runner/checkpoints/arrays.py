"""NumPy's side of a checkpoint: arrays and scalars. Imported without NumPy, which is passed in."""

from __future__ import annotations

import re
from typing import Any

from hippo.model.words import with_article
from stage_runner.checkpoints.layouts import ALIGNMENT, Form, find_bounds, find_c_strides, is_dense
from stage_runner.checkpoints.parts import Part, Unsavable

_DTYPE = re.compile(
    r"[<>|][biufcSUMm][0-9]{1,9}(\[[0-9A-Za-z]{1,8}\])?"
    r"|[<>][qQ]"  # long long, where another type has its size
)
_PADDED = "gG"  # long doubles: some of their bytes are never set


def examine_array(numpy: Any, array: Any) -> Part:
    """Return an array's form and memory. Raises Unsavable."""
    if type(array) is not numpy.ndarray:
        named = with_article(type(array).__name__)
        raise Unsavable(f"{named} cannot be saved; save a plain numpy.ndarray")
    dtype = name_dtype(numpy, array.dtype)
    if dtype is None:
        raise Unsavable(f"an array of dtype {array.dtype} cannot be saved; save plain numbers")
    if not array.flags.aligned:
        raise Unsavable("an array that is not aligned cannot be saved; save a copy of it")
    shape, strides, size = array.shape, array.strides, array.dtype.itemsize
    flags = () if array.flags.writeable else ("readonly",)
    fresh = strides == _find_fresh_strides(shape, size)
    start = _address_of(array)
    low, high = (0, array.nbytes) if fresh else find_bounds(shape, strides, size)
    lead = (start + low - _address_of(_find_owner(numpy, array))) % ALIGNMENT
    return Part(
        value=array,
        form=Form("array", dtype, shape, None if fresh else strides, flags=flags),
        strides=strides,
        item_size=size,
        device="cpu",
        start=start,
        low=start + low,
        high=start + high,
        lead=lead if high > low else 0,
    )


def name_dtype(numpy: Any, dtype: Any) -> str | None:
    """Return a name that restores this very type; None if there is none."""
    is_plain = dtype.names is None and dtype.metadata is None and dtype.char not in _PADDED
    if not is_plain or not dtype.itemsize:  # NumPy itself makes items of no bytes larger
        return None
    for name in (dtype.str, f"{dtype.str[:1]}{dtype.char}"):
        if _DTYPE.fullmatch(name) is not None:
            found = numpy.dtype(name)
            if (found, found.char, found.type) == (dtype, dtype.char, dtype.type):
                return str(name)
    return None


def read_dtype(numpy: Any, name: Any) -> Any:
    """Return the dtype of a name. Raises ValueError unless it is one of plain numbers or text."""
    if type(name) is not str or _DTYPE.fullmatch(name) is None:
        raise ValueError(f"no dtype of NumPy: {name}")
    try:
        found = numpy.dtype(name)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if not found.itemsize:
        raise ValueError(f"no dtype of items that take room: {name}")
    return found


def view_array(numpy: Any, form: Form, buffer: Any) -> Any:
    """Return a view of ``buffer`` (an array of bytes) by its form. Raises ValueError."""
    dtype = read_dtype(numpy, form.dtype)
    strides = form.strides or _find_fresh_strides(form.shape, dtype.itemsize)
    return numpy.ndarray(form.shape, dtype, buffer, form.offset, strides)


def restore_array(numpy: Any, form: Form, data: memoryview) -> Any:
    """Return a new array that owns its memory if NumPy can lay it out so; else a view of a copy."""
    source = numpy.frombuffer(data, numpy.uint8)
    held = view_array(numpy, form, source)
    strides = form.strides if form.strides is not None else held.strides
    if form.offset == 0 and is_dense(form.shape, strides, held.dtype.itemsize):
        fresh = numpy.empty_like(held, order="K")
        if fresh.strides == strides:
            if fresh.nbytes:
                find_flat(numpy, fresh)[:] = find_flat(numpy, held)
            return fresh
    copied = source.copy()
    return view_array(numpy, form, copied)


def find_flat(numpy: Any, array: Any) -> Any:
    """Return the memory of a dense array as bytes."""
    ways = [slice(None, None, -1) if stride < 0 else slice(None) for stride in array.strides]
    forward = array[(*ways, ...)]  # the ellipsis keeps a 0-d array an array
    items = numpy.lib.stride_tricks.as_strided(
        forward, (array.size,), (array.dtype.itemsize,), writeable=array.flags.writeable
    )
    return items.view(numpy.uint8)


def take_scalar(numpy: Any, value: Any) -> list[str] | None:
    """Return a NumPy scalar's type and bytes; None if these do not determine it."""
    kind = type(value)
    if kind is numpy.bytes_:
        return ["bytes_", bytes(value).hex()]
    if kind is numpy.str_:
        return ["str_", str.__str__(value).encode("utf-8", "surrogatepass").hex()]
    dtype = name_dtype(numpy, value.dtype)
    if dtype is None or kind is not value.dtype.type:
        return None
    return [dtype, numpy.array(value).tobytes().hex()]


def restore_scalar(numpy: Any, content: Any) -> Any:
    """Return the scalar of ``take_scalar``. Raises ValueError."""
    name, text = content
    data = bytes.fromhex(text)
    if name == "bytes_":
        return numpy.bytes_(data)
    if name == "str_":
        return numpy.str_(data.decode("utf-8", "surrogatepass"))
    dtype = read_dtype(numpy, name)
    if dtype.itemsize != len(data) or dtype.kind in "SU":
        raise ValueError(f"{len(data)} bytes are no {name}")
    return numpy.ndarray((), dtype, data)[()]


def _find_fresh_strides(shape: tuple[int, ...], item_size: int) -> tuple[int, ...]:
    return (0,) * len(shape) if 0 in shape else find_c_strides(shape, item_size)


def _address_of(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _find_owner(numpy: Any, array: Any) -> Any:
    while type(array.base) is numpy.ndarray:
        array = array.base
    return array
