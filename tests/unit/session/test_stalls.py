"""When a call counts as conspicuously long, and what is said of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hippo.model import Sequence
from hippo.plan import CostModel, Overheads
from hippo.session.stalls import LEAST_SECONDS, Stall, describe_span, find_patience

SIZES = Sequence.of({"batch": {"piecewise": [[0, 8], [5, 64]]}, "lr": 0.1}, 12)


def patience(costs: CostModel, during: Any, step: int = 0) -> float:
    chain: Any = SimpleNamespace(claim=SimpleNamespace(node=SimpleNamespace(sequence=SIZES)))
    return find_patience(costs, chain, during, step)


@pytest.mark.parametrize("during", ["import", "setup", "load", "step", "evaluate", "save"])
def test_before_anything_is_measured_two_minutes_are_long(during: str) -> None:
    assert patience(CostModel(), during) == LEAST_SECONDS == 120.0


def test_ten_times_what_such_calls_take_is_long() -> None:
    costs = CostModel()
    costs.observe_steps(SIZES, 0, 5, 5 * 20.0)
    costs.observe_steps(SIZES, 5, 12, 7 * 100.0)
    for what, seconds in [("start", 30.0), ("load", 40.0), ("save", 1.0), ("evaluate", 70.0)]:
        costs.observe(what, seconds)
    costs.settle()
    assert patience(costs, "step", 4) == 200.0
    assert patience(costs, "step", 5) == 1000.0, "steps of a larger batch count apart"
    assert patience(costs, "evaluate") == 700.0
    assert patience(costs, "setup") == patience(costs, "import") == 300.0
    assert patience(costs, "load") == 400.0
    assert patience(costs, "save") == LEAST_SECONDS
    assert patience(CostModel(overheads=Overheads(evaluate=50.0)), "evaluate") == 500.0


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "0 s"),
        (60, "60 s"),
        (89.4, "89 s"),
        (90, "1 min"),
        (121, "2 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (3660, "1 h 1 min"),
        (90000, "25 h"),
    ],
)
def test_spans(seconds: float, told: str) -> None:
    assert describe_span(seconds) == told


def test_a_stall_names_chain_step_place_and_process() -> None:
    stall = Stall(
        "r1-00003", "digits", "step", 57, 125.0, "pid 4711", "data.py:88, in next_batch()"
    )
    assert str(stall) == (
        "no step has ended for 2 min: r1-00003 stands at step 57 (data.py:88, in next_batch()),"
        " pid 4711"
    )
    stall = Stall("r1-00003", "digits", "evaluate", 60, 4000.0, "pid 4711")
    assert str(stall) == (
        "evaluate() has not ended for 1 h 6 min: r1-00003 stands at step 60, pid 4711"
    )
