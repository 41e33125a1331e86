"""Checkpoints as bytes, without pickle: a JSON header and the raw memory of arrays and tensors.

Layout: magic (8 bytes), format version (u32), zero (u32), length of the JSON (u64), all
little-endian; the JSON; then the blocks, each at a multiple of 64 bytes from the beginning. The
JSON has the tree (``stage_runner.checkpoints.trees``), the values that the tree refers to by
number, and the sizes of the blocks that they lie in. Reading builds values of known kinds and never
runs code.

Format 1 had no strides, no types of scalars and no sharing; it is still read.
"""

from __future__ import annotations

import json
import re
import struct
from dataclasses import dataclass
from typing import Any

from stage_runner.checkpoints.buffers import Block, lay_out, restore
from stage_runner.checkpoints.layouts import Form
from stage_runner.checkpoints.memory import Memory
from stage_runner.checkpoints.parts import Unplaceable
from stage_runner.checkpoints.trees import (
    InvalidTree,
    UnsavableState,
    Walk,
    check_entries,
    count_entries,
    put_together,
)

__all__ = [
    "FORMAT_VERSION",
    "CodecError",
    "NewerCheckpoint",
    "Snapshot",
    "UnsavableState",
    "decode",
    "encode",
    "find_format",
    "snapshot",
    "take_apart",
]

FORMAT_VERSION = 2
_MAGIC = b"\x89HIPPO\r\n"
_START = struct.Struct("<8sIIQ")
_ALIGNMENT = 64
_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+\\?"?', re.DOTALL)  # ended or not: linear
_MOST_IN_FORM = 16  # entries of a value's form, beside its shape and strides


class CodecError(ValueError):
    """These bytes are not a checkpoint that this version can read. The message is one line."""


class NewerCheckpoint(CodecError):
    """A newer version wrote the checkpoint; it is not damaged."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A decomposed state: the tree, the values that it refers to by number, and their memory."""

    tree: Any
    forms: tuple[Form, ...]
    blocks: tuple[Block, ...]


def snapshot(state: Any, memory: Memory | None = None) -> Snapshot:
    """Copy a state, so that later training does not alter it; into ``memory`` if it has room.

    Raises UnsavableState.
    """
    return take_apart(state, copy=True, memory=memory)


def take_apart(state: Any, *, copy: bool = False, memory: Memory | None = None) -> Snapshot:
    """Decompose a state; without ``copy`` the result shares its memory. Raises UnsavableState."""
    walk = Walk()
    tree = walk.take(state, "state", 0)
    try:
        forms, blocks = lay_out(walk.parts, copy=copy, memory=memory)
    except Unplaceable as error:
        raise UnsavableState(f"{walk.paths[error.part]}: {error}") from None
    taken = Snapshot(tree, forms, blocks)
    entries = _estimate_entries(walk, forms)
    size = sum(block.size for block in blocks)
    if not check_entries(entries, size) and not _is_small_enough(_write_header(taken), size):
        raise UnsavableState(
            f"state: it holds {entries} numbers, texts and lists outside of arrays and tensors,"
            " which would take far more memory than the checkpoint itself when it is read: save"
            " long lists as arrays"
        )
    return taken


def _estimate_entries(walk: Walk, forms: tuple[Form, ...]) -> int:
    """Return an upper bound on the header's entries outside of texts, as ``count_entries``
    counts them.
    """
    return walk.entries + sum(_MOST_IN_FORM + 2 * len(form.shape) for form in forms) + _MOST_IN_FORM


def encode(state: Any) -> list[bytes | memoryview]:
    """Return the checkpoint of a state or a Snapshot, in pieces that share memory with it.

    Raises UnsavableState.
    """
    taken = state if isinstance(state, Snapshot) else take_apart(state)
    header = _write_header(taken).encode()
    start = _START.pack(_MAGIC, FORMAT_VERSION, 0, len(header))
    chunks: list[bytes | memoryview] = [start + header + _padding(len(start) + len(header))]
    for block in taken.blocks:
        chunks += [bytes(block.lead), block.data, _padding(block.size)]
    return [chunk for chunk in chunks if len(chunk)]


