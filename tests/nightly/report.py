"""What a night has covered: a table for the terminal, and the same in docs/reliability.md.

python -m tests.nightly.report
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import describe_machine
from benchmarks.report import describe, insert
from tests.nightly.pieces import Piece, list_pieces
from tests.nightly.record import Night
from tests.provenance import ROOT
from tests.unit.kube.test_state_machine import KINDS, RULES

Document = dict[str, Any]

PAGE = ROOT / "docs" / "reliability.md"
_WHAT = {"check": "model checking", "churn": "churn", "fuzz": "fuzzing"}


def summarize(night: Night, pieces: Sequence[Piece]) -> str:
    """A table, a line for each kind of piece, and one for each folder that was fuzzed."""
    found = {piece: night.read(piece) for piece in pieces}
    lines = ["| what was searched | pieces | failed | minutes | covered |"]
    lines.append("| --- | ---: | ---: | ---: | --- |")
    for kind, what in _WHAT.items():
        of_kind = [piece for piece in pieces if piece.kind == kind]
        if kind == "fuzz":
            for folder in sorted({_folder(piece) for piece in of_kind}):
                group = [piece for piece in of_kind if _folder(piece) == folder]
                label = f"{what}: `tests/unit/{folder}`"
                lines.append(_line(label, [found[piece] for piece in group], _tell_of_fuzz))
        elif of_kind:
            tell = _tell_of_checks if kind == "check" else _tell_of_churn
            lines.append(_line(what, [found[piece] for piece in of_kind], tell))
    return "\n".join(lines)


def unmet(night: Night, pieces: Iterable[Piece]) -> list[str]:
    """What a whole night has never come to: rules of the model, kinds of faults, a rare event."""
    rules, faults = Counter[str](), Counter[str]()
    taken_back = 0
    for test in _tests(filter(None, map(night.read, pieces))):
        rules.update(test.get("rules", {}))
        taken_back += test.get("counted", {}).get("taken back", 0)
        faults.update({fault.partition(" ")[0]: n for fault, n in test.get("faults", {}).items()})
    missed = [f"the rule {name} was never followed" for name in sorted(RULES - rules.keys())]
    missed += [f"no request was {kind}" for kind in KINDS if not faults[kind]]
    return missed + ([] if taken_back else ["no pod was told to leave before it had begun"])


def _folder(piece: Piece) -> str:
    return piece.name.split("-")[1]


def _line(what: str, found: list[Document | None], tell: Any) -> str:
    done = [one for one in found if one is not None]
    failed = sum(not one["passed"] for one in done)
    minutes = sum(one["seconds"] for one in done) / 60
    counted = f"{len(done)} of {len(found)}"
    return f"| {what} | {counted} | {failed} | {minutes:.1f} | {tell(list(_tests(done)))} |"


def _tests(outcomes: Iterable[Document]) -> Iterable[Document]:
    for outcome in outcomes:
        yield from outcome["tests"].values()


def _tell_of_checks(tests: list[Document]) -> str:
    counted, rules, faults = Counter[str](), Counter[str](), Counter[str]()
    transitions = Counter[str]()
    for test in tests:
        counted.update(test.get("counted", {}))
        rules.update(test.get("rules", {}))
        faults.update(test.get("faults", {}))
        transitions.update(test.get("transitions", {}))
    return (
        f"{counted['steps']:,} steps in {counted['runs']:,} runs, {counted['operators']:,}"
        f" operators, {counted['pods']:,} pods; {len(rules)} of {len(RULES)} rules, followed"
        f" {sum(rules.values()):,} times; {len(transitions)} different transitions of phases;"
        f" {sum(faults.values()):,} requests disturbed, in {len(faults)} different ways;"
        f" {counted['trained'] - counted['unique']:,} of {counted['trained']:,} steps trained again"
    )


def _tell_of_churn(tests: list[Document]) -> str:
    told = [test["churn"] for test in tests if "churn" in test]
    return "; ".join(
        f"{churn['hours']:g} h, {churn['studies']:,} studies; the operator holds"
        f" {churn['memory'][4] / 1000:,.0f} kB after a sixth of it,"
        f" {churn['memory'][-1] / 1000:,.0f} kB at the end"
        for churn in told
    )


def _tell_of_fuzz(tests: list[Document]) -> str:
    fuzzed = [test for test in tests if "examples" in test]
    examples = sum(test["examples"] for test in fuzzed)
    return f"{examples:,} examples in {len(fuzzed):,} runs of properties"


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "nightly"
    night, pieces = Night.open(folder), list_pieces()
    commits = sorted({found["commit"] for piece in pieces if (found := night.read(piece))})
    machine = {"command": "make nightly", "machine": describe_machine("hypothesis")}
    told = f"{describe(machine)}. Commit {', '.join(commits)}, seed {night.seed}"
    body = "\n\n".join([told, summarize(night, pieces)])
    PAGE.write_text(insert(PAGE.read_text(), "nightly", body, by="make nightly"))
    print(f"{PAGE.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
