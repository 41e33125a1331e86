"""Detects YAML that kubectl reads differently from YAML 1.2.

kubectl's parser (sigs.k8s.io/yaml, on go-yaml 2) follows YAML 1.1, with exceptions of its own.
Hippo reads YAML 1.2. Documents that mean the same in both are accepted; anything else is refused by
line, since one file must describe one study whoever reads it. Tests compare :func:`read_scalar`
with kubectl.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_right
from typing import Any

from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from hippo.model.bounds import MAX_PROBLEMS
from hippo.model.composing import BoundedComposer
from hippo.model.sequences.numbers import describe, shorten

_WORDS: dict[str, bool | float | None] = {
    **dict.fromkeys(["", "~", "null", "Null", "NULL"]),
    **dict.fromkeys(["true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"], True),
    **dict.fromkeys(["false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"], False),
    **{"y": True, "Y": True, "n": False, "N": False},
    **dict.fromkeys([".nan", ".NaN", ".NAN"], math.nan),
    **dict.fromkeys([".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"], math.inf),
    **dict.fromkeys(["-.inf", "-.Inf", "-.INF"], -math.inf),
}
_INTEGER = re.compile(
    r"([-+]?)(?:0[xX]([0-9a-fA-F]+)|0[bB]([01]+)|0[oO]?([0-7]+)|(0|[1-9][0-9]*))", re.ASCII
)
_BASES = (16, 2, 8, 10)
_LONGEST = 4000
"""Python refuses to parse integers with many more digits."""
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)

_UNREADABLE = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Errors that the parser raises for ``!!bool 1``, an empty ``!!int``, and the like."""

_TAGS = frozenset(
    f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "null", "map", "seq")
)
_TEXT = "tag:yaml.org,2002:str"
_MERGE = "tag:yaml.org,2002:merge"
_BREAKS = {"\x85": "\\N", "\u2028": "\\L", "\u2029": "\\P"}
"""Line breaks of YAML 1.1, and their escapes within double quotes."""


def read_scalar(text: str) -> bool | int | float | str | None:
    """Returns a plain scalar as kubectl reads it. Dates are strings there."""
    if text in _WORDS:
        return _WORDS[text]
    if text[0] == ".":
        return _read_float(text)
    if text[0] not in "+-0123456789":
        return text
    bare = text.replace("_", "")
    found = _INTEGER.fullmatch(bare)
    if found is not None and len(bare) < _LONGEST:
        sign, *digits = found.groups()
        number = next(int(part, base) for part, base in zip(digits, _BASES, strict=True) if part)
        number = -number if sign == "-" else number
        if -(2**63) <= number < (2**63 if sign else 2**64):
            return number
    read = _read_float(bare)
    return text if isinstance(read, str) else read


def _read_float(text: str) -> float | str:
    if _FLOAT.fullmatch(text) is None:
        return text
    number = float(text)
    return text if math.isinf(number) else number


