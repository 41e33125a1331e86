"""The results as a table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]

_ROWS: list[tuple[str, Callable[[Document], str]]] = [
    ("pods at once (asked for)", lambda p: f"{p['podsAtOnce']} ({p['pods']})"),
    ("trials; stages", lambda p: f"{p['trials']}; {p['stages']}"),
    ("whole run, s", lambda p: f"{p['seconds']:.0f}"),
    ("load average", lambda p: f"{p['loadAverage']:.1f}"),
    ("rounds", lambda p: f"{p['reconcileSeconds']['count']}"),
    ("a round: mean; median; 90%, s", lambda p: _spread(p["reconcileSeconds"])),
    ("a report's lag: mean; median; 90%, s", lambda p: _spread(p["reportLagSeconds"])),
    (
        "a chain's end to the next pod: median; 90%, s",
        lambda p: f"{p['gapSeconds']['median']:.2f}; {p['gapSeconds']['p90']:.2f}",
    ),
    ("API calls a stage, without watches", lambda p: f"{_calls(p) / p['stages']:.2f}"),
    ("- of these create; update; patch", lambda p: _verbs(p, "create", "update", "patch")),
    ("- of these get; list; delete", lambda p: _verbs(p, "get", "list", "delete")),
    ("operator: CPU s; share of a core", lambda p: _cpu(p)),
    ("operator: CPU ms a stage", lambda p: _cpu_per_stage(p)),
    ("operator: peak memory, MiB", lambda p: f"{p['operatorPeakBytes'] / 2**20:.0f}"),
    ("status of the SearchPlan, most, KiB", lambda p: _kib(p["statusBytes"]["plan"])),
    ("the whole SearchPlan, most, KiB", lambda p: _kib(p["statusBytes"]["planObject"])),
    ("status of a Study, most, KiB", lambda p: _kib(p["statusBytes"]["study"])),
    ("objects at the end", lambda p: f"{sum(p['objects'].values())}"),
    ("all results right", lambda p: "no" if p["wrong"] else "yes"),
]


def table(document: Document) -> str:
    """In Markdown: a column for each point."""
    points = document["points"]
    lines = ["| | " + " | ".join(f"{point['pods']} pods" for point in points) + " |"]
    lines.append("| --- |" + " ---: |" * len(points))
    for name, show in _ROWS:
        lines.append(f"| {name} | " + " | ".join(show(point) for point in points) + " |")
    return "\n".join(lines)


def _calls(point: Document) -> int:
    return sum(count for verb, count in point["callsByVerb"].items() if verb != "watch")


def _verbs(point: Document, *verbs: str) -> str:
    return "; ".join(f"{point['callsByVerb'].get(v, 0) / point['stages']:.2f}" for v in verbs)


def _cpu(point: Document) -> str:
    seconds = point["cpuSeconds"]["operator"]
    return f"{seconds:.0f}; {seconds / point['seconds']:.0%}"


def _cpu_per_stage(point: Document) -> str:
    return f"{1e3 * point['cpuSeconds']['operator'] / point['stages']:.0f}"


def _spread(spread: Document) -> str:
    return f"{spread['mean']:.2f}; {spread['median']:.2f}; {spread['p90']:.2f}"


def _kib(size: int) -> str:
    return f"{size / 1024:.1f}"
