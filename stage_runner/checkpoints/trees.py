"""States as JSON trees, except for values with memory (arrays, tensors, bytes).

Numbers that JSON keeps exactly, strings, booleans, null and lists stand for themselves; everything
else is an object with one key that names its kind. ``{"block": n}`` is the n-th value with memory.
``{"same": n}`` is another occurrence of the n-th mutable object, in the order in which they begin;
after a restore both occurrences are one object again.
"""

from __future__ import annotations

import importlib
import json
import struct
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from hippo.model.words import with_article
from stage_runner.checkpoints import arrays, tensors
from stage_runner.checkpoints.buffers import examine
from stage_runner.checkpoints.parts import Part, Unsavable

MAX_DEPTH = 100
LEAST_ENTRIES = 2**17
BYTES_PER_ENTRY = 8
"""A checkpoint may have LEAST_ENTRIES entries (values outside of arrays and tensors, and the
descriptions of those), and one more for each BYTES_PER_ENTRY bytes. Each entry becomes a Python
object of several times its bytes, so this limits the memory for reading to a small multiple of the
file. Long lists of numbers belong in arrays.
"""
_SAFE_INT = 2**53
_MAPPINGS: dict[type, str] = {dict: "dict", OrderedDict: "ordered", Counter: "counter"}
_MOST_WRAPPING = 8  # entries of an object that stands for a container or a value, itself
_PLAIN_TYPES = (tuple, list, str, int, float, bytes)


class UnsavableState(TypeError):
    """A state holds a value that cannot be saved: ``state['sampler']: a Generator ...``."""


class InvalidTree(ValueError):
    """The tree is not one that the encoder writes. The message is one line."""


class Walk:
    """Decomposes one state. ``parts`` are the values that the tree refers to by number."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.paths: list[str] = []  # of the parts
        self._seen: dict[int, int] = {}  # numbers of mutable objects, by id
        self._open: set[int] = set()  # those on the current path
        self.entries = 0  # at least what ``count_entries`` finds in the tree

    def take(self, value: Any, path: str, depth: int) -> Any:
        """Return the tree of a value. Raises UnsavableState."""
        if depth > MAX_DEPTH:
            _refuse(path, f"nested deeper than {MAX_DEPTH} levels")
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            taken = plain(value)
            self.entries += 4 if type(taken) is dict else 1
            return taken
        self.entries += _MOST_WRAPPING
        if kind is tuple:
            return {"tuple": self._take_items(value, path, depth)}
        named = _take_named(value)
        if named is not None:
            self.entries += len(value) if "size" in named else 0
            return named
        if kind is bytes:
            return self._take_block(value, path)
        if id(value) in self._seen:
            if id(value) in self._open:
                _refuse(path, "contains itself, which cannot be saved")
            return {"same": self._seen[id(value)]}
        self._seen[id(value)] = len(self._seen)
        self._open.add(id(value))
        taken = self._take_changeable(value, path, depth)
        self._open.discard(id(value))
        return taken

    def _take_changeable(self, value: Any, path: str, depth: int) -> Any:
        kind = type(value)
        if kind is list:
            return self._take_items(value, path, depth)
        if kind is deque:
            return {"deque": [self._take_items(value, path, depth), value.maxlen]}
        if kind in _MAPPINGS:
            entries = self._take_entries(value, path, depth)
            own = vars(value) if kind is not dict else {}
            if own and kind is not OrderedDict:
                named = with_article(name_of(kind))
                _refuse(path, f"{named} with attributes of its own; save a plain dict")
            if kind is OrderedDict:
                return {"ordered": [entries, self._take_entries(own, path, depth, dotted=True)]}
            return {_MAPPINGS[kind]: entries}
        return self._take_block(value, path)

    def _take_items(self, value: Iterable[Any], path: str, depth: int) -> list[Any]:
        return [self.take(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value)]

    def _take_entries(
        self, value: dict[Any, Any], path: str, depth: int, *, dotted: bool = False
    ) -> list[Any]:
        entries = []
        for key, item in value.items():
            below = f"{path}.{key}" if dotted else f"{path}[{key!r}]"
            taken = take_key(key, below)
            self.entries += 2 if type(taken) is not dict else 2 + count_entries(json.dumps(taken))
            entries.append([taken, self.take(item, below, depth + 1)])
        return entries

    def _take_block(self, value: Any, path: str) -> Any:
        try:
            part = examine(value)
        except Unsavable as error:
            _refuse(path, str(error))
        if part is None:
            _refuse(path, f"{with_article(name_of(type(value)))} cannot be saved; {_advice(value)}")
        self.parts.append(part)
        self.paths.append(path)
        return {"block": len(self.parts) - 1}


def count_entries(text: str) -> int:
    """Count the objects that a JSON tree will become, before parsing; dicts count three times."""
    return text.count(",") + text.count("[") + 3 * text.count("{")


def check_entries(count: int, size: int) -> bool:
    """Return whether a checkpoint of ``size`` bytes may have ``count`` entries."""
    return count <= LEAST_ENTRIES + size // BYTES_PER_ENTRY


def take_key(key: Any, path: str) -> Any:
    """Return the tree of a dict's key. Raises UnsavableState."""
    if type(key) is tuple:
        return {"tuple": [take_key(item, path) for item in key]}
    plain = _PLAIN.get(type(key))
    taken = plain(key) if plain is not None else _take_scalar(key)
    if plain is None and taken is None:
        _refuse(path, f"{with_article(name_of(type(key)))} cannot be saved as a key")
    return taken