class StrictComposer(BoundedComposer):
    """Notes structure that kubectl reads differently in ``differences``: (line from 1, message)."""

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.differences: list[tuple[int, str]] = []
        self.quoted: list[tuple[int, int]] = []
        """Start and end of quoted scalars, in characters of the whole text."""
        self._names: dict[int, frozenset[str]] = {}  # keys by mapping, including merged ones
        self._mappings: list[MappingNode] = []  # kept alive, so that no id is reused
        self._documents = 0

    def compose_document(self) -> Any:
        event = self.parser.peek_event()
        if self._documents and not event.explicit:
            self._note(event, "kubectl drops a document that does not begin with ---")
        self._documents += 1
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        tag = getattr(event, "ctag", None)
        if tag is not None and str(tag) not in _TAGS:
            self._note(event, f"kubectl reads the tag {event.tag} otherwise: leave it out")
        if getattr(event, "style", None) in ("'", '"'):
            self.quoted.append((event.start_mark.index, event.end_mark.index))
        node = super().compose_node(parent, index)
        if tag is not None and str(tag) == _TEXT and isinstance(node, ScalarNode):
            node.style = '"'  # treated as quoted
        if isinstance(node, MappingNode) and id(node) not in self._names:
            self._mappings.append(node)
            self._check_merge(node)
        return node

    def _check_merge(self, node: MappingNode) -> None:
        """In kubectl each merge overrides the keys before it; in YAML it overrides none."""
        names: set[str] = set()
        for key, value in node.value:
            if key.tag == _MERGE:
                for merged in value.value if isinstance(value, SequenceNode) else [value]:
                    others = self._names.get(id(merged), frozenset())
                    for name in sorted(names & others):
                        self._note(key, f"kubectl lets << override {name} before it: put << first")
                    names |= others
            elif isinstance(key, ScalarNode):
                names.add(key.value)
        self._names[id(node)] = frozenset(names)

    def _note(self, place: Any, message: str) -> None:
        self.differences.append((place.start_mark.line + 1, message))


class StrictConstructor(SafeConstructor):
    """Notes scalars that kubectl reads differently in ``differences``: (line from 1, message)."""

    def __init__(self, preserve_quotes: bool | None = None, loader: Any = None) -> None:
        super().__init__(preserve_quotes, loader)
        self.differences: list[tuple[int, str]] = []

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        is_new = node not in self.constructed_objects
        try:
            value = super().construct_object(node, deep=deep)
        except _UNREADABLE as error:
            if not isinstance(node, ScalarNode):
                raise
            kind = str(node.tag).rpartition(":")[2]
            message = f"{shorten(node.value)} is no !!{kind}"
            raise ConstructorError(None, None, message, node.start_mark) from error
        if is_new and isinstance(node, ScalarNode):
            self._compare(node, value)
        return value

    def _compare(self, node: ScalarNode, value: Any) -> None:
        line = node.start_mark.line + 1
        if isinstance(value, str):
            if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
                self.differences.append((line, "holds half of a character: write it as it is"))
            if node.style is not None and node.tag == _TEXT:
                return
        elif value is not None and not isinstance(value, bool | int | float):
            return  # a date, which no field accepts
        read = read_scalar(node.value)
        if not _is_same(read, value):
            written = shorten(node.value) or "nothing"
            self.differences.append(
                (
                    line,
                    f"{written} is {_show(read)} to kubectl and {_show(value)} to hippo run:"
                    " write the one that you mean",
                )
            )


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, bool | str | None) or isinstance(other, bool | str | None):
        return type(one) is type(other) and bool(one == other)
    try:
        mine, theirs = float(one), float(other)
    except OverflowError:
        return False
    return mine == theirs or (math.isnan(mine) and math.isnan(theirs))


def _show(value: Any) -> str:
    """Returns the value in a notation that is the same for both readers."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return describe(value)
    return json.dumps(shorten(value) if isinstance(value, str) else value, ensure_ascii=False)


def find_breaks(text: str, quoted: list[tuple[int, int]]) -> list[tuple[int, str]]:
    """Finds line breaks of YAML 1.1 that are none in YAML 1.2, outside quotes.

    Returns (line from 1, message), the first MAX_PROBLEMS only. ``quoted`` must be sorted.
    """
    found: list[tuple[int, str]] = []
    for match in re.finditer("[\x85\u2028\u2029]", text):
        at = bisect_right(quoted, match.start(), key=lambda part: part[0])
        if at and match.start() < quoted[at - 1][1]:
            continue
        line = text.count("\n", 0, match.start()) + 1
        char = match.group()
        found.append(
            (
                line,
                f"U+{ord(char):04X} is a line break to kubectl: write {_BREAKS[char]} in double"
                " quotes, or leave it out",
            )
        )
        if len(found) == MAX_PROBLEMS:
            break
    return found
