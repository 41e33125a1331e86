"""The command: see the package."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from tests import chaos
from tests.chaos import campaign

Document = dict[str, Any]
SECONDS = 1500.0
"""Of one fault."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.chaos", description=str(chaos.__doc__).partition("\n")[0]
    )
    parser.add_argument("faults", nargs="*", help=f"some of {', '.join(campaign.FAULTS)}")
    parser.add_argument("--times", type=int, default=1, help="runs of each fault")
    parser.add_argument("--at-once", type=int, default=2, help="but for those of the whole node")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures, as JSON")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="where logs are to stay")
    parser.add_argument("--one", metavar="FAULT", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        options.output.write_text(json.dumps(campaign.run_one(options.one, options.keep)))
        return 0
    names = options.faults or list(campaign.FAULTS)
    if unknown := sorted(set(names) - campaign.FAULTS.keys()):
        parser.error(f"no such fault: {', '.join(unknown)}")
    needed = {campaign.CALM[campaign.FAULTS[name].place] for name in names}
    names = [*sorted(needed - set(names)), *names]
    with tempfile.TemporaryDirectory() as folder:
        rows = run_all(names * options.times, options.keep or Path(folder), options.at_once)
    campaign.compare(rows)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        document = {"command": "make chaos", "machine": describe_machine("kopf"), "rows": rows}
        options.output.write_text(json.dumps(document, indent=1) + "\n")
    wrong = [row for row in rows if row["problems"]]
    print(f"{len(rows)} studies, {sum(r['injected'] for r in rows)} faults, {len(wrong)} wrong")
    return 1 if wrong else 0


def run_all(names: list[str], folder: Path, at_once: int) -> list[Document]:
    """Those of the whole node last, one by one."""
    alone = [name for name in names if campaign.FAULTS[name].is_alone]
    others = [name for name in names if not campaign.FAULTS[name].is_alone]
    numbered = list(enumerate(others))
    with ThreadPoolExecutor(at_once) as pool:
        rows = list(pool.map(lambda item: _run(item[1], folder / f"{item[0]}-{item[1]}"), numbered))
    return rows + [_run(name, folder / f"alone-{i}-{name}") for i, name in enumerate(alone)]


def _run(name: str, folder: Path) -> Document:
    """In a process of its own, which no fault of it outlives."""
    folder.mkdir(parents=True, exist_ok=True)
    output = folder / "outcome.json"
    command = [sys.executable, "-m", "tests.chaos", "--one", name, "--keep", str(folder)]
    with (folder / "log").open("w") as log:
        try:
            subprocess.run(
                [*command, "--output", str(output)], stdout=log, stderr=log, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            print(f"{name}: no end", file=sys.stderr, flush=True)
    if output.exists():
        row: Document = json.loads(output.read_text())
    else:
        said = (folder / "log").read_text()[-2000:]
        place = campaign.FAULTS[name].place
        row = {"place": place, "fault": name, "problems": [said], "injected": 0, "decided": {}}
    told = [problem.splitlines()[0][:200] if problem else "" for problem in row["problems"]]
    figures = ", ".join(
        f"{key} {row.get(key, 0):.4g}"
        for key in ("injected", "trained", "again", "longest_pause", "makespan")
    )
    print(
        f"{name}: {figures}{' WRONG: ' + ' | '.join(told[:3]) if told else ''}",
        file=sys.stderr,
        flush=True,
    )
    return row


if __name__ == "__main__":
    sys.exit(main())
