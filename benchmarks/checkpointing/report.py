"""What was measured, for people."""

from __future__ import annotations

import statistics
from typing import Any

Document = dict[str, Any]


def table(document: Document) -> str:
    """In Markdown: chains with and without saves, then studies."""
    lines = [
        "| chain, store | state | a step | saves | stood still, a save | of training time |"
        " end to end | write, a save | afterwards |",
        "| --- |" + " ---: |" * 8,
    ]
    for chain in document["chains"]:
        bare = chain["runs"]["none"]
        for store, runs in chain["runs"].items():
            if store != "none":
                lines.append(_chain(f"{chain['name']}, {store}", chain, bare, runs))
    lines += [
        "",
        "| study, store | state | trained | saves | stood still, a save | of training time |"
        " write, a save | loads | a load |",
        "| --- |" + " ---: |" * 8,
    ]
    lines += map(_study, document["studies"])
    return "\n".join(lines)


def _chain(name: str, chain: Document, bare: list[Document], runs: list[Document]) -> str:
    middle = statistics.median
    step = middle(run["trainSeconds"] / run["steps"] for run in bare)
    still = [sum(run["copySeconds"]) / run["trainSeconds"] for run in runs]
    longer = [
        run["loopSeconds"] / other["loopSeconds"] - 1 for run, other in zip(runs, bare, strict=True)
    ]
    after = [
        run["afterSeconds"] - other["afterSeconds"] for run, other in zip(runs, bare, strict=True)
    ]
    cells = [
        name,
        _size(runs[0]["size"]),
        _seconds(step),
        f"{len(runs[0]['copySeconds'])}, every {_seconds(step * chain['saveEvery'])}",
        _seconds(middle(_all(runs, "copySeconds"))),
        f"{middle(still):.2%}",
        f"{middle(longer):+.1%} ({min(longer):+.1%} to {max(longer):+.1%})",
        _seconds(middle(_all(runs, "writeSeconds"))),
        _seconds(middle(after)),
    ]
    return f"| {' | '.join(cells)} |"


def _study(study: Document) -> str:
    middle = statistics.median
    loads = study["loadSeconds"]
    cells = [
        f"{study['name']}, {study['store']}",
        _size(study["size"]),
        f"{study['stepsTrained']} steps, {_seconds(study['trainSeconds'])}",
        f"{len(study['copySeconds'])}",
        _seconds(middle(study["copySeconds"])),
        f"{sum(study['copySeconds']) / study['trainSeconds']:.2%}",
        _seconds(middle(study["writeSeconds"])),
        f"{len(loads)}",
        _seconds(middle(loads)) if loads else "",
    ]
    return f"| {' | '.join(cells)} |"


def _all(runs: list[Document], name: str) -> list[float]:
    return [value for run in runs for value in run[name]]


def _size(count: int) -> str:
    return f"{count / 1e6:.0f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if abs(value) >= 1 else f"{1e3 * value:.1f} ms"
