"""A campaign that was stopped goes on; what went wrong is kept; other code does not count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.chaos.campaign import compare
from tests.chaos.outcome import Outcome
from tests.chaos.record import Record
from tests.chaos.report import table
from tests.provenance import hash_code

Document = dict[str, Any]


def row(fault: str, *problems: str, best: str = "t1", **figures: Any) -> Document:
    made = Outcome("local", fault, problems=list(problems)).document()
    return {**made, "decided": {"best": best, "trials": []}, **figures}


def test_each_fault_once_comes_before_any_twice(tmp_path: Path) -> None:
    record = Record.open(tmp_path / "chaos.json")
    assert record.missing(["a", "b"], 2) == [("a", 1), ("b", 1), ("a", 2), ("b", 2)]


def test_what_has_run_is_not_run_again(tmp_path: Path) -> None:
    file = tmp_path / "build" / "chaos.json"
    Record.open(file).add(row("a"), 1, {})
    record = Record.open(file)
    assert record.missing(["a", "b"], 2) == [("b", 1), ("a", 2), ("b", 2)]
    assert json.loads(file.read_text())["rows"][0]["commit"]


def test_what_went_wrong_is_tried_again_and_stays_on_record(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    Record.open(file).add(row("a", "a step was lost"), 1, {})
    assert Record.open(file).missing(["a"], 1) == [("a", 1)]
    Record.open(file).add(row("a"), 1, {})
    record = Record.open(file)
    assert record.missing(["a"], 1) == []
    assert [found["problems"] for found in record.rows] == [["a step was lost"], []]


def test_runs_of_other_code_are_made_again_and_then_give_way(tmp_path: Path) -> None:
    file = tmp_path / "chaos.json"
    old = Record.open(file)
    old.code = "other"
    for number in (1, 2):
        old.add(row("a"), number, {})
    record = Record.open(file)
    assert record.missing(["a"], 2) == [("a", 1), ("a", 2)]
    record.add(row("a"), 1, {})
    assert [(r["repetition"], r["code"] == "other") for r in record.rows] == [(2, True), (1, False)]


def test_another_outcome_than_undisturbed_is_wrong_however_often_it_is_compared() -> None:
    rows = [row("local-calm"), row("local-killed"), row("local-stopped", best="t2")]
    compared = compare(rows)
    assert [len(found["problems"]) for found in compared] == [0, 0, 1]
    assert [len(found["problems"]) for found in compare(rows)] == [0, 0, 1]
    assert table(compared, "local").splitlines()[-1].endswith("| 1 |")


def test_runs_of_a_fault_are_counted_and_summed() -> None:
    rows = [row("local-calm", makespan=6.0), *(row("local-killed", trained=5) for _ in range(3))]
    line = table(rows, "local").splitlines()[-1]
    assert "| 3 | 0 | 0 of 15 |" in line


def test_the_code_is_told_apart_by_what_is_in_it(tmp_path: Path) -> None:
    assert hash_code("tests/chaos") == hash_code("tests/chaos") != hash_code("tests/cluster")