def _write_header(taken: Snapshot) -> str:
    """Return the header as ASCII text."""
    return json.dumps(
        {
            "tree": taken.tree,
            "values": taken.forms,
            "blocks": [block.size for block in taken.blocks],
        },
        separators=(",", ":"),
        allow_nan=False,
    )


def _is_small_enough(header: str, size: int) -> bool:
    """Return whether a header may precede ``size`` bytes. Runs in linear time and little memory."""
    size += len(header)
    if check_entries(count_entries(header), size):
        return True
    within = sum(count_entries(text[0]) for text in _TEXT.finditer(header))
    return check_entries(count_entries(header) - within, size)


def find_format(data: bytes | bytearray | memoryview) -> int:
    """Return a checkpoint's format version. Raises CodecError."""
    view = memoryview(data).cast("B")
    if view.nbytes < _START.size:
        raise CodecError("this is no checkpoint: it is too short")
    magic, version, _, _ = _START.unpack_from(view)
    if magic != _MAGIC:
        raise CodecError("this is no checkpoint: it does not begin like one")
    if version > FORMAT_VERSION:
        raise NewerCheckpoint(
            f"it was written by a newer Hippo (checkpoint format {version}, this one reads up to"
            f" {FORMAT_VERSION}): upgrade, or use another --store"
        )
    if version < 1:
        raise CodecError(f"there is no checkpoint format {version}")
    return int(version)


def decode(data: bytes | bytearray | memoryview) -> Any:
    """Return the encoded state; arrays and tensors are new, and on the CPU.

    Raises CodecError if the bytes are not a checkpoint, even for malicious bytes.
    """
    version = find_format(data)
    view = memoryview(data).cast("B")
    length = _START.unpack_from(view)[3]
    if length > view.nbytes - _START.size:
        raise CodecError("the checkpoint is truncated")
    try:
        text = str(view[_START.size : _START.size + length], "ascii")
        if not _is_small_enough(text, view.nbytes - _START.size - length):
            raise CodecError("the checkpoint would take far more memory than it has bytes")
        header = json.loads(text)
        del text
        forms, sizes = _read_first(header) if version == 1 else _read(header)
        blocks = _cut(sizes, view, _START.size + length)
        return put_together(header["tree"], restore(forms, blocks))
    except CodecError:
        raise
    except InvalidTree as error:
        raise CodecError(str(error)) from None
    except ImportError as error:
        raise CodecError(f"the checkpoint needs a library that is not installed: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise CodecError(f"the checkpoint is damaged: {type(error).__name__}: {error}") from None
    except (MemoryError, RuntimeError, AttributeError, struct.error) as error:
        raise CodecError(f"the checkpoint cannot be restored: {error}") from None


def _read(header: Any) -> tuple[list[Form], list[Any]]:
    forms = []
    for kind, dtype, shape, strides, block, offset, flags in header["values"]:
        lies = None if strides is None else tuple(strides)
        forms.append(Form(kind, dtype, tuple(shape), lies, block, offset, tuple(flags)))
    return forms, header["blocks"]


def _read_first(header: Any) -> tuple[list[Form], list[Any]]:
    """Format 1: each value has a block of its own, in C order."""
    entries = list(header["blocks"])
    forms = [
        Form(kind, dtype, tuple(shape), block=index)
        for index, (kind, dtype, shape, _) in enumerate(entries)
    ]
    return forms, [size for _, _, _, size in entries]


def _cut(sizes: list[Any], view: memoryview, start: int) -> list[memoryview]:
    blocks = []
    for size in sizes:
        start += -start % _ALIGNMENT
        if type(size) is not int or not 0 <= size <= view.nbytes - start:
            raise CodecError("the checkpoint is truncated")
        blocks.append(view[start : start + size])
        start += size
    if start + -start % _ALIGNMENT != view.nbytes:
        raise CodecError("the checkpoint has bytes after its end")
    return blocks


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)
