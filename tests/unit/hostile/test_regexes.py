"""No regular expression takes time out of proportion to the text: shown by how each is built.

A repeat within a repeat is exponential if a text can be cut into rounds in many ways. It cannot if
each round begins, or ends, with a character that the repeats inside never take.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from re import _constants, _parser  # type: ignore[attr-defined]
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
_MANY = 64
"""Repeats up to there are no danger alone."""
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)
_FUNCTIONS = {"compile", "match", "fullmatch", "search", "sub", "split", "findall", "finditer"}
_SAMPLE = [chr(code) for code in range(256)] + ["é", "\u0660", "\u4e00"]


def _written() -> Iterator[tuple[str, str]]:
    """All patterns that stand in the sources, with their places; parts in braces become a word."""
    for folder in ("operator/hippo", "stage_runner"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and isinstance(node.func.value, ast.Name)
                    and node.func.value.id == "re"
                    and node.func.attr in _FUNCTIONS
                ):
                    text = _text(node.args[0])
                    if text is not None:
                        yield f"{file.relative_to(ROOT)}:{node.lineno}", text


def _text(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else r"[\w.]+" for part in node.values
        )
    return None


PATTERNS = list(_written())


def _is_long(node: Any) -> bool:
    return node[0] in _REPEATS and node[1][1] > _MANY


def _children(node: Any) -> list[Any]:
    kind, argument = node
    if kind in _REPEATS or kind is _constants.POSSESSIVE_REPEAT:
        return list(argument[2])
    if kind is _constants.SUBPATTERN:
        return list(argument[3])
    if kind is _constants.BRANCH:
        return [item for branch in argument[1] for item in branch]
    if kind in (_constants.ASSERT, _constants.ASSERT_NOT):
        return list(argument[1])
    return []


def _inner_repeats(nodes: list[Any]) -> Iterator[Any]:
    for node in nodes:
        if _is_long(node):
            yield node
        yield from _inner_repeats(_children(node))


def _characters(node: Any) -> set[str] | None:
    """Of the sample: what one character's node takes; None if it is none."""
    kind, argument = node
    if kind is _constants.LITERAL:
        return {chr(argument)}
    if kind is _constants.NOT_LITERAL:
        return {char for char in _SAMPLE if ord(char) != argument}
    if kind is _constants.ANY:
        return set(_SAMPLE)
    if kind is _constants.IN:
        compiled = re.compile(_class(argument))
        return {char for char in _SAMPLE if compiled.fullmatch(char)}
    return None


_CATEGORIES = {
    _constants.CATEGORY_DIGIT: r"\d",
    _constants.CATEGORY_NOT_DIGIT: r"\D",
    _constants.CATEGORY_SPACE: r"\s",
    _constants.CATEGORY_NOT_SPACE: r"\S",
    _constants.CATEGORY_WORD: r"\w",
    _constants.CATEGORY_NOT_WORD: r"\W",
}


def _class(items: list[Any]) -> str:
    parts = []
    for kind, argument in items:
        if kind is _constants.NEGATE:
            parts.append("^")
        elif kind is _constants.LITERAL:
            parts.append(re.escape(chr(argument)))
        elif kind is _constants.RANGE:
            parts.append("-".join(re.escape(chr(end)) for end in argument))
        else:
            parts.append(_CATEGORIES[argument])
    return f"[{''.join(parts)}]"


def _taken(node: Any) -> set[str]:
    """What a node takes anywhere, of the sample."""
    own = _characters(node)
    return own if own is not None else set().union(*map(_taken, _children(node)))


def _flat(nodes: list[Any]) -> list[Any]:
    return [
        inner
        for node in nodes
        for inner in (_flat(_children(node)) if node[0] is _constants.SUBPATTERN else [node])
    ]


def _is_ambiguous(pattern: str) -> bool:
    """Whether repeats within a repeat take the characters that tell its rounds apart."""

    def ambiguous(nodes: list[Any]) -> bool:
        for node in nodes:
            body = _children(node)
            if _is_long(node):
                inner = list(_inner_repeats(body))
                taken = set().union(*map(_taken, inner)) if inner else set()
                flat = _flat(body)
                ends = [_characters(flat[0]), _characters(flat[-1])]
                if inner and not any(end is not None and not end & taken for end in ends):
                    return True
            if ambiguous(body):
                return True
        return False

    return ambiguous(list(_parser.parse(pattern)))


@pytest.mark.parametrize(("place", "pattern"), PATTERNS, ids=[place for place, _ in PATTERNS])
def test_no_pattern_is_ambiguous(place: str, pattern: str) -> None:
    assert not _is_ambiguous(pattern), place


@pytest.mark.parametrize(
    "pattern", [r"(a+)+$", r"(a*)*b", r"(\w+\s?)*$", r"(?:x|a+)+c", r"(a+b?)*c", r"((a)+)+"]
)
def test_ambiguous_patterns_are_found(pattern: str) -> None:
    assert _is_ambiguous(pattern)


def test_all_patterns_are_looked_at() -> None:
    assert len(PATTERNS) > 40