def put_together(tree: Any, values: list[Any]) -> Any:
    """Return the state of a tree. Raises InvalidTree, or what Python raises for wrong types."""
    return _Builder(values).build(tree, 0)


class _Builder:
    def __init__(self, values: list[Any]) -> None:
        self._values = values
        self._made: list[Any] = []  # mutable objects
        self._open: set[int] = set()

    def build(self, tree: Any, depth: int) -> Any:
        if depth > MAX_DEPTH + 1:
            raise InvalidTree(f"the checkpoint is nested deeper than {MAX_DEPTH} levels")
        if isinstance(tree, list):
            return self._fill(tree, lambda made: self._build_in_place(made, depth))
        if not isinstance(tree, dict):
            return tree
        ((kind, content),) = tree.items()
        match kind:
            case "tuple":
                return tuple(self._items(content, depth))
            case "dict":
                return self._fill({}, lambda made: self._enter(made, content, depth))
            case "counter":
                return self._fill(Counter(), lambda made: self._enter(made, content, depth))
            case "ordered":
                return self._fill(OrderedDict(), lambda made: self._order(made, content, depth))
            case "deque":
                items, length = content
                return self._fill(
                    deque(maxlen=length), lambda made: made.extend(self._items(items, depth))
                )
            case "block":
                return self._take_value(content)
            case "same":
                return self._take_same(content)
            case _:
                return _build_plain(kind, content)

    def _fill(self, made: Any, fill: Callable[[Any], None]) -> Any:
        number = len(self._made)
        self._made.append(made)
        self._open.add(number)
        fill(made)
        self._open.discard(number)
        return made

    def _build_in_place(self, items: list[Any], depth: int) -> None:
        for index, item in enumerate(items):
            items[index] = self.build(item, depth + 1)

    def _items(self, trees: Any, depth: int) -> list[Any]:
        return [self.build(item, depth + 1) for item in trees]

    def _enter(self, made: dict[Any, Any], entries: Any, depth: int) -> None:
        for key, item in entries:
            built = _build_key(key, depth + 1)
            made[built] = self.build(item, depth + 1)
        if len(made) != len(entries):
            raise InvalidTree("the checkpoint has a key twice")

    def _order(self, made: OrderedDict[Any, Any], content: Any, depth: int) -> None:
        entries, attributes = content
        self._enter(made, entries, depth)
        own: dict[str, Any] = {}
        self._enter(own, attributes, depth)
        if any(type(name) is not str or hasattr(made, name) for name in own):
            raise InvalidTree("the checkpoint has an attribute that cannot be one")
        vars(made).update(own)

    def _take_value(self, number: Any) -> Any:
        if type(number) is not int or number < 0:
            raise InvalidTree("the checkpoint refers to no block")
        value = self._values[number]
        if type(value) is not bytes:
            self._made.append(value)
        return value

    def _take_same(self, number: Any) -> Any:
        if type(number) is not int or number < 0 or number in self._open:
            raise InvalidTree("the checkpoint refers to no object")
        return self._made[number]


