"""The command: see the package."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Any

from benchmarks.machine import describe_machine
from tests import chaos
from tests.chaos import campaign
from tests.chaos.outcome import Outcome
from tests.chaos.record import Record

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
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="keep all figures there, as JSON; runs that it holds, of the same code, are not"
        " repeated unless they went wrong",
    )
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
    record = Record.open(options.output)
    missing = record.missing(names, options.times)
    print(f"{len(names) * options.times - len(missing)} runs are on record, {len(missing)} to go")
    with tempfile.TemporaryDirectory() as folder:
        run_all(missing, record, (options.keep or Path(folder)).resolve(), options.at_once)
    rows = campaign.compare([row for row in record.rows if row["fault"] in names])
    wrong = [row for row in rows if row["problems"]]
    print(f"{len(rows)} studies, {sum(r['injected'] for r in rows)} faults, {len(wrong)} wrong")
    for row in wrong:
        print(f"{row['fault']}, run {row.get('repetition', 1)}: {row['problems'][0][:300]}")
    return 1 if wrong else 0


def run_all(runs: list[tuple[str, int]], record: Record, folder: Path, at_once: int) -> None:
    """Those of the whole node last, one by one."""
    machine = describe_machine("kopf")
    keeping = Lock()

    def run(name: str, number: int) -> None:
        row = _run(name, folder / f"{number}-{name}")
        if row is not None:
            with keeping:
                record.add(row, number, machine)

    def is_alone(run: tuple[str, int]) -> bool:
        return campaign.FAULTS[run[0]].is_alone

    with ThreadPoolExecutor(at_once) as pool:
        try:
            for future in [pool.submit(run, *one) for one in runs if not is_alone(one)]:
                future.result()
            for one in filter(is_alone, runs):
                pool.submit(run, *one).result()
        except BaseException:  # Ctrl-C: those that run clean up and end
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(_at_work):
                child.send_signal(signal.SIGINT)
            raise


_at_work: set[subprocess.Popen[str]] = set()
"""Processes that inject a fault; each leads a process group of its own."""


def _run(name: str, folder: Path) -> Document | None:
    """In a process group of its own, which is killed whole if it does not end in time: operators,
    servers and witness included. None if it was interrupted.
    """
    while folder.exists():  # logs of a run that went wrong stay
        folder = folder.with_name(f"{folder.name}-again")
    folder.mkdir(parents=True)
    output = folder / "outcome.json"
    command = [sys.executable, "-m", "tests.chaos", "--one", name, "--keep", str(folder)]
    said = f"no end in {SECONDS:.0f} s"
    with (folder / "log").open("w+") as log:
        child = subprocess.Popen(
            [*command, "--output", str(output)],
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
        _at_work.add(child)
        try:
            status = child.wait(SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            print(f"{name}: {said}", file=sys.stderr, flush=True)
        else:
            if status == -signal.SIGINT:
                return None
            log.seek(0)
            *_, said = ["it said nothing", *log.read().splitlines()]
        finally:
            _at_work.discard(child)
    if output.exists():
        row: Document = json.loads(output.read_text())
    else:
        place = campaign.FAULTS[name].place
        nothing = Outcome(place, name, problems=[f"no verdict: {said}"])
        row = {**nothing.document(), "decided": {}}
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
