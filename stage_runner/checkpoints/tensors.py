"""Tensors in checkpoints. Imported without PyTorch, which is passed in as an argument."""

from __future__ import annotations

import math
from typing import Any

from hippo.model.words import with_article
from stage_runner.checkpoints.layouts import ALIGNMENT, Form, find_bounds, find_c_strides
from stage_runner.checkpoints.parts import Part, Unsavable

_DTYPES = frozenset(
    {
        *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu"),
    }
)
_SAME_SIZE = {1: "uint8", 2: "int16", 4: "int32", 8: "int64", 16: "complex128"}


def examine_tensor(torch: Any, tensor: Any) -> Part:
    """Return a tensor's form and memory. Raises Unsavable."""
    dtype = name_dtype(tensor.dtype)
    _check(torch, tensor, dtype)
    assert dtype is not None
    size = tensor.dtype.itemsize
    shape = tuple(tensor.shape)
    strides = tuple(stride * size for stride in tensor.stride())
    flags = _find_flags(torch, tensor)
    fresh = strides == find_c_strides(shape, size)
    held = tensor.detach() if tensor.requires_grad else tensor
    held = held.conj() if held.is_conj() else held
    held = torch._neg_view(held) if held.is_neg() else held
    low, high = (0, held.nbytes) if fresh else find_bounds(shape, strides, size)
    start = held.data_ptr() if high else 0
    return Part(
        value=held,
        form=Form("tensor", dtype, shape, None if fresh else strides, flags=flags),
        strides=strides,
        item_size=size,
        device=str(tensor.device),
        start=start,
        low=start + low,
        high=start + high,
        lead=held.storage_offset() * size % ALIGNMENT if high else 0,
    )


def _find_flags(torch: Any, tensor: Any) -> tuple[str, ...]:
    flags = {
        "parameter": type(tensor) is torch.nn.Parameter,
        "grad": tensor.requires_grad,
        "conj": tensor.is_conj(),
        "neg": tensor.is_neg(),
    }
    return tuple(name for name, is_set in flags.items() if is_set) if any(flags.values()) else ()


def name_dtype(dtype: Any) -> str | None:
    """Return the name of a dtype of plain numbers; None for others."""
    name = str(dtype).removeprefix("torch.")
    return name if name in _DTYPES else None


def read_dtype(torch: Any, name: Any) -> Any:
    """Return the dtype of a name. Raises ValueError."""
    if type(name) is not str or name not in _DTYPES:
        raise ValueError(f"no dtype of PyTorch: {name}")
    found = getattr(torch, name, None)
    if found is None:
        raise ValueError(f"this version of PyTorch has no dtype {name}")
    return found


def _check(torch: Any, tensor: Any, dtype: str | None) -> None:
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        named = with_article(type(tensor).__name__)
        raise Unsavable(f"{named} cannot be saved; save a plain torch.Tensor")
    if tensor.layout != torch.strided or tensor.is_nested or dtype is None:
        what = f"{tensor.layout} tensor of {tensor.dtype}".replace("torch.", "")
        raise Unsavable(f"{with_article(what)} cannot be saved; save a dense one")
    if tensor.is_meta:
        raise Unsavable("a tensor on the meta device has no data to save")
    if tensor.grad_fn is not None:
        raise Unsavable("a tensor with a graph of gradients cannot be saved; save its .detach()")
    if getattr(tensor, "has_names", bool)():  # newer versions lack it
        raise Unsavable("a tensor with named dimensions cannot be saved; save .rename(None)")
    own = [name for name in vars(tensor) if not name.startswith("_")]
    if own:
        raise Unsavable(f"a tensor with an attribute {own[0]!r} cannot be saved; save .detach()")


def view_tensor(torch: Any, form: Form, buffer: Any) -> Any:
    """Return a view of ``buffer`` (a tensor of bytes) by its form. Raises ValueError."""
    type_ = read_dtype(torch, form.dtype)
    size = type_.itemsize
    strides = form.strides if form.strides is not None else find_c_strides(form.shape, size)
    if any(number % size or number < 0 for number in (*strides, form.offset)):
        raise ValueError(f"no strides of {form.dtype}: {strides} from {form.offset}")
    if form.offset + find_bounds(form.shape, strides, size)[1] > buffer.numel():
        raise ValueError(f"{buffer.numel()} bytes do not hold shape {form.shape}")
    if math.prod(form.shape) >= 2**60:
        raise ValueError(f"no shape: {form.shape}")
    return torch.empty(0, dtype=type_, device="cpu").set_(
        buffer.untyped_storage(),
        form.offset // size,
        form.shape,
        tuple(stride // size for stride in strides),
    )


def finish_tensor(torch: Any, form: Form, tensor: Any) -> Any:
    """Apply a form's flags to a view of restored memory."""
    if "neg" in form.flags:
        tensor = torch._neg_view(tensor)
    if "conj" in form.flags:
        tensor = tensor.conj()
    if "parameter" in form.flags:
        return torch.nn.Parameter(tensor, requires_grad="grad" in form.flags)
    return tensor.requires_grad_() if "grad" in form.flags else tensor


def find_flat(torch: Any, tensor: Any) -> Any:
    """Return the memory of a dense tensor as bytes, on its device."""
    return tensor.as_strided((tensor.numel(),), (1,)).view(torch.uint8)


def copy_bits(torch: Any, source: Any, target: Any) -> None:
    """Copy element by element, for any strides; repeated elements (a stride of 0) are copied
    once.
    """
    for dimension, (size, stride) in enumerate(zip(source.shape, source.stride(), strict=True)):
        if size > 1 and stride == 0:
            source, target = (one.narrow(dimension, 0, 1) for one in (source, target))
    raw = getattr(torch, _SAME_SIZE[source.dtype.itemsize])
    target.view(raw).copy_(source.view(raw))
