"""The command: see the package."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tests import nightly
from tests.nightly.pieces import Piece, choose, list_pieces
from tests.nightly.record import Night
from tests.nightly.report import summarize, unmet
from tests.provenance import ROOT, describe_commit

_SECONDS = 3 * 3600
"""Until a test counts as hanging."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.nightly", description=str(nightly.__doc__).partition("\n")[0]
    )
    parser.add_argument("pieces", nargs="*", metavar="PIECE", help="some only; --list names them")
    parser.add_argument("--part", type=_part, default=(1, 1), metavar="K/N", help="e.g. 3/8")
    parser.add_argument("--seed", type=int, help="another search (default: as the code has it)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "nightly")
    parser.add_argument("--list", action="store_true", help="name the pieces, and end")
    options = parser.parse_args()
    pieces = list_pieces()
    if unknown := sorted(set(options.pieces) - {piece.name for piece in pieces}):
        parser.error(f"no such piece: {', '.join(unknown)}; see --list")
    if options.pieces:
        pieces = [piece for piece in pieces if piece.name in options.pieces]
    pieces = choose(pieces, *options.part)
    night = Night.open(options.folder, options.seed)
    night.folder.mkdir(parents=True, exist_ok=True)
    missing = [piece for piece in pieces if not night.is_done(piece)]
    if options.list:
        for piece in pieces:
            print(piece.name, "" if piece in missing else "done")
        return 0
    print(
        f"{len(pieces)} pieces, {len(missing)} to go; seed {night.seed}, code {night.code}",
        flush=True,
    )
    for piece in missing:
        _run(piece, night)
    print(summarize(night, pieces))
    if not all(map(night.is_done, pieces)):
        return 1
    every = list_pieces()
    missed = unmet(night, every) if all(map(night.is_done, every)) else []
    for line in missed:
        print(line)
    return 1 if missed else 0


def _part(text: str) -> tuple[int, int]:
    try:
        part, parts = map(int, text.split("/"))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: write K/N, as 3/8") from None
    if not 1 <= part <= parts:
        raise argparse.ArgumentTypeError(f"{text}: parts count from 1")
    return part, parts


def _run(piece: Piece, night: Night) -> None:
    figures, log = night.file(piece).with_suffix(".figures"), night.file(piece).with_suffix(".log")
    figures.unlink(missing_ok=True)
    seed = night.seed + piece.number
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"),
        *("-p", "tests.nightly.plugin", f"--figures={figures}", f"--hypothesis-seed={seed}"),
        *(f"--timeout={_SECONDS}", *piece.words),
    ]
    more = {"HIPPO_TEST_PROFILE": "nightly", "HIPPO_NIGHTLY_SEED": str(seed)}
    commit, began = describe_commit(), time.monotonic()
    with log.open("w") as output:
        status = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, **more, **dict(piece.settings)},
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
    outcome = {
        "commit": commit,
        "passed": status == 0,
        "seconds": round(time.monotonic() - began, 1),
        "tests": json.loads(figures.read_text()) if figures.exists() else {},
    }
    night.write(piece, outcome)
    told = "passed" if status == 0 else f"FAILED, see {log}"
    print(f"{piece.name}: {outcome['seconds']:.0f} s, {told}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
