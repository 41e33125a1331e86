"""Draws the life-cycles from the table in ``hippo.lifecycles``: a page and a drawing for each.

Where a state stands in its drawing is chosen here by hand; a state without a place raises KeyError.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Mapping
from enum import Enum
from html import escape
from types import MappingProxyType
from typing import NamedTuple

from hippo.lifecycles import TRANSITIONS, StageState, StudyState, TrialState, WorkerState

PAGE = "docs/lifecycles.md"
Point = tuple[float, float]


class Machine(NamedTuple):
    name: str
    states: type[Enum]
    text: str
    places: dict[str, Point]
    """Columns and rows, from the upper left corner; the first state is the initial one."""
    routes: Mapping[tuple[str, str], list[Point]] = MappingProxyType({})
    """Corners of an edge that would cross another one, by the states that it joins."""


MACHINES = [
    Machine(
        "Study",
        StudyState,
        "A study runs until its tuner has finished, its target is reached, its budget is spent, or"
        " too many of its trials have failed. It is reopened when a limit under which it had ended"
        " is raised.",
        {"Running": (0, 0), "Suspended": (0, 1.3), "Succeeded": (1.4, 0), "Failed": (1.4, 1.3)},
    ),
    Machine(
        "Trial",
        TrialState,
        "A trial is pending while a request of its tuner is not fulfilled, and paused while the"
        " tuner may ask for more.",
        {
            "Pending": (0, 1),
            "Paused": (0, 3),
            "Completed": (1.6, 0),
            "Diverged": (1.6, 1),
            "Failed": (1.6, 2),
            "Stopped": (1.6, 3),
        },
    ),
    Machine(
        "Stage",
        StageState,
        "The state of a stage is that of the request at its end. A stage runs while a chain has"
        " promised it.",
        {
            "Pending": (0, 0),
            "Running": (2, 0),
            "Done": (1, 1),
            "Failed": (1, 2),
            "Withdrawn": (1, 3),
        },
    ),
    Machine(
        "Worker",
        WorkerState,
        "A worker has arrived when it stands at the end of its route and waits for another one.",
        {
            "Launched": (0, 1),
            "Training": (1.25, 1),
            "Arrived": (2.5, 1),
            "Leaving": (1.25, 2.3),
            "Ended": (1.25, 0),
        },
        {("Leaving", "Ended"): [(3.1, 2.3), (3.1, 0)]},
    ),
]

_INTRODUCTION = """\
Every state and every transition, made by `python -m docs.generate` from `TRANSITIONS` in
[lifecycles.py](../operator/hippo/lifecycles.py): edit the table, not this page. An event that the
table does not list raises `InvariantViolated` and changes nothing. A state with a double border is
final: nothing leads out of it."""

Edges = dict[tuple[str, str], list[str]]

_COLUMN, _ROW, _LEFT, _TOP = 210, 92, 96, 52
_WIDTH, _HEIGHT = 96, 34
_SHIFT = 9  # of the two edges between two states, to either side
_INK, _GREY, _FILL, _FINAL = "#24292f", "#57606a", "#ddf4ff", "#f6f8fa"


def render_all() -> dict[str, str]:
    """The page and its drawings: texts by path in the repository."""
    found = {PAGE: _render_page()}
    for machine in MACHINES:
        found[_name_drawing(machine)] = _draw(machine)
    return found


def list_edges(machine: Machine) -> Edges:
    """The names of events, by the states that they lead from and to, in the table's order."""
    found: Edges = {}
    for (state, event), following in TRANSITIONS.items():
        if isinstance(state, machine.states):
            found.setdefault((str(state), str(following)), []).append(str(event.value))
    return found


def _wrap(text: str) -> str:
    return textwrap.fill(" ".join(text.split()), 110, break_long_words=False)


def _name_drawing(machine: Machine) -> str:
    return f"docs/lifecycles/{machine.name.lower()}.svg"


def _render_page() -> str:
    lines = ["# Life-cycles", "", _wrap(_INTRODUCTION)]
    for machine in MACHINES:
        file = _name_drawing(machine).removeprefix("docs/")
        lines += ["", f"## {machine.name}", "", _wrap(machine.text), ""]
        lines += [f"![The life-cycle of a {machine.name.lower()}]({file})", ""]
        lines += ["| state | event | next state |", "| --- | --- | --- |"]
        for (state, event), following in TRANSITIONS.items():
            if isinstance(state, machine.states):
                lines.append(f"| {state} | {event.value} | {following} |")
    return "\n".join(lines) + "\n"


# -- drawings --------------------------------------------------------------------------------------


