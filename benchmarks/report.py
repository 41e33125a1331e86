"""Puts what was measured last into docs/benchmarks.md: tables and plots, the text stays.

    python -m benchmarks.report

Reads the JSON files that ``make bench`` leaves in build/bench. Each table stands between markers,
``<!-- NAME: written by make bench -->`` and ``<!-- end of NAME -->``; a benchmark without a file
keeps the table that it has.
"""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
MEASURED = ROOT / "build" / "bench"
DOCUMENT = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "benchmarks"

MODULES = {
    "side_by_side": "benchmarks.side_by_side.report",
    "savings": "benchmarks.savings",
    "scheduling": "benchmarks.scheduling",
    "asha": "benchmarks.asha",
    "engine_scale": "benchmarks.engine_scale",
    "operator_scale": "benchmarks.operator_scale.report",
    "operator_load": "benchmarks.operator_load",
    "checkpointing": "benchmarks.checkpointing.report",
    "store_throughput": "benchmarks.store_throughput",
}
"""By the name of the file: who has ``table(document)``, and perhaps ``plot(document, path)``."""


def insert(text: str, name: str, body: str, *, by: str = "make bench") -> str:
    """The text with another body between the markers of ``name``; without them ValueError."""
    begin, end = f"<!-- {name}: written by {by} -->", f"<!-- end of {name} -->"
    found = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not found.search(text):
        raise ValueError(f"the document has no place for {name}: write {begin} and {end}")
    return found.sub(lambda _: f"{begin}\n\n{body}\n\n{end}", text, count=1)


def describe(document: dict[str, Any]) -> str:
    """Command and machine in a line, as far as they are known."""
    machine = document.get("machine", {})
    command = f"`{document['command']}`" if "command" in document else ""
    parts = [f"{key} {_short(value)}" for key, value in machine.items()]
    return ". ".join(filter(None, [command, ", ".join(parts)]))


def _short(value: Any) -> str:
    return "/".join(map(str, value)) if isinstance(value, list) else str(value)


def main() -> None:
    text = DOCUMENT.read_text()
    PLOTS.mkdir(exist_ok=True)
    for name, where in MODULES.items():
        file = MEASURED / f"{name}.json"
        if not file.exists():
            print(f"{name}: not measured, its table stays as it is")
            continue
        document = json.loads(file.read_text())
        module = importlib.import_module(where)
        parts = [describe(document), module.table(document)]
        if hasattr(module, "plot"):
            module.plot(document, PLOTS / f"{name}.png")
            parts.append(f"![{name.replace('_', ' ')}](benchmarks/{name}.png)")
        text = insert(text, name, "\n\n".join(filter(None, parts)))
        print(f"{name}: written")
    DOCUMENT.write_text(text)


if __name__ == "__main__":
    main()
