"""What was charged survives a kill: as noted, and evenly for what came after the note."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hippo.protocol.records import Spending, Spent
from hippo.protocol.reports import Arrived, Began, Report
from hippo.session.charges import chain_prefix, settle


def chain_of(name: str, studies: tuple[str, ...], seconds: list[float]) -> list[Report]:
    """Reports at these worker-seconds, each a step later."""
    began = Began(
        chain=name,
        sequence_number=0,
        step=0,
        worker_seconds=seconds[0],
        studies=studies,
        fingerprint={},
        start_seconds=0.0,
        load_seconds=0.0,
    )
    later = [
        Arrived(chain=name, sequence_number=n, step=n, trained=n, worker_seconds=second)
        for n, second in enumerate(seconds[1:], start=1)
    ]
    return [began, *later]


def test_without_a_note_costs_are_split_over_those_for_whom_a_chain_was_launched() -> None:
    reports = {"r1-00001": chain_of("r1-00001", ("a", "b"), [1.0, 3.0, 6.0])}
    spent = Spent(worker_seconds=3.0, steps_trained=1.0)
    assert settle(None, reports) == {"a": spent, "b": spent}


def test_what_a_note_takes_in_is_not_counted_again() -> None:
    reports = {
        "r1-00001": chain_of("r1-00001", ("a", "b"), [1.0, 9.0]),  # of an earlier run
        "r2-00001": chain_of("r2-00001", ("a", "b"), [1.0, 3.0, 6.0]),  # one report since
        "r2-00002": chain_of("r2-00002", ("b",), [2.0, 5.0]),  # launched since
        "r3-00001": chain_of("r3-00001", ("a",), [0.5]),  # of a run that never made a note
    }
    noted = Spending(
        generation=2,
        counted={"r2-00001": 2},
        studies={
            "a": Spent(worker_seconds=10.0, steps_trained=7.0),
            "gone": Spent(worker_seconds=1.0),
        },
    )
    assert settle(noted, reports) == {
        "a": Spent(worker_seconds=10.0 + 1.5 + 0.5, steps_trained=7.5),
        "b": Spent(worker_seconds=1.5 + 5.0, steps_trained=1.5),
        "gone": Spent(worker_seconds=1.0),
    }


def test_chains_are_told_by_their_generation() -> None:
    reports = {f"{chain_prefix(12)}-00001": chain_of("r12-00001", ("a",), [4.0])}
    assert settle(Spending(generation=13), reports) == {}
    assert settle(Spending(generation=11), reports)["a"].worker_seconds == 4.0
    assert settle(Spending(generation=1), reports)["a"].worker_seconds == 4.0


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), max_size=4), st.data())
def test_a_note_at_any_moment_loses_and_doubles_nothing(
    lengths: list[list[int]], data: st.DataObject
) -> None:
    chains: dict[str, list[Report]] = {}
    counted: dict[str, int] = {}
    noted = 0.0
    for number, steps in enumerate(lengths):
        name = f"r1-{number:05d}"
        seconds = [float(sum(steps[: n + 1])) for n in range(len(steps))]
        chains[name] = chain_of(name, ("a",), seconds)
        counted[name] = data.draw(st.integers(0, len(seconds)))
        noted += seconds[counted[name] - 1] if counted[name] else 0.0
    spending = Spending(generation=1, counted=counted, studies={"a": Spent(worker_seconds=noted)})
    total = sum(reports[-1].worker_seconds for reports in chains.values())
    spent = settle(spending, chains)["a"]
    assert spent.worker_seconds == pytest.approx(total)
