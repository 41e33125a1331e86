"""A bounded YAML composer: refuses oversized files, by line and column, before building them.

Nodes and text are counted as if every alias were expanded, in time proportional to the file: an
anchor's content is counted once, and its size is added for each alias.
"""

from __future__ import annotations

from typing import Any

from ruamel.yaml.composer import Composer
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import AliasEvent, Event, MappingStartEvent, ScalarEvent, SequenceStartEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode

from hippo.model.bounds import MAX_DOCUMENT_BYTES, MAX_NESTING, MAX_NODES
from hippo.model.sequences.numbers import shorten


class Refused(MarkedYAMLError):
    """Valid YAML that no study needs. ``problem`` says what, ``problem_mark`` where."""


class BoundedComposer(Composer):
    """Composes at most MAX_NODES nodes and MAX_DOCUMENT_BYTES characters, with aliases expanded.

    Refuses recursive aliases and keys that are not scalars. Raises Refused.
    """

    def __init__(self, loader: Any = None) -> None:
        super().__init__(loader)
        self.warn_double_anchors = False  # an anchor may be redefined
        self.nodes = 0
        """Nodes composed so far, with aliases expanded."""
        self._characters = 0
        self._levels = 0
        self._sizes: dict[str, tuple[int, int] | None] = {}  # by anchor; None while incomplete

    def compose_document(self) -> Any:
        self._sizes.clear()
        return super().compose_document()

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.parser.peek_event()
        is_key = isinstance(parent, MappingNode) and index is None
        if is_key and not isinstance(event, ScalarEvent | AliasEvent):
            raise _refused(event, f"a key must be text, not {_kind(event)}")
        if isinstance(event, AliasEvent):
            size = self._sizes.get(event.anchor, (0, 0))
            if size is None:
                raise _refused(event, f"*{shorten(event.anchor)} stands within what it names")
            self._count(event, *size)
            node = super().compose_node(parent, index)
            if is_key and not isinstance(node, ScalarNode):
                raise _refused(event, f"a key must be text, which *{shorten(event.anchor)} is not")
            return node
        if self._levels == MAX_NESTING:
            raise _refused(event, f"is nested more than {MAX_NESTING} levels deep")
        before = self.nodes, self._characters
        self._count(event, 1, len(event.value) if isinstance(event, ScalarEvent) else 0)
        if event.anchor is not None:
            self._sizes[event.anchor] = None
        self._levels += 1
        node = super().compose_node(parent, index)
        self._levels -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self.nodes - before[0], self._characters - before[1]
        return node

    def _count(self, event: Event, nodes: int, characters: int) -> None:
        self.nodes += nodes
        self._characters += characters
        if self.nodes > MAX_NODES:
            raise _refused(event, _too_much(f"{MAX_NODES:,} values and keys"))
        if self._characters > MAX_DOCUMENT_BYTES:
            raise _refused(event, _too_much(f"{MAX_DOCUMENT_BYTES:,} characters"))


def _too_much(what: str) -> str:
    return f"the file holds more than {what} up to here, its aliases written out: make it smaller"


def _refused(event: Event, problem: str) -> Refused:
    return Refused(problem=problem, problem_mark=event.start_mark)


def _kind(event: Event) -> str:
    if isinstance(event, MappingStartEvent):
        return "a mapping"
    return "a list" if isinstance(event, SequenceStartEvent) else "nothing"
