"""What a state is, as a hash that knows nothing of encodings, and where two states differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from stage_runner.codec import Snapshot, take_apart


def state_digest(state: Any) -> str:
    """SHA-256 (64 hex digits) of a state or Snapshot; the order of a dict's keys does not matter.

    Raises UnsavableState.
    """
    taken = state if isinstance(state, Snapshot) else take_apart(state)
    hashes = [_hash_block(taken, index) for index in range(len(taken.blocks))]
    return _hash_text(_canonical(taken.tree, hashes))


def leaf_digests(taken: Snapshot) -> dict[str, str]:
    """A hash for each value that is no container, by its path, such as ``model.fc.weight``."""
    hashes = [_hash_block(taken, index) for index in range(len(taken.blocks))]
    return {path: _hash_text(_canonical(leaf, hashes)) for path, leaf in _leaves(taken.tree, "")}


def find_differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Paths whose leaf digests differ or that only one state has, in the order of the first."""
    paths = [*one, *(path for path in other if path not in one)]
    return [path for path in paths if one.get(path) != other.get(path)]


def _hash_block(taken: Snapshot, index: int) -> list[Any]:
    block = taken.blocks[index]
    return [block.kind, block.dtype, list(block.shape), hashlib.sha256(block.data).hexdigest()]


def _hash_text(tree: Any) -> str:
    return hashlib.sha256(json.dumps(tree, separators=(",", ":")).encode()).hexdigest()


def _canonical(tree: Any, hashes: list[list[Any]]) -> Any:
    if isinstance(tree, list):
        return [_canonical(item, hashes) for item in tree]
    if not isinstance(tree, dict):
        return tree
    ((kind, content),) = tree.items()
    if kind == "dict":
        entries = [[key, _canonical(item, hashes)] for key, item in content]
        return {"dict": sorted(entries, key=lambda entry: json.dumps(entry[0]))}
    if kind == "tuple":
        return {"tuple": [_canonical(item, hashes) for item in content]}
    if kind == "block":
        return {"block": hashes[content]}
    return tree


def _leaves(tree: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(tree, list):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(tree)]
    elif isinstance(tree, dict) and "tuple" in tree:
        items = [(f"{path}[{index}]", item) for index, item in enumerate(tree["tuple"])]
    elif isinstance(tree, dict) and "dict" in tree:
        items = [(_below(path, key), item) for key, item in tree["dict"]]
    else:
        yield path or "the state", tree
        return
    if not items:
        yield path or "the state", tree
    for below, item in items:
        yield from _leaves(item, below)


def _below(path: str, key: Any) -> str:
    if isinstance(key, str) and key and "[" not in key:
        return f"{path}.{key}" if path else key
    return f"{path}[{json.dumps(key)}]"
