"""Converts arrays, tensors and bytes to blocks of memory and back; shared memory shares a block.

Loads NumPy and PyTorch only if a state needs them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stage_runner.checkpoints import arrays, tensors
from stage_runner.checkpoints.layouts import (
    MAX_REPEATED,
    Form,
    check_form,
    find_excess,
    is_dense,
    overlaps_itself,
)
from stage_runner.checkpoints.memory import Memory
from stage_runner.checkpoints.parts import Part, Unplaceable


@dataclass(frozen=True, slots=True)
class Block:
    """Memory that holds one or several values. The first ``lead`` bytes are zero and not in
    ``data``: they preserve the alignment of the rest.
    """

    lead: int
    data: memoryview

    @property
    def size(self) -> int:
        return self.lead + self.data.nbytes


def examine(value: Any) -> Part | None:
    """Return the Part of an array, a tensor or bytes; None for other values. Raises Unsavable."""
    if type(value) in (bytes, bytearray):
        form = Form(type(value).__name__, "", (len(value),))
        return Part(value, form, (1,), 1, "", 0, 0, 0, 0)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return arrays.examine_array(numpy, value)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        return tensors.examine_tensor(torch, value)
    return None


def lay_out(
    parts: Sequence[Part], *, copy: bool, memory: Memory | None = None
) -> tuple[tuple[Form, ...], tuple[Block, ...]]:
    """Return the forms of all parts, in their order, and the blocks that hold them.

    With ``copy`` the blocks share no memory with the parts, and use ``memory`` if it has room.
    Raises Unplaceable.
    """
    forms: list[Form] = [part.form for part in parts]
    blocks: list[Block] = []
    for group in _group(parts):
        low, lead = parts[group[0]].low, parts[group[0]].lead
        members = []
        for index in group:
            part = parts[index]
            offset = lead + part.start - low
            _check_place(index, part, offset, is_shared=len(group) > 1)
            forms[index] = part.form._replace(block=len(blocks), offset=offset)
            members.append(part)
        blocks.append(Block(lead, _gather(members, low, lead, copy=copy, memory=memory)))
    _check_repeats(parts, [blocks[form.block].size for form in forms])
    return tuple(forms), tuple(blocks)


def restore(forms: Sequence[Form], blocks: Sequence[memoryview]) -> list[Any]:
    """Return new values; those of one block share memory. Raises ValueError if they do not fit."""
    shared: dict[int, Any] = {}
    uses = [0] * len(blocks)
    for form in forms:
        check_form(form)
        if form.block >= len(blocks):
            raise ValueError("a value lies in no block")
        uses[form.block] += 1
        if uses[form.block] > 1 and form.kind in ("bytes", "bytearray"):
            raise ValueError("bytes lie where something else does")
    repeated = sum(
        find_excess(form.shape, _item_size(form), blocks[form.block].nbytes) for form in forms
    )
    if repeated > MAX_REPEATED:
        raise ValueError(f"values take {repeated} bytes more than there are")
    return [_restore(form, blocks[form.block], uses[form.block] > 1, shared) for form in forms]


def _item_size(form: Form) -> int:
    """Return the bytes of an item. Raises ValueError for an unknown kind."""
    match form.kind:
        case "bytes" | "bytearray":
            return 1
        case "array":
            numpy = importlib.import_module("numpy")
            return int(arrays.read_dtype(numpy, form.dtype).itemsize)
        case "tensor":
            torch = importlib.import_module("torch")
            return int(tensors.read_dtype(torch, form.dtype).itemsize)
    raise ValueError(f"no kind of block: {form.kind}")


def _restore(form: Form, data: memoryview, is_shared: bool, shared: dict[int, Any]) -> Any:
    if form.kind in ("bytes", "bytearray"):
        if form.shape != (data.nbytes,):
            raise ValueError(f"{data.nbytes} bytes are not {form.shape}")
        return data.tobytes() if form.kind == "bytes" else bytearray(data)
    numpy = importlib.import_module("numpy")
    if form.kind == "array" and not is_shared:
        value = arrays.restore_array(numpy, form, data)
    else:
        buffer = shared.get(form.block)
        if buffer is None:
            buffer = _copy_aligned(numpy, form.kind, data)
            if is_shared:
                shared[form.block] = buffer
        value = _view(numpy, form, buffer)
    if form.kind == "array":
        value.flags.writeable = "readonly" not in form.flags
    else:
        value = tensors.finish_tensor(sys.modules["torch"], form, value)
    return value


def _copy_aligned(numpy: Any, kind: str, data: memoryview) -> Any:
    """Return a copy as an array of bytes, allocated by PyTorch if a tensor uses it."""
    if kind == "array" and "torch" not in sys.modules:
        return numpy.frombuffer(data, numpy.uint8).copy()
    torch = importlib.import_module("torch")
    held = torch.empty(data.nbytes, dtype=torch.uint8, device="cpu")
    if data.nbytes:
        held.numpy()[:] = numpy.frombuffer(data, numpy.uint8)
    return held


def _view(numpy: Any, form: Form, buffer: Any) -> Any:
    """View ``buffer``, bytes as an array or a tensor, by its form."""
    if form.kind == "array":
        held = buffer if isinstance(buffer, numpy.ndarray) else buffer.numpy()
        return arrays.view_array(numpy, form, held)
    torch = importlib.import_module("torch")
    held = torch.from_numpy(buffer) if isinstance(buffer, numpy.ndarray) else buffer
    return tensors.view_tensor(torch, form, held)


def _group(parts: Sequence[Part]) -> list[list[int]]:
    """Group the numbers of parts whose memory overlaps: each group by address, the groups in the
    order of their first part.
    """
    groups = [[index] for index, part in enumerate(parts) if part.low == part.high]
    filled = (index for index, part in enumerate(parts) if part.low < part.high)
    end, device = 0, ""
    current: list[int] = []
    for index in sorted(filled, key=lambda i: (parts[i].device, parts[i].low)):
        part = parts[index]
        if part.device == device and part.low < end:
            current.append(index)
            end = max(end, part.high)
        else:
            current = [index]
            groups.append(current)
            end, device = part.high, part.device
    return sorted(groups, key=min)


def _check_place(index: int, part: Part, offset: int, *, is_shared: bool) -> None:
    if is_shared and part.item_size and offset % part.item_size:
        raise Unplaceable(
            index, "memory that it shares with another is not aligned; save a copy of it"
        )
    is_plain = part.form.strides is None
    if not is_plain and overlaps_itself(part.form.shape, part.strides, part.item_size):
        raise Unplaceable(index, "its elements share memory with one another; save a copy of it")


def _check_repeats(parts: Sequence[Part], sizes: Sequence[int]) -> None:
    excess = [
        find_excess(part.form.shape, part.item_size, size)
        for part, size in zip(parts, sizes, strict=True)
    ]
    if sum(excess) > MAX_REPEATED:
        most = max(excess)
        raise Unplaceable(
            excess.index(most),
            f"its elements repeat: written out, they take {most} bytes more than are stored, and"
            f" {MAX_REPEATED} are allowed in all; save what is repeated, or a copy",
        )


def _gather(
    members: Sequence[Part], low: int, lead: int, *, copy: bool, memory: Memory | None
) -> memoryview:
    """Return the memory of a group, with zeros wherever none of its members has an element."""
    first = members[0]
    if first.form.kind == "bytes":
        return memoryview(first.value)
    if first.form.kind == "bytearray":
        return memoryview(bytes(first.value) if copy else first.value)
    size = max(part.high for part in members) - low
    if not size:
        return memoryview(b"")
    for part in members:
        covers = (part.low, part.high) == (low, low + size)
        if covers and (
            part.form.strides is None  # C order
            or is_dense(part.form.shape, part.strides, part.item_size)
        ):
            return _flatten(part, size, copy=copy, memory=memory)
    numpy = importlib.import_module("numpy")
    room = memory.take(lead + size) if copy and memory is not None else None
    buffer = numpy.frombuffer(room if room is not None else bytearray(lead + size), numpy.uint8)
    if room is not None:
        buffer[:] = 0
    for part in members:
        form = part.form._replace(strides=part.strides, offset=lead + part.start - low)
        _scatter(numpy, part.value, _view(numpy, form, buffer))
    return memoryview(buffer)[lead:]


def _flatten(part: Part, size: int, *, copy: bool, memory: Memory | None) -> memoryview:
    numpy = importlib.import_module("numpy")
    room = memory.take(size) if copy and memory is not None else None
    if part.form.kind == "array":
        flat = arrays.find_flat(numpy, part.value)
        if room is not None:
            numpy.frombuffer(room, numpy.uint8)[:] = flat
            return room
        return memoryview(flat.copy() if copy else flat)
    torch = sys.modules["torch"]
    bits = tensors.find_flat(torch, part.value)
    if room is not None:
        torch.frombuffer(room, dtype=torch.uint8).copy_(bits)
        return room
    moved = bits.to("cpu")
    return memoryview((moved.clone() if copy and moved is bits else moved).numpy())


def _scatter(numpy: Any, source: Any, target: Any) -> None:
    if isinstance(source, numpy.ndarray):
        once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in source.strides)
        target[once] = source[once]
    else:
        tensors.copy_bits(sys.modules["torch"], source, target)
