"""A hash of a state that does not depend on its encoding, and the differences between two
states.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hippo.model.words import with_article
from stage_runner.checkpoints.codec import Snapshot, take_apart
from stage_runner.checkpoints.layouts import Form

_SHOWN = 3  # maximum number of differing parts that are named
_LONGEST = 40  # maximum characters shown of a value
_CONTAINERS = {"ordered": "OrderedDict", "counter": "Counter", "size": "torch.Size"}
_ROOT = "the state"


def state_digest(state: Any) -> str:
    """Return the SHA-256 (64 hex digits) of everything that is kept of a state or Snapshot: values,
    types, layouts, sharing, the order of keys.

    Raises UnsavableState.
    """
    taken = state if isinstance(state, Snapshot) else take_apart(state)
    hashes = [_hash_block(taken, index) for index in range(len(taken.blocks))]
    return _hash_text([taken.tree, [_describe(taken, form) for form in taken.forms], hashes])


def leaf_digests(taken: Snapshot) -> dict[str, str]:
    """Describe the value at each path, such as ``model.fc.weight``, in words and with a hash.

    Example: ``float32 tensor (3, 4) #1b2f...``. States are equal exactly if all these texts are.
    """
    hashes = [_hash_block(taken, index) for index in range(len(taken.blocks))]
    users: dict[int, str] = {}  # path of the first value in each block
    found: dict[str, str] = {}
    for path, leaf in _leaves(taken.tree, ""):
        found[path] = _tell(leaf)
        if isinstance(leaf, dict) and "block" in leaf:
            form = taken.forms[leaf["block"]]
            found[path] = _tell_form(taken, form, hashes[form.block])
            first = users.setdefault(form.block, path)
            if first != path:
                found[path] += f" in the memory of {first}"
    return found


def find_differences(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Return the paths at which two states differ or that only one of them has, in the first's
    order.

    A container is named only if its kind or the order of its keys differs.
    """
    paths = [*one, *(path for path in other if path not in one)]
    found = [path for path in paths if one.get(path) != other.get(path)]
    return [path for path in found if not _is_explained(path, found, one, other)]


def tell_differences(saved: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Describe the first few: ``rate is a float 0.1, and was a numpy.float64; x has other
    values``.
    """
    paths = find_differences(saved, now)
    texts = []
    for path in paths[:_SHOWN]:
        before, after = (_words(side.get(path)) for side in (saved, now))
        same = before == after
        texts.append(f"{path} has other values" if same else f"{path} is {after}, and was {before}")
    more = f"; and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return "; ".join(texts) + more


def name_differences(paths: list[str]) -> str:
    """Name the paths: ``x, y, z and 2 more differ``."""
    more = f" and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
    return f"{', '.join(paths[:_SHOWN])}{more} {'differs' if len(paths) == 1 else 'differ'}"


def _is_explained(
    path: str, found: list[str], one: Mapping[str, str], other: Mapping[str, str]
) -> bool:
    """Return whether a container differs only because its content does."""
    if _words(one.get(path)) != _words(other.get(path)) or path not in one:
        return False
    below = ("",) if path == _ROOT else (f"{path}.", f"{path}[")
    return any(item != path and item.startswith(below) for item in found)


def _words(text: str | None) -> str:
    return "missing" if text is None else text.partition(" #")[0]


def _describe(taken: Snapshot, form: Form) -> list[Any]:
    """Describe a form. Alignment counts for tensors only: that of NumPy's own arrays varies."""
    lead = 0 if form.kind == "tensor" else taken.blocks[form.block].lead
    lies = None if form.strides is None else list(form.strides)
    where = [form.block, form.offset - lead]
    return [form.kind, form.dtype, list(form.shape), lies, *where, list(form.flags)]


def _tell_form(taken: Snapshot, form: Form, data: str) -> str:
    _, *rest = _describe(taken, form)
    del rest[3]  # the number of the block
    layout = "" if form.strides is None else f" with strides {list(form.strides)} in bytes"
    flags = "".join(f", {flag}" for flag in form.flags)
    named = with_article(" ".join(filter(None, (form.dtype, form.kind))))
    return f"{named} {tuple(form.shape)}{layout}{flags} #{_hash_text([rest, data])[:16]}"


def _tell(leaf: Any) -> str:
    """Describe a value without memory of its own; for a container, only its kind and keys."""
    if isinstance(leaf, list):
        return f"a list #{len(leaf)}"
    if not isinstance(leaf, dict):
        return f"{_name_plain(leaf)} #"
    ((kind, content),) = leaf.items()
    match kind:
        case "tuple":
            return f"a tuple #{len(content)}"
        case "deque":
            return f"a deque with maxlen {content[1]} #{len(content[0])}"
        case "dict" | "counter":
            keys = _hash_text([key for key, _ in content])[:16]
            named = with_article(_CONTAINERS.get(kind) or str(kind))
            return f"{named} with keys in this order #{keys}"
        case "ordered":
            keys = _hash_text([[key for key, _ in part] for part in content])[:16]
            return f"an OrderedDict with keys in this order #{keys}"
        case "same":
            return f"an object that is there already (number {content}) #"
        case "scalar":
            return f"a NumPy scalar of type {content[0]} #{content[1]}"
        case _:
            return f"{with_article(_CONTAINERS.get(kind) or str(kind))} #{_hash_text(content)}"


def _name_plain(value: Any) -> str:
    text = repr(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}... (#{_hash_text(value)[:16]})".replace(" #", " ")
    return text if value is None else f"the {type(value).__name__} {text}"


def _hash_block(taken: Snapshot, index: int) -> str:
    block = taken.blocks[index]
    return hashlib.sha256(block.data).hexdigest()


def _hash_text(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, separators=(",", ":")).encode()).hexdigest()


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All values with their paths, containers before what is in them."""
    yield path or _ROOT, tree
    items: list[tuple[str, Any]] = []
    if isinstance(tree, list):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(tree)]
    elif isinstance(tree, dict):
        ((kind, content),) = tree.items()
        match kind:
            case "tuple":
                items = [(f"{path}[{index}]", item) for index, item in enumerate(content)]
            case "deque":
                items = [(f"{path}[{index}]", item) for index, item in enumerate(content[0])]
            case "dict" | "counter":
                items = [(_below(path, key), item) for key, item in content]
            case "ordered":
                items = [(_below(path, key), item) for key, item in content[0]]
                items += [(f"{path}.{key}", item) for key, item in content[1]]
    for below, item in items:
        yield from _leaves(item, below)


def _below(path: str, key: Any) -> str:
    if isinstance(key, str) and key and "[" not in key:
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key)}]"
