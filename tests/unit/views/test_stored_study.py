"""A study as its store describes it, and its workers as far as reports say."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hippo.cli.tree import print_tree
from hippo.protocol.decisions import Decision
from hippo.protocol.reports import Arrived, Began, CheckpointSaved
from hippo.store import PlanLock, StoreError, find_studies, open_blobs
from hippo.views.stored_study import (
    Named,
    StageState,
    Store,
    StoredTree,
    build_stored_tree,
    find_chains,
    replay,
)
from tests.unit.gc.stored import STEPS, StoredPlan

EARLY: dict[str, Any] = {"lr": 0.1}
LATE: dict[str, Any] = {"lr": {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}}}
OTHER: dict[str, Any] = {"lr": 0.2}


class StudyStore(StoredPlan):
    """A store with a study ``s`` of three trials, two of which diverge at step 6, and running
    workers.
    """

    def __init__(self, folder: Path) -> None:
        self.url = str(folder)
        self.blobs = open_blobs(self.url)
        super().__init__(self.blobs)
        self.add_study("s", EARLY, LATE, OTHER, state=None)

    def begin(self, chain: str, step: int = 0, *, study: str = "s") -> None:
        report = Began(
            chain=chain,
            sequence_number=0,
            step=step,
            studies=(study,),
            fingerprint={},
            start_seconds=1.0,
            load_seconds=0.0,
        )
        self.store.write_report(report)

    def save(self, chain: str, number: int, written: dict[str, Any], step: int) -> None:
        key = self.add_checkpoint(written, step, chain=chain)
        report = CheckpointSaved(
            chain=chain,
            sequence_number=number,
            step=step,
            key=key,
            size=100,
            state_digest="0" * 64,
            copy_seconds=0.0,
            write_seconds=0.0,
        )
        self.store.write_report(report)

    def tree(self) -> StoredTree:
        return build_stored_tree(replay(self.named()))

    def named(self) -> Named:
        found = find_studies(self.blobs, "s", "default")
        return Named("s", "default", Store(self.url, self.blobs), found)

    def states(self) -> dict[str, StageState]:
        """Returns states by range of steps and the trials that end there."""
        tree = self.tree()
        return {
            f"{stage.start}-{stage.end} {','.join(str(i) for _, i in stage.trials)}".strip(): (
                tree.states[stage.key]
            )
            for stage in tree.stages
        }

    def draw(self) -> str:
        stream = io.StringIO()
        replayed = replay(self.named())
        print_tree(Console(file=stream, width=200), replayed, build_stored_tree(replayed))
        return stream.getvalue()


@pytest.fixture
def stored(tmp_path: Path) -> StudyStore:
    return StudyStore(tmp_path)


@pytest.fixture
def driven(stored: StudyStore) -> Iterator[StudyStore]:
    """The same while a driver is running it."""
    lock = PlanLock(stored.store)
    lock.acquire()
    yield stored
    lock.release()


PENDING, RUNNING, DONE = StageState.PENDING, StageState.RUNNING, StageState.DONE
NOTHING_YET = {"0-6": PENDING, "6-12 0": PENDING, "6-12 1": PENDING, "0-12 2": PENDING}


def test_nothing_is_trained_yet(stored: StudyStore) -> None:
    assert stored.states() == NOTHING_YET
    assert replay(stored.named()).phase == "Running"
    assert "but nobody is at work on it now" in stored.draw()


def test_decisions_that_contradict_the_study_are_one_line(stored: StudyStore) -> None:
    promotion = {"index": 3, "kind": "promote", "trial": 0, "steps": 6, "reason": "r"}
    stored.store.write_decision("s", Decision.model_validate(promotion))  # by a grid
    with pytest.raises(StoreError, match="study s in the store cannot be read: decision 3") as told:
        replay(stored.named())
    assert "\n" not in str(told.value)


def test_what_comes_before_a_result_was_trained(stored: StudyStore) -> None:
    stored.add_chain(LATE, "s")
    assert stored.states() == {**NOTHING_YET, "0-6": DONE, "6-12 1": DONE}
    assert [trial.latest for trial in replay(stored.named()).run.trials] == [
        None,
        (STEPS, {"score": 1.0}),
        None,
    ]


def test_of_a_driver_that_is_gone_no_worker_runs(stored: StudyStore) -> None:
    stored.begin("c9")
    stored.save("c9", 1, EARLY, 6)
    assert stored.states() == {**NOTHING_YET, "0-6": DONE}
    assert stored.tree().workers == 0


def test_a_worker_between_saves(driven: StudyStore) -> None:
    driven.begin("c9")
    driven.save("c9", 1, OTHER, 3)
    assert driven.states() == {**NOTHING_YET, "0-12 2": RUNNING}
    assert "0→12 s-2  running beyond 3" in driven.draw()


def test_a_worker_that_has_passed_a_fork_is_below_it(driven: StudyStore) -> None:
    driven.begin("c9")
    driven.save("c9", 1, EARLY, 6)
    tree = driven.tree()
    assert driven.states() == {**NOTHING_YET, "0-6": DONE}
    assert list(tree.beyond.values()) == [1]
    assert "0→6 2 trials  stored, 1 worker below" in driven.draw()
    assert driven.draw().endswith("1 worker at work\n")


def test_it_is_where_alone_work_is_left(driven: StudyStore) -> None:
    driven.begin("c9")
    driven.save("c9", 1, EARLY, 6)
    driven.add_chain(LATE, "s")
    assert driven.states() == {
        "0-6": DONE,
        "6-12 0": RUNNING,
        "6-12 1": DONE,
        "0-12 2": PENDING,
    }


def test_a_worker_that_began_at_a_checkpoint(driven: StudyStore) -> None:
    driven.add_checkpoint(EARLY, 6)
    driven.begin("c9", 6)
    assert list(driven.tree().beyond.values()) == [1]


def test_a_worker_whose_place_nobody_knows_is_counted(driven: StudyStore) -> None:
    driven.begin("c9")
    assert driven.states() == NOTHING_YET
    assert driven.tree().workers == 1


def test_who_waits_or_works_for_others_is_not_at_work(driven: StudyStore) -> None:
    driven.begin("c8", study="another")
    driven.begin("c9")
    driven.store.write_report(Arrived(chain="c9", sequence_number=1, step=0))
    assert driven.tree().workers == 0


def test_chains_of_a_trial_are_those_of_its_way(stored: StudyStore) -> None:
    stored.begin("c9")
    stored.save("c9", 1, EARLY, 6)
    late = stored.add_chain(LATE, "s")
    stored.add_chain(OTHER, "s")
    replayed = replay(stored.named())
    assert find_chains(replayed, replayed.run.trials[1]) == {"c9", late}
    assert find_chains(replayed, replayed.run.trials[0]) == {"c9"}
