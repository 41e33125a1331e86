"""Kinds of values in a pod's document, and how one is checked against its kind.

A kind says what may stand at a place; ``template_fields`` holds the places. Nothing passes that
no kind has let pass: a field that is not listed is refused, unless an administrator allows it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hippo.kube.pods.template_allowance import (
    FIELDS,
    NODE_SELECTORS,
    RESERVED_NODE_PREFIXES,
    Allowance,
    how_to_allow,
)
from hippo.model.errors import Problems

MAX_SHOWN = 63
"""Characters of a study's own names that a message repeats."""


@dataclass(frozen=True, slots=True)
class Value:
    """One value: ``is_right`` tells, ``wrong`` says what it must be. ``listed``: the kind of name
    under which an administrator lists what it may be.
    """

    is_right: Callable[[Any], bool]
    wrong: str
    listed: str | None = None


@dataclass(frozen=True, slots=True)
class Never:
    """A field that no administrator can allow; ``harmless`` are values that ask for nothing."""

    why: str
    harmless: tuple[Any, ...] = (None,)


@dataclass(frozen=True, slots=True)
class ListOf:
    """``keys``: its items are merged by these, so that null cannot remove it as a whole; those
    named in ``optional`` an item may lack.
    """

    item: Kind
    keys: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MapOf:
    """Names of the user's choice. ``of_nodes``: they are labels of nodes."""

    value: Kind
    of_nodes: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping with these fields. ``closed`` says why no others can ever be allowed; ``rule`` what
    else is wrong with one, as pairs of a field and a message.
    """

    known: Mapping[str, Kind]
    closed: str | None = None
    removable: bool = True
    rule: Callable[[Mapping[str, Any], Allowance], Iterator[tuple[str, str]]] | None = None


Kind = Value | Never | ListOf | MapOf | Fields


@dataclass(slots=True)
class Checker:
    """Collects what is wrong."""

    allowance: Allowance
    problems: Problems

    def check(self, kind: Kind, value: Any, path: str, place: str) -> None:
        """``path`` leads there in the study; ``place`` is the same within any pod: no indices."""
        match kind:
            case Value():
                self._check_value(kind, value, path)
            case Never():
                if not any(type(value) is type(one) and value == one for one in kind.harmless):
                    self.problems.add(path, kind.why)
            case ListOf():
                self._check_list(kind, value, path, place)
            case MapOf():
                self._check_map(kind, value, path, place)
            case Fields():
                self._check_fields(kind, value, path, place)

    def _check_value(self, kind: Value, value: Any, path: str) -> None:
        if value is None:  # removes the field
            return
        if not kind.is_right(value):
            hint = ""
            if kind.wrong == MUST_BE_TEXT and isinstance(value, (bool, int, float)):
                hint = f': write "{str(value)[:MAX_SHOWN]}" with quotes'
            self.problems.add(path, kind.wrong + hint)
        elif kind.listed is not None and value and not self.allowance.has(kind.listed, value):
            shown = value[:MAX_SHOWN]
            self.problems.add(path, f"must not be {shown} here: {how_to_allow(kind.listed, shown)}")

    def _check_list(self, kind: ListOf, value: Any, path: str, place: str) -> None:
        if value is None and not kind.keys:
            return
        if not isinstance(value, list):
            kept = "; it cannot be removed as a whole" if kind.keys else ""
            self.problems.add(path, f"must be a list{kept}")
            return
        for index, item in enumerate(value):
            position = f"{path}[{index}]"
            if item is None:
                self.problems.add(position, "must not be null")
            else:
                for key in kind.keys:
                    is_missing = isinstance(item, Mapping) and item.get(key) is None
                    if is_missing and key not in kind.optional:
                        wrong = "is missing: items are told apart by it"
                        self.problems.add(f"{position}.{key}", wrong)
                self.check(kind.item, item, position, place)

    def _check_map(self, kind: MapOf, value: Any, path: str, place: str) -> None:
        if value is None:
            return
        if not isinstance(value, Mapping):
            self.problems.add(path, "must be a mapping")
            return
        for name, item in value.items():
            shown = f"{path}[{str(name)[:MAX_SHOWN]}]"
            if str(name).startswith("$"):
                self.problems.add(shown, NO_DIRECTIVES)
            elif item is not None:
                if kind.of_nodes and (wrong := refuse_node_key(name, self.allowance)):
                    self.problems.add(shown, wrong)
                self.check(kind.value, item, shown, place)

    def _check_fields(self, kind: Fields, value: Any, path: str, place: str) -> None:
        if value is None and kind.removable:
            return
        if not isinstance(value, Mapping):
            kept = "" if kind.removable else "; it cannot be removed"
            self.problems.add(path, f"must be a mapping{kept}")
            return
        for name, item in value.items():
            shown = str(name)[:MAX_SHOWN]
            where, inner = f"{path}.{shown}", f"{place}.{name}"
            if str(name).startswith("$"):
                self.problems.add(where, NO_DIRECTIVES)
            elif (known := kind.known.get(name)) is not None:
                self.check(known, item, where, inner)
            elif kind.closed is not None:
                self.problems.add(where, kind.closed)
            elif self.allowance.has(FIELDS, inner):
                self._check_directives(item, where)
            else:
                self.problems.add(
                    where,
                    "is not among the fields that a study may set: remove it;"
                    f" {how_to_allow(FIELDS, f'{place}.{shown}')}",
                )
        if kind.rule is not None:
            for name, message in kind.rule(value, self.allowance):
                self.problems.add(f"{path}.{name}", message)

    def _check_directives(self, value: Any, path: str) -> None:
        """``$patch`` and its kin would pass for fields."""
        if isinstance(value, Mapping):
            for name, item in value.items():
                if str(name).startswith("$"):
                    self.problems.add(f"{path}.{str(name)[:MAX_SHOWN]}", NO_DIRECTIVES)
                self._check_directives(item, f"{path}.{str(name)[:MAX_SHOWN]}")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                self._check_directives(item, f"{path}[{index}]")


NO_DIRECTIVES = "is not known here: set a field to null to remove it"
MUST_BE_TEXT = "must be text"


def refuse_node_key(key: Any, allowance: Allowance) -> str | None:
    """Why a study must not choose nodes by this label; None: it may."""
    if not isinstance(key, str) or not key.startswith(RESERVED_NODE_PREFIXES):
        return None
    if allowance.has(NODE_SELECTORS, key):
        return None
    return (
        "sets nodes apart that studies do not choose:"
        f" {how_to_allow(NODE_SELECTORS, key[:MAX_SHOWN])}"
    )


# -- values ----------------------------------------------------------------------------------------


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_quantity(value: Any) -> bool:
    return isinstance(value, (str, int, float)) and not isinstance(value, bool)


def _climbs(path: str) -> bool:
    return ".." in path.split("/")


TEXT = Value(lambda value: isinstance(value, str), MUST_BE_TEXT)
FLAG = Value(lambda value: isinstance(value, bool), "must be true or false")
WHOLE = Value(_is_whole, "must be a whole number")
COUNT = Value(lambda value: _is_whole(value) and value >= 0, "must be a whole number from 0 on")
PORT = Value(lambda value: _is_whole(value) or isinstance(value, str), "must be a port")
QUANTITY = Value(_is_quantity, "must be a quantity, such as 500m or 4Gi")
ABSOLUTE = Value(
    lambda value: isinstance(value, str) and value.startswith("/") and not _climbs(value),
    "must be a path that begins with / and has no ..",
)
RELATIVE = Value(
    lambda value: isinstance(value, str) and not value.startswith("/") and not _climbs(value),
    "must be a path that does not begin with / and has no ..",
)
TEXTS = ListOf(TEXT)
TEXT_MAP = MapOf(TEXT)
QUANTITIES = MapOf(QUANTITY)


def one_of(*allowed: str) -> Value:
    return Value(lambda value: value in allowed, f"must be {' or '.join(allowed)}")


def only(value: Any, why: str, *others: Any) -> Never:
    """This value alone may be written, or one of the others; null only if it is among them."""
    return Never(why, (value, *others))


def listed(kind: str) -> Value:
    """Text that an administrator has listed."""
    return Value(TEXT.is_right, TEXT.wrong, listed=kind)
