"""Puts what the last campaign measured into docs/reliability.md: its tables, the text stays.

python -m tests.chaos.report [build/chaos.json]
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.report import describe, insert
from tests.chaos.campaign import CALM, FAULTS, compare

Document = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
MEASURED = ROOT / "build" / "chaos.json"
PAGE = ROOT / "docs" / "reliability.md"
MAKER = "make chaos"

_HEAD = (
    "| what was done | runs | how often | steps trained again, of | at most | longest pause |"
    " ended later | lost or wrong |"
)


def table(rows: list[Document], place: str) -> str:
    """Of all runs at a place, by fault: sums, but for times, of which the worst."""
    calm = [row["makespan"] for row in rows if row["fault"] == CALM[place]]
    usual = statistics.median(calm)
    lines = [_HEAD, "| --- |" + " ---: |" * (_HEAD.count("|") - 2)]
    for name, fault in FAULTS.items():
        runs = [row for row in rows if row["fault"] == name]
        if fault.place == place and runs:
            lines.append(f"| {fault.what} | {' | '.join(_figures(name, runs, usual))} |")
    return "\n".join(lines)


def _figures(name: str, runs: list[Document], usual: float) -> list[str]:
    later = max(row["makespan"] for row in runs) - usual
    wrong = sum(1 for row in runs if row["problems"])
    again, trained = sum(row["again"] for row in runs), sum(row["trained"] for row in runs)
    return [
        str(len(runs)),
        str(sum(row["injected"] for row in runs)),
        f"{again} of {trained}",
        str(sum(row["unsaved"] for row in runs)),
        f"{max(row['longest_pause'] for row in runs):.1f} s",
        f"({usual:.0f} s)" if name in CALM.values() else f"{max(0.0, later):.0f} s",
        str(wrong) if wrong else "0",
    ]


def main() -> None:
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else MEASURED
    document = json.loads(file.read_text())
    text = PAGE.read_text()
    rows = compare(document["rows"])
    for place in sorted({row["place"] for row in rows}):
        commits = sorted({row.get("commit", "unknown") for row in rows if row["place"] == place})
        told = f"{describe(document)}. Commits: {', '.join(commits)}"
        body = "\n\n".join([told, table(rows, place)])
        text = insert(text, f"chaos {place}", body, by=MAKER)
    PAGE.write_text(text)
    print(f"{PAGE.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