def _build_plain(kind: str, content: Any) -> Any:
    match kind:
        case "int":
            return int(content, 16)
        case "float":
            return struct.unpack(">d", bytes.fromhex(content))[0]
        case "complex":
            return complex(*struct.unpack(">dd", bytes.fromhex(content)))
        case "text":
            return bytes.fromhex(content).decode("utf-8", "surrogatepass")
        case "scalar":
            return arrays.restore_scalar(importlib.import_module("numpy"), content)
        case "size" | "dtype" | "device":
            return _build_torch(kind, content)
        case _:
            raise InvalidTree(f"the checkpoint holds a kind of value unknown here: {kind}")


def _build_torch(kind: str, content: Any) -> Any:
    torch = importlib.import_module("torch")
    if kind == "size":
        return torch.Size(content)
    if kind == "device":
        return torch.device(content)
    return tensors.read_dtype(torch, content)


def _build_key(tree: Any, depth: int) -> Any:
    if isinstance(tree, dict) and "tuple" in tree and depth <= MAX_DEPTH + 1:
        return tuple([_build_key(item, depth + 1) for item in tree["tuple"]])
    if isinstance(tree, dict):
        ((kind, content),) = tree.items()
        return _build_plain(kind, content)
    if isinstance(tree, list):
        raise InvalidTree("the checkpoint has a key that cannot be one")
    return tree


def _take_int(value: int) -> Any:
    return value if -_SAFE_INT < value < _SAFE_INT else {"int": hex(value)}


def _take_float(value: float) -> Any:
    if value - value == 0.0:  # finite: its shortest decimal reads back exactly
        return value
    return {"float": struct.pack(">d", value).hex()}


def _take_complex(value: complex) -> Any:
    return {"complex": struct.pack(">dd", value.real, value.imag).hex()}


def _take_text(value: str) -> Any:
    if value.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in value):
        return value
    return {"text": value.encode("utf-8", "surrogatepass").hex()}  # JSON would join surrogates


_PLAIN: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: value,
    bool: lambda value: value,
    str: _take_text,
    int: _take_int,
    float: _take_float,
    complex: _take_complex,
}


def _take_named(value: Any) -> Any:
    """Return the tree of a NumPy scalar, torch.Size, dtype or device; None for others."""
    torch = sys.modules.get("torch")
    if torch is not None:
        if type(value) is torch.Size:
            return {"size": list(value)}
        if isinstance(value, torch.dtype) and (name := tensors.name_dtype(value)) is not None:
            return {"dtype": name}
        if isinstance(value, torch.device):
            return {"device": str(value)}
    return _take_scalar(value)


def _take_scalar(value: Any) -> Any:
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.generic):
        return None
    taken = arrays.take_scalar(numpy, value)
    return None if taken is None else {"scalar": taken}


def name_of(kind: type) -> str:
    """Return a type's name for a message."""
    return (
        kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    )


def _refuse(path: str, reason: str) -> NoReturn:
    raise UnsavableState(f"{path}: {reason}")


def _advice(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return "save a sorted list"
    if isinstance(value, dict):
        return "save a plain dict"
    for kind in _PLAIN_TYPES:
        if isinstance(value, kind):
            return f"save a plain {kind.__name__}"
    if hasattr(value, "state_dict"):
        return "save its state_dict()"
    return "save plain data, arrays and tensors"
