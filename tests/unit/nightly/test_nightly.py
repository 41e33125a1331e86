"""The night's pieces: together all of it, each once, kept for the code that they ran on."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.nightly.pieces import CHECKED_STEPS, HOURS, choose, list_pieces
from tests.nightly.record import Night
from tests.nightly.report import summarize, unmet
from tests.provenance import ROOT
from tests.unit.kube.test_state_machine import KINDS, RULES

Document = dict[str, Any]


def outcome(**test: Any) -> Document:
    return {"commit": "c", "passed": True, "seconds": 60.0, "tests": {"t": test}}


def test_parts_together_are_the_whole_and_each_piece_is_in_one() -> None:
    pieces = list_pieces()
    assert len({piece.name for piece in pieces}) == len(pieces)
    for parts in (1, 3, 8, 1000):
        split = [piece for n in range(parts) for piece in choose(pieces, n + 1, parts)]
        assert sorted(split, key=lambda piece: piece.number) == pieces


def test_the_whole_is_what_is_promised() -> None:
    settings = [dict(piece.settings) for piece in list_pieces()]
    assert sum(int(found.get("HIPPO_NIGHTLY_STEPS", 0)) for found in settings) >= CHECKED_STEPS
    assert sum(int(found.get("HIPPO_NIGHTLY_HOURS", 0)) for found in settings) == HOURS
    words = " ".join(word for piece in list_pieces() for word in piece.words)
    for folder in ("engine", "hostile", "stage_runner", "simulate"):
        assert f"tests/unit/{folder}" in words


def test_what_has_passed_on_this_code_with_this_seed_is_not_run_again(tmp_path: Path) -> None:
    night = Night.open(tmp_path)
    first, second, third = list_pieces()[:3]
    night.write(first, outcome())
    night.write(second, {**outcome(), "passed": False})
    replace(night, code="other").write(third, outcome())
    again = Night.open(tmp_path)
    assert [again.is_done(piece) for piece in (first, second, third)] == [True, False, False]
    assert not replace(again, seed=again.seed + 1).is_done(first)


def test_the_table_tells_what_was_covered(tmp_path: Path) -> None:
    night, pieces = Night.open(tmp_path), list_pieces()
    checks = [piece for piece in pieces if piece.kind == "check"]
    met = {"rules": {"time_passes": 3}, "faults": {"lost get lock": 2}, "transitions": {"a": 1}}
    for piece in checks[:2]:
        night.write(piece, outcome(counted={"steps": 5000, "runs": 60}, **met))
    fuzz = next(piece for piece in pieces if piece.kind == "fuzz")
    night.write(fuzz, outcome(examples=300))
    table = summarize(night, pieces)
    assert f"| model checking | 2 of {len(checks)} | 0 | 2.0 | 10,000 steps in 120 runs" in table
    assert f"1 of {len(RULES)} rules, followed 6 times" in table
    assert "300 examples in 1 runs of properties" in table


def test_what_a_night_never_came_to_is_told(tmp_path: Path) -> None:
    night, pieces = Night.open(tmp_path), list_pieces()
    check = next(piece for piece in pieces if piece.kind == "check")
    rules, faults = dict.fromkeys(RULES, 1), {f"{kind} get lock": 1 for kind in KINDS}
    night.write(check, outcome(rules=rules, faults=faults, counted={"taken back": 1}))
    assert unmet(night, pieces) == []
    del rules["time_passes"], faults["held get lock"]
    night.write(check, outcome(rules=rules, faults=faults))
    assert unmet(night, pieces) == [
        "the rule time_passes was never followed",
        "no request was held",
        "no pod was told to leave before it had begun",
    ]


@pytest.mark.slow
def test_properties_take_more_examples_at_night_and_are_counted(tmp_path: Path) -> None:
    test, figures = tmp_path / "test_it.py", tmp_path / "figures"
    test.write_text(
        "from hypothesis import given, settings, strategies as st\n"
        "@settings(max_examples=7, deadline=None, database=None)\n"
        "@given(st.integers())\n"
        "def test_it(number): assert number == number\n"
        "def test_other(record_property): record_property('covered', {'a': 1})\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    command += ["-p", "tests.nightly.plugin", f"--figures={figures}", "-c", "/dev/null", str(test)]
    environment = {"HIPPO_NIGHTLY_LONGER": "3", "PYTHONPATH": str(ROOT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    found = {
        name.rpartition("::")[2]: told for name, told in json.loads(figures.read_text()).items()
    }
    assert found["test_it"]["examples"] == 21
    assert found["test_other"]["covered"] == {"a": 1}
