"""Checkpoints as bytes, without pickle: a JSON tree and the raw bytes of arrays and tensors.

Layout: magic (8 bytes), format version (u32), zero (u32), length of the JSON (u64), all
little-endian; the JSON; then the blocks, each at a multiple of 64 bytes from the beginning. In
the tree, numbers that JSON keeps exactly, strings, booleans, null and lists stand for themselves;
all else is an object with one key that names its kind. Reading builds values of these kinds and
never runs code.
"""

from __future__ import annotations

import json
import struct
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from stage_runner.buffers import Block, Unsavable, find_block, find_scalar, restore
from stage_runner.memory import Memory

FORMAT_VERSION = 1
_MAGIC = b"\x89HIPPO\r\n"
_START = struct.Struct("<8sIIQ")
_ALIGNMENT = 64
_SAFE_INT = 2**53
_MAX_DEPTH = 100


class CodecError(ValueError):
    """These bytes are no checkpoint that this version can read. One line."""


class UnsavableState(TypeError):
    """A state holds something that cannot be saved: ``state['sampler']: a Generator ...``."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state taken apart: the tree, and the blocks it refers to by number."""

    tree: Any
    blocks: tuple[Block, ...]


def snapshot(state: Any, memory: Memory | None = None) -> Snapshot:
    """A copy of a state, which no later training alters; in ``memory``, as far as there is room.

    Raises UnsavableState.
    """
    return take_apart(state, copy=True, memory=memory)


def encode(state: Any) -> list[bytes | memoryview]:
    """The checkpoint of a state or a Snapshot, in pieces that share memory with it.

    Raises UnsavableState.
    """
    taken = state if isinstance(state, Snapshot) else take_apart(state)
    header = json.dumps(
        {
            "tree": taken.tree,
            "blocks": [[b.kind, b.dtype, list(b.shape), b.data.nbytes] for b in taken.blocks],
        },
        separators=(",", ":"),
        allow_nan=False,
    ).encode()
    start = _START.pack(_MAGIC, FORMAT_VERSION, 0, len(header))
    chunks: list[bytes | memoryview] = [start + header + _padding(len(start) + len(header))]
    for block in taken.blocks:
        chunks += [block.data, _padding(block.data.nbytes)]
    return [chunk for chunk in chunks if len(chunk)]


def decode(data: bytes | bytearray | memoryview) -> Any:
    """The state that was encoded; arrays and tensors are fresh, and on the CPU.

    Raises CodecError for bytes that are no checkpoint, whoever made them.
    """
    view = memoryview(data).cast("B")
    if view.nbytes < _START.size:
        raise CodecError("this is no checkpoint: it is too short")
    magic, version, _, length = _START.unpack_from(view)
    if magic != _MAGIC:
        raise CodecError("this is no checkpoint: it does not begin like one")
    if version != FORMAT_VERSION:
        raise CodecError(f"checkpoint format {version} is not {FORMAT_VERSION}, the one known here")
    if length > view.nbytes - _START.size:
        raise CodecError("the checkpoint is truncated")
    try:
        header = json.loads(bytes(view[_START.size : _START.size + length]))
        blocks = _restore_blocks(header["blocks"], view, _START.size + length)
        return _put_together(header["tree"], blocks, 0)
    except CodecError:
        raise
    except ImportError as error:
        raise CodecError(f"the checkpoint needs a library that is not installed: {error}") from None
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, RecursionError) as error:
        raise CodecError(f"the checkpoint is damaged: {type(error).__name__}: {error}") from None
    except (MemoryError, RuntimeError, struct.error) as error:
        raise CodecError(f"the checkpoint cannot be restored: {error}") from None


