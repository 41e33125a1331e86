"""Runs all systems in turns, checks that they did the same, and keeps what was measured."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.equality import Agreement, NotTheSameError
from benchmarks.side_by_side.measuring import RunFailed
from benchmarks.side_by_side.report import plot, table
from benchmarks.side_by_side.studies import Work, build_works
from benchmarks.side_by_side.systems import Outcome, System, run
from hippo.model import parse_study

PACKAGES = ("hippo-tuner", "torch", "numpy", "scikit-learn", "ray")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.side_by_side", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="of the studies")
    parser.add_argument("--quick", action="store_true", help="less to train, to try it out")
    parser.add_argument("--output", type=Path, default=Path("build/side-by-side.json"))
    options = parser.parse_args()
    works = [
        work
        for work in build_works(quick=options.quick)
        if options.only is None or work.name in options.only
    ]
    document = describe(works, options.workers, quick=options.quick)
    try:
        compare(document, works, repetitions=options.repetitions, workers=options.workers)
    except (RunFailed, NotTheSameError) as error:
        print(error, file=sys.stderr)
        return 1
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(document, indent=1) + "\n")
    plot(document, options.output.with_suffix(".png"))
    print(table(document))
    return 0


def compare(document: dict[str, Any], works: list[Work], *, repetitions: int, workers: int) -> None:
    """Add all runs to the document. Raises RunFailed, NotTheSameError."""
    agreement = Agreement()
    systems = list(System)
    for repetition in range(repetitions):
        for number, work in enumerate(works):
            turn = (repetition + number) % len(systems)
            for system in systems[turn:] + systems[:turn]:
                load = os.getloadavg()[0]
                folder = Path(tempfile.mkdtemp(prefix="sbs-"))  # Ray's sockets need short paths
                outcome = run(system, work, workers, folder / "run")
                agreement.check(work.name, f"{system} ({repetition + 1})", outcome.metrics)
                shutil.rmtree(folder)  # kept where something failed
                entry = to_entry(outcome, work.name, system, repetition, load)
                document["runs"].append(entry)
                document["metrics"].setdefault(work.name, outcome.metrics)
                print(
                    f"{repetition + 1}/{repetitions} {work.name}: {system}:"
                    f" {entry['coldSeconds']:.1f} s, warm {entry['warmSeconds']:.1f} s",
                    file=sys.stderr,
                )
                if (outcome.worker_processes or 0) > workers:
                    print("Ray did not reuse all of its actors: a slow start", file=sys.stderr)


def to_entry(
    outcome: Outcome, work: str, system: System, repetition: int, load: float
) -> dict[str, Any]:
    """A run as it is kept; ``load`` is that of the machine before it."""
    measured = outcome.measured
    return {
        "work": work,
        "system": str(system),
        "repetition": repetition,
        "loadBefore": load,
        "stepsTrained": outcome.steps_trained,
        "readySeconds": measured.ready,
        "resultSeconds": measured.done,
        "coldSeconds": measured.ended,
        "warmSeconds": measured.done - measured.ready,
        "workerSeconds": outcome.worker_seconds,
        "workerProcesses": outcome.worker_processes,
        "cpuSecondsCold": measured.cpu,
        "cpuSecondsWarm": measured.cpu_done - measured.cpu_ready,
        "cpuSecondsOfDaemons": measured.service_cpu,
        "cpuCountedBy": measured.counted_by,
    }


def describe(works: list[Work], workers: int, *, quick: bool) -> dict[str, Any]:
    """Where and what, before anything has run."""
    return {
        "madeBy": " ".join(["python -m benchmarks.side_by_side", *sys.argv[1:]]),
        "quick": quick,
        "workers": workers,
        "threads": 1,
        "machine": {
            "processor": _processor(),
            "cores": len(os.sched_getaffinity(0)),
            "memoryGiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
        },
        "versions": {
            "python": platform.python_version(),
            **{package: metadata.version(package) for package in PACKAGES},
        },
        "works": [
            {
                "name": work.name,
                "title": work.title,
                "trials": sum(size for size, _ in _sizes(work)),
                "stepsRequested": sum(size * steps for size, steps in _sizes(work)),
                "studies": work.studies,
            }
            for work in works
        ],
        "runs": [],
        "metrics": {},
    }


def _sizes(work: Work) -> list[tuple[int, int]]:
    """(trials, steps of each) of every study."""
    studies = [parse_study(study) for study in work.studies]
    return [(study.search_space().size or 0, study.spec.steps) for study in studies]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


if __name__ == "__main__":
    sys.exit(main())
