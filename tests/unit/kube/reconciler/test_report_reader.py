"""Which reports were read, how late, and how long stages take."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from hippo.kube.reconciler.report_reader import FOLD_AFTER, Pace, ReportReader
from hippo.protocol.reports import Began, CheckpointSaved, Ended, Outcome, Report
from hippo.store import DirectoryBlobs, PlanStore, StoreError
from tests.unit.kube.memory import run
from tests.unit.store.builders import KEY, whole_chain


def began(seconds: float) -> Report:
    return Began(
        chain="r1-1",
        sequence_number=0,
        step=0,
        worker_seconds=seconds,
        fingerprint={},
        start_seconds=seconds,
        load_seconds=0.0,
    )


def saved(seconds: float, number: int = 1) -> Report:
    return CheckpointSaved(
        chain="r1-1",
        sequence_number=number,
        step=number,
        worker_seconds=seconds,
        key=KEY,
        size=1,
        state_digest="0" * 64,
        copy_seconds=0.0,
        write_seconds=0.0,
    )


def ended(seconds: float) -> Report:
    return Ended(
        chain="r1-1",
        sequence_number=9,
        step=9,
        worker_seconds=seconds,
        outcome=Outcome.COMPLETED,
    )


def test_a_chain_s_last_step_is_told_however_late_its_end_is_seen() -> None:
    """It saved for a second, left a second later, and was looked at five seconds after that."""
    pace = Pace()
    pace.lag(began(2.0), 102.0)
    pace.lag(saved(9.0).model_copy(update={"trained": 4, "copy_seconds": 1.0}), 115.0)
    last = ended(10.0).model_copy(update={"trained": 4})
    pace.lag(last, 115.0)
    assert pace.last_step(last) == 108.0
    pace.stage(last)


def test_of_a_chain_that_trained_nothing_the_end_counts() -> None:
    pace = Pace()
    pace.lag(began(2.0), 102.0)
    pace.lag(ended(10.0), 115.0)
    assert pace.last_step(ended(10.0)) == 110.0


def test_lag_is_told_against_the_report_that_came_soonest() -> None:
    pace = Pace()
    assert pace.lag(began(2.0), 103.0) == 0.0  # nothing to compare it with
    assert pace.lag(saved(10.0), 110.5) == 0.0  # sooner: the clock is 100.5 now
    assert pace.lag(saved(20.0), 121.5) == 1.0
    assert pace.lag(saved(30.0), 130.5) == 0.0


def test_a_stage_lasts_from_one_end_to_the_next() -> None:
    pace = Pace()
    assert pace.stage(began(2.0)) is None
    assert pace.stage(saved(10.0)) == 8.0
    assert pace.stage(saved(13.0, 2)) == 3.0
    assert pace.stage(ended(14.0)) is None
    assert pace.stage(saved(20.0, 3)) is None, "of an earlier chain nothing is known any more"


def test_an_adopted_chain_has_no_stage_before_its_first_end() -> None:
    pace = Pace()
    assert pace.stage(saved(10.0)) is None
    assert pace.stage(saved(12.0, 2)) == 2.0


def store_of(tmp_path: Path) -> PlanStore:
    return PlanStore(DirectoryBlobs(tmp_path / "store"), "research/plan")


def numbers(reports: list[Report]) -> list[Any]:
    return [(report.chain, report.sequence_number) for report in reports]


def test_each_report_is_read_once(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    one, two = whole_chain("r1-1", 4), whole_chain("r1-2", 3)
    reader = ReportReader(store)
    assert run(reader.read_news()) == []
    reader.expect("r1-1")
    reader.expect("r1-2", 1)  # its first was read by an earlier operator
    for report in (*one[:2], *two[:2]):
        store.write_report(report)
    assert numbers(run(reader.read_news())) == [("r1-1", 0), ("r1-1", 1), ("r1-2", 1)]
    assert run(reader.read_news()) == []
    for report in (*one[2:], two[2]):
        store.write_report(report)
    assert numbers(run(reader.read_last(["r1-1"]))) == [("r1-1", 2), ("r1-1", 3)]
    reader.ended(["r1-1"])
    assert numbers(run(reader.read_news())) == [("r1-2", 2)]


def test_reports_count_once_the_engine_is_told_of_them(tmp_path: Path) -> None:
    """Those read together with one that ends a study are charged after its spending is noted."""
    store = store_of(tmp_path)
    reader = ReportReader(store)
    reader.expect("r1-1")
    for report in whole_chain("r1-1", 4):
        store.write_report(report)
    news = run(reader.read_news())
    assert reader.counted == {"r1-1": 0}
    for number, report in enumerate(news):
        reader.taken(report)
        assert reader.counted == {"r1-1": number + 1}


def test_ended_chains_are_folded_and_stay_readable(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.initialise({"entrypoint": "trainer:T"})
    reader = ReportReader(store)
    reader.expect("r1-1")
    for report in whole_chain("r1-1"):
        store.write_report(report)
    run(reader.read_news())
    reader.ended(["r1-1"])
    run(reader.fold())
    assert store.load().unfolded == {"r1-1"}, "one chain is not worth a chunk"
    store.fold(run(reader.end_folding()))
    records = store.load()
    assert not records.unfolded
    assert numbers(records.reports["r1-1"])[-1] == ("r1-1", 3)


def test_rounds_go_on_while_chains_are_folded_and_are_told_if_that_fails(tmp_path: Path) -> None:
    store = store_of(tmp_path)
    store.initialise({"entrypoint": "trainer:T"})
    may_go_on = threading.Event()

    def fail(*_: object) -> None:
        assert may_go_on.wait(10)
        raise StoreError("the disk is full")

    store.fold = fail  # type: ignore[method-assign]

    async def go() -> None:
        reader = ReportReader(store)
        reader.ended(f"r1-{number}" for number in range(FOLD_AFTER))
        await reader.fold()
        reader.ended(f"r1-{number}" for number in range(FOLD_AFTER, 2 * FOLD_AFTER))
        await reader.fold()
        may_go_on.set()
        with pytest.raises(StoreError, match="disk is full"):
            await reader.end_folding()

    run(go())