def take_apart(state: Any, *, copy: bool = False, memory: Memory | None = None) -> Snapshot:
    """Walk a state once; without ``copy`` the result shares its memory. Raises UnsavableState."""
    blocks: list[Block] = []

    def refuse(path: str, reason: str) -> NoReturn:
        raise UnsavableState(f"{path}: {reason}")

    def take(value: Any, path: str, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            refuse(path, f"nested deeper than {_MAX_DEPTH} levels; does it contain itself?")
        value = find_scalar(value)
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            return plain(value)
        if kind is list:
            return [take(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]
        if kind is tuple or _is_torch_size(kind):
            return {"tuple": [take(v, f"{path}[{i}]", depth + 1) for i, v in enumerate(value)]}
        if kind is dict or kind is OrderedDict:
            entries = []
            for key, item in value.items():
                below = f"{path}[{key!r}]"
                taken = take_key(key, below)
                entries.append([taken, take(item, below, depth + 1)])
            return {"dict": entries}
        try:
            block = find_block(value, copy=copy, memory=memory)
        except Unsavable as error:
            refuse(path, str(error))
        if block is None:
            refuse(path, f"a {_name_of(kind)} cannot be saved; {_advice(value)}")
        blocks.append(block)
        return {"block": len(blocks) - 1}

    def take_key(key: Any, path: str) -> Any:
        key = find_scalar(key)
        if type(key) is tuple:
            return {"tuple": [take_key(k, path) for k in key]}
        plain = _PLAIN.get(type(key))
        if plain is None:
            refuse(path, f"a {_name_of(type(key))} cannot be saved as a key")
        return plain(key)

    return Snapshot(take(state, "state", 0), tuple(blocks))


def _take_int(value: int) -> Any:
    return value if -_SAFE_INT < value < _SAFE_INT else {"int": hex(value)}


def _take_float(value: float) -> Any:
    if value - value == 0.0:  # finite: its shortest decimal reads back exactly
        return value
    return {"float": struct.pack(">d", value).hex()}


def _take_complex(value: complex) -> Any:
    return {"complex": struct.pack(">dd", value.real, value.imag).hex()}


_PLAIN: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    str: lambda value: value,
    int: _take_int,
    float: _take_float,
    complex: _take_complex,
}


def _restore_blocks(entries: Any, view: memoryview, start: int) -> list[Any]:
    blocks = []
    for kind, dtype, shape, size in entries:
        start += -start % _ALIGNMENT
        if type(size) is not int or not 0 <= size <= view.nbytes - start:
            raise CodecError("the checkpoint is truncated")
        blocks.append(restore(kind, dtype, tuple(shape), view[start : start + size]))
        start += size
    if start + -start % _ALIGNMENT != view.nbytes:
        raise CodecError("the checkpoint has bytes after its end")
    return blocks


def _put_together(tree: Any, blocks: list[Any], depth: int) -> Any:
    if depth > _MAX_DEPTH + 1:
        raise CodecError(f"the checkpoint is nested deeper than {_MAX_DEPTH} levels")
    if isinstance(tree, list):
        return [_put_together(item, blocks, depth + 1) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    match kind:
        case "tuple":
            return tuple([_put_together(item, blocks, depth + 1) for item in content])
        case "dict":
            restored = {
                _put_key(key, depth + 1): _put_together(item, blocks, depth + 1)
                for key, item in content
            }
            if len(restored) != len(content):
                raise CodecError("the checkpoint has a key twice")
            return restored
        case "block":
            if type(content) is not int or content < 0:
                raise CodecError("the checkpoint refers to no block")
            return blocks[content]
        case "int":
            return int(content, 16)
        case "float":
            return struct.unpack(">d", bytes.fromhex(content))[0]
        case "complex":
            return complex(*struct.unpack(">dd", bytes.fromhex(content)))
        case _:
            raise CodecError(f"the checkpoint holds a kind of value unknown here: {kind}")


def _put_key(tree: Any, depth: int) -> Any:
    if isinstance(tree, dict) and "tuple" in tree and depth <= _MAX_DEPTH + 1:
        return tuple([_put_key(item, depth + 1) for item in tree["tuple"]])
    if isinstance(tree, list) or (isinstance(tree, dict) and ("dict" in tree or "block" in tree)):
        raise CodecError("the checkpoint has a key that cannot be one")
    return _put_together(tree, [], depth)


def _padding(size: int) -> bytes:
    return bytes(-size % _ALIGNMENT)


def _is_torch_size(kind: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and kind is torch.Size


def _name_of(kind: type) -> str:
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )


def _advice(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return "save a sorted list"
    if isinstance(value, dict):
        return "save a plain dict"
    if isinstance(value, (tuple, list, str, int, float, bytearray)):
        plain = next(t for t in (tuple, list, str, int, float, bytearray) if isinstance(value, t))
        return f"save a plain {'bytes' if plain is bytearray else plain.__name__}"
    if hasattr(value, "state_dict"):
        return "save its state_dict()"
    return "save plain data, arrays and tensors"
