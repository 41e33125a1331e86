"""Checks the size of a document that something else has parsed, such as an API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hippo.model.bounds import MAX_DOCUMENT_BYTES, MAX_NESTING, MAX_NODES
from hippo.model.errors import InvalidSpec


def check_size(document: Any) -> None:
    """Checks a document's size.

    Raises InvalidSpec if it has more values and keys than MAX_NODES, more text than
    MAX_DOCUMENT_BYTES, or more levels than MAX_NESTING. Shared parts count each time they occur.
    Visits no more than these bounds allow.
    """
    nodes = characters = 0
    level: list[Any] = [document]
    for _ in range(MAX_NESTING + 1):
        below: list[Any] = []
        for value in level:
            if isinstance(value, str):
                characters += len(value)
            elif isinstance(value, Mapping):
                nodes += len(value)
                characters += sum(len(key) for key in value if isinstance(key, str))
                below.extend(value.values())
            elif isinstance(value, list | tuple):
                below.extend(value)
            if nodes + len(level) + len(below) > MAX_NODES:
                raise _too_much(f"{MAX_NODES:,} values and keys")
            if characters > MAX_DOCUMENT_BYTES:
                raise _too_much(f"{MAX_DOCUMENT_BYTES:,} characters")
        nodes += len(level)
        level = below
        if not level:
            return
    raise InvalidSpec.at("", f"the document is nested more than {MAX_NESTING} levels deep")


def _too_much(what: str) -> InvalidSpec:
    return InvalidSpec.at("", f"the document holds more than {what}: make it smaller")
