"""Times that a store has measured, from the reports of its chains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hippo.model import InvalidSpec, signature_document
from hippo.protocol.reports import Began, CheckpointSaved, Ended, MetricsReported, Outcome, Report
from hippo.session.measured import Measured, find_measured
from hippo.store import DirectoryBlobs, PlanStore
from tests.world import build_study

STUDY = build_study(space={"lr": {"choices": [0.1]}})
TRAINER = STUDY.spec.trainer


ONE, FEW, MANY, OTHER, IDLE = (digit * 16 for digit in "12345")  # names of plans


def began(chain: str, start: float, *, step: int = 0, load: float = 0.0) -> Report:
    return Began(
        chain=chain,
        sequence_number=0,
        step=step,
        fingerprint={},
        start_seconds=start,
        load_seconds=load,
    )


def saved(chain: str, copy: float) -> Report:
    return CheckpointSaved(
        chain=chain,
        sequence_number=1,
        step=4,
        trained=4,
        key="a" * 64,
        size=1,
        state_digest="",
        copy_seconds=copy,
        write_seconds=9.0,
    )


def ended(chain: str, number: int, trained: int, seconds: float) -> Report:
    return Ended(
        chain=chain,
        sequence_number=number,
        step=trained,
        trained=trained,
        train_seconds=seconds,
        outcome=Outcome.COMPLETED,
    )


def fill(
    blobs: DirectoryBlobs, plan: str, *reports: Report, fold: bool = False, **changed: Any
) -> None:
    store = PlanStore(blobs, plan)
    store.initialise({**signature_document(TRAINER, "sources"), **changed})
    for report in reports:
        store.write_report(report)
    if fold:
        store.fold({report.chain for report in reports})


def find(blobs: DirectoryBlobs, namespace: str = STUDY.namespace) -> Measured:
    return find_measured(blobs, "folder", namespace, TRAINER, "--like")


@pytest.mark.parametrize("fold", [False, True])
def test_means_of_all_chains(tmp_path: Path, *, fold: bool) -> None:
    """A load counts where a checkpoint was loaded: not at step 0."""
    blobs = DirectoryBlobs(tmp_path)
    plan = f"{STUDY.namespace}/{ONE}"
    metrics = MetricsReported(
        chain="a",
        sequence_number=2,
        step=4,
        trained=4,
        key="a" * 64,
        metrics={"score": 1.0},
        evaluate_seconds=0.5,
    )
    first = [began("a", 2.0), saved("a", 0.25), metrics, ended("a", 3, 4, 8.0)]
    second = [began("b", 4.0, step=4, load=1.5), ended("b", 1, 12, 8.0)]
    fill(blobs, plan, *first, *second, fold=fold)
    found = find(blobs)
    assert (found.source, found.plan, found.chains, found.steps) == ("folder", plan, 2, 16)
    assert found.step == 1.0
    times = found.overheads
    assert (times.start, times.load, times.save, times.evaluate) == (3.0, 1.5, 0.25, 0.5)


def test_the_plan_that_has_trained_most_of_this_trainer(tmp_path: Path) -> None:
    """Whatever its code, image and seed were; with another config, times would be others."""
    blobs, place = DirectoryBlobs(tmp_path), STUDY.namespace
    fill(blobs, f"{place}/{FEW}", began("a", 1.0), ended("a", 1, 5, 5.0))
    fill(blobs, f"{place}/{MANY}", began("a", 1.0), ended("a", 1, 9, 18.0), sources="x", seed=3)
    fill(blobs, f"{place}/{OTHER}", began("a", 1.0), ended("a", 1, 50, 1.0), config={"width": 9})
    fill(blobs, f"{place}/{IDLE}", began("a", 1.0), ended("a", 1, 0, 0.0))
    fill(blobs, f"elsewhere/{ONE}", began("a", 1.0), ended("a", 1, 99, 1.0))
    assert (find(blobs).plan, find(blobs).step) == (f"{place}/{MANY}", 2.0)


def test_a_store_without_a_run_of_it(tmp_path: Path) -> None:
    blobs = DirectoryBlobs(tmp_path)
    fill(blobs, f"{STUDY.namespace}/{IDLE}", began("a", 1.0))
    with pytest.raises(InvalidSpec, match="--like: folder holds no run of") as told:
        find(blobs)
    assert "in namespace default: run a study of it there first" in str(told.value)


def test_steps_that_took_no_time_measure_nothing(tmp_path: Path) -> None:
    """No trainer is so fast: somebody else wrote the record."""
    blobs = DirectoryBlobs(tmp_path)
    fill(blobs, f"{STUDY.namespace}/{IDLE}", began("a", 1.0), ended("a", 1, 9, 0.0))
    with pytest.raises(InvalidSpec, match="holds no run of"):
        find(blobs)
