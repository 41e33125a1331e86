"""Values that nobody would write in good faith, and documents spoilt with them."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from hypothesis import strategies as st

NASTY: list[Any] = [
    *(None, True, False, 0, -1, 2**53 + 1, 2**70, -(2**70), 10**400, 0.0, -0.0, 1e308, 5e-324),
    *("", " ", "\0", "a\0b", "..", "../..", "/etc/passwd", "a/b", "a" * 10_000, "\u202e", "\ud7ff"),
    *("NaN", "Infinity", "1e400", "{{ .Values }}", "$(id)", "%s%n", "\n", "é", "\U0001f600"),
    *([], [[]], {}, {"": 0}, {"__class__": "x"}, {"$ref": "#"}, [None] * 100, {"a": {"b": [1]}}),
]
"""All of them JSON."""


def deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=30),
    st.sampled_from(NASTY),
)
anything = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=12), inner, max_size=4)
    ),
    max_leaves=12,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all values within a document, itself included."""
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value in one place."""
    if not path:
        return copy.deepcopy(value)
    changed = copy.deepcopy(document)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = copy.deepcopy(value)
    return changed


@st.composite
def spoilt(draw: st.DrawFn, document: Any, most: int = 3) -> Any:
    """The document with other values in some places, or other fields."""
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(places(document)))
        value = draw(anything)
        if draw(st.booleans()) and path:
            path = (
                *path[:-1],
                draw(st.text(max_size=8)) if isinstance(path[-1], str) else path[-1],
            )
        document = put(document, path, value)
    return document


def spoil_bytes(data: bytes, dice: random.Random) -> bytes:
    """Bytes as a damaged disk, or somebody with the right to write, may leave them."""
    what = dice.random()
    if what < 0.15:
        return data[: dice.randrange(len(data) + 1)]
    if what < 0.3:
        position = dice.randrange(max(1, len(data)))
        return data[:position] + bytes([dice.randrange(256)]) + data[position + 1 :]
    if what < 0.4:
        return bytes(dice.randrange(256) for _ in range(dice.randrange(200)))
    if what < 0.45:
        return b"[" * 100_000 + b"]" * 100_000
    try:
        document = json.loads(data.partition(b"\n")[0])
    except (ValueError, RecursionError):
        return data[::-1]
    path = dice.choice(places(document))
    value = dice.choice([*NASTY, deep(50)])
    return json.dumps(put(document, path, value)).encode()
