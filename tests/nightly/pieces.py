"""What a night consists of."""

from __future__ import annotations

from dataclasses import dataclass

from tests.provenance import ROOT

CHECKER = "tests/unit/kube/test_state_machine.py"
CHURN = "tests/unit/kube/test_churn.py"
CHECKED_STEPS = 100_000
CHECKER_PIECES = 20
HOURS = 24
FUZZ_ROUNDS = 1
LONGER = 5
"""So many times the examples of ``make unit`` in each round of fuzzing."""


@dataclass(frozen=True, slots=True)
class Piece:
    name: str
    number: int
    """Among all: its seed is the night's, plus this."""
    words: tuple[str, ...]
    """What pytest is asked to run."""
    settings: tuple[tuple[str, str], ...] = ()
    """Variables of its environment."""

    @property
    def kind(self) -> str:
        return self.name.partition("-")[0]


def list_pieces() -> list[Piece]:
    """In the order in which they are run; taken by turns, parts of a night have some of all."""
    steps = (("HIPPO_NIGHTLY_STEPS", str(CHECKED_STEPS // CHECKER_PIECES)),)
    checks = [(f"check-{n:02}", (CHECKER,), steps) for n in range(1, CHECKER_PIECES + 1)]
    churns = [("churn", (CHURN,), (("HIPPO_NIGHTLY_HOURS", str(HOURS)),))]
    longer = (("HIPPO_NIGHTLY_LONGER", str(LONGER)),)
    fuzzes = [
        (f"fuzz-{folder}-{n}", ("-m", "hypothesis", f"tests/unit/{folder}"), longer)
        for n in range(1, FUZZ_ROUNDS + 1)
        for folder in _fuzzed_folders()
    ]
    ordered = [*checks, *churns, *fuzzes]
    return [Piece(name, n, words, more) for n, (name, words, more) in enumerate(ordered)]


def choose(pieces: list[Piece], part: int, parts: int) -> list[Piece]:
    """Part ``part`` (from 1) of ``parts``. Every piece is in one part."""
    return pieces[part - 1 :: parts]


def _fuzzed_folders() -> list[str]:
    """Folders of the unit tests in which some test is given its input by Hypothesis."""
    unit = ROOT / "tests" / "unit"
    files = [file for file in unit.rglob("test_*.py") if "\n@given(" in file.read_text()]
    return sorted({file.relative_to(unit).parts[0] for file in files})