def _draw(machine: Machine) -> str:
    edges = list_edges(machine)
    names = [str(state.value) for state in machine.states]
    assert names[0] == next(iter(machine.places)), "the initial state comes first"
    assert machine.routes.keys() <= edges.keys(), "what is routed is in the table"
    points = [*machine.places.values(), *(p for route in machine.routes.values() for p in route)]
    width = _LEFT * 2 + round(_COLUMN * max(x for x, _ in points))
    height = _TOP * 2 + round(_ROW * max(y for _, y in points))
    label = f"States of a {machine.name.lower()}: {', '.join(names)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' height="{height}" role="img" aria-label="{escape(label)}"'
        ' font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif"'
        ' font-size="12">',
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8"'
        f' markerHeight="8" orient="auto"><path d="M0 0L8 4L0 8z" fill="{_GREY}"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
        *_draw_beginning(_locate(machine.places[names[0]])),
    ]
    drawn = [_draw_edge(machine, edge, edges) for edge in edges]
    lines += [path for path, _ in drawn]
    finals = {name for name in names if not any(start == name for start, _ in edges)}
    for name in names:
        lines += _draw_state(name, _locate(machine.places[name]), is_final=name in finals)
    lines += [text for _, text in drawn]
    return "\n".join([*lines, "</svg>"]) + "\n"


def _locate(place: Point) -> Point:
    return (_LEFT + _COLUMN * place[0], _TOP + _ROW * place[1])


def _draw_beginning(initial: Point) -> Iterator[str]:
    x, y = initial[0] - _WIDTH / 2 - 30, initial[1]
    yield f'<circle cx="{_number(x)}" cy="{_number(y)}" r="5" fill="{_INK}"/>'
    yield _path([(x + 5, y), (x + 30, y)])


def _draw_state(name: str, at: Point, *, is_final: bool) -> Iterator[str]:
    for inset in (0, 3) if is_final else (0,):
        yield (
            f'<rect x="{_number(at[0] - _WIDTH / 2 + inset)}"'
            f' y="{_number(at[1] - _HEIGHT / 2 + inset)}" width="{_WIDTH - 2 * inset}"'
            f' height="{_HEIGHT - 2 * inset}" rx="6" fill="{_FINAL if is_final else _FILL}"'
            f' stroke="{_INK}"/>'
        )
    yield _text(name, (at[0], at[1] + 4), _INK, "600")


def _draw_edge(machine: Machine, edge: tuple[str, str], edges: Edges) -> tuple[str, str]:
    """Its line, and its label."""
    start, end = (_locate(machine.places[name]) for name in edge)
    label = ", ".join(edges[edge])
    if start == end:
        left, bottom = start[0] - _WIDTH / 2, start[1] + _HEIGHT / 2
        corners = [(left + 24, bottom), (left + 24, bottom + 18), (left - 20, bottom + 18)]
        corners += [(left - 20, start[1] + 9), (left, start[1] + 9)]
        return _path(corners), _text(label, (left, bottom + 32))
    route = [_locate(point) for point in machine.routes.get(edge, [])]
    if route:
        first, last = _leave(start, start, route[0]), _leave(end, end, route[-1])
        at = ((route[0][0] + route[-1][0]) / 2, (route[0][1] + route[-1][1]) / 2)
        return _path([first, *route, last]), _text(label, (at[0], at[1] + 4))
    length = math.dist(start, end)
    along = ((end[0] - start[0]) / length, (end[1] - start[1]) / length)
    is_paired = (edge[1], edge[0]) in edges
    aside = (-along[1] * _SHIFT, along[0] * _SHIFT) if is_paired else (0.0, 0.0)
    begin, finish = (
        (start[0] + aside[0], start[1] + aside[1]),
        (end[0] + aside[0], end[1] + aside[1]),
    )
    points = [_leave(start, begin, finish), _leave(end, finish, begin)]
    share = 0.36 if is_paired else 0.5
    x, y = (a + (b - a) * share for a, b in zip(*points, strict=True))
    if not is_paired:
        text = _text(label, (x, y + 4))
    elif abs(along[1]) < 0.1:  # level: one label above, one below
        text = _text(label, (x, y + (14 if along[0] > 0 else -6)))
    else:
        is_left = aside[0] < 0
        text = _text(
            label, (x + (-6 if is_left else 6), y + 4), anchor="end" if is_left else "start"
        )
    return _path(points), text


def _leave(centre: Point, inside: Point, towards: Point) -> Point:
    """Where the line from a point within a state crosses the state's border."""
    shares = []
    for axis, half in enumerate((_WIDTH / 2, _HEIGHT / 2)):
        step = towards[axis] - inside[axis]
        if step:
            border = centre[axis] + math.copysign(half, step)
            shares.append((border - inside[axis]) / step)
    share = min(shares)
    x, y = (a + (b - a) * share for a, b in zip(inside, towards, strict=True))
    return (x, y)


def _path(points: list[Point]) -> str:
    text = "L".join(f"{_number(x)} {_number(y)}" for x, y in points)
    return f'<path d="M{text}" fill="none" stroke="{_GREY}" marker-end="url(#arrow)"/>'


def _text(
    text: str, at: Point, colour: str = _GREY, weight: str = "400", *, anchor: str = "middle"
) -> str:
    halo = ' stroke="#ffffff" stroke-width="4" paint-order="stroke"' if weight == "400" else ""
    return (
        f'<text x="{_number(at[0])}" y="{_number(at[1])}" fill="{colour}" font-weight="{weight}"'
        f' text-anchor="{anchor}"{halo}>{escape(text)}</text>'
    )


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
