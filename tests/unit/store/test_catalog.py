"""Plans and studies, and nothing else, are found in a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from hippo.store import (
    DirectoryBlobs,
    PlanStore,
    StoreError,
    find_studies,
    list_plans,
    measure,
    plan_path,
)
from tests.unit.store.builders import study_document

A, B = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def blobs(tmp_path: Path) -> DirectoryBlobs:
    return DirectoryBlobs(tmp_path / "store")


def write(
    blobs: DirectoryBlobs, plan: str, name: str, updated: float, deleted: float | None = None
) -> None:
    document = {**study_document(name), "status": {"updated": updated}}
    PlanStore(blobs, plan).write_study(name, document | ({"deleted": deleted} if deleted else {}))


def test_logs_and_strangers_are_no_plans(blobs: DirectoryBlobs) -> None:
    assert plan_path("team-a", A * 4) == f"team-a/{A}"
    PlanStore(blobs, f"default/{A}").initialise({})
    PlanStore(blobs, f"logs/{B}").initialise({})  # a namespace of that name is nobody's harm
    for name in (f"logs/default/{A}/r1-00001.log", f"default/{A[1:]}/plan.json", "plan.json"):
        blobs.put(name, b"")
    assert list(list_plans(blobs)) == [f"default/{A}", f"logs/{B}"]
    assert list(list_plans(blobs, "logs")) == [f"logs/{B}"]
    assert list_plans(blobs, "log") == {}


def test_the_study_worked_on_last_comes_first_and_deleted_ones_last(blobs: DirectoryBlobs) -> None:
    write(blobs, f"a/{A}", "s", 1.0)
    write(blobs, f"a/{B}", "s", 2.0)
    write(blobs, f"b/{A}", "s", 3.0)
    write(blobs, f"b/{B}", "s", 4.0, deleted=5.0)
    write(blobs, f"b/{B}", "t", 9.0)
    assert [s.plan for s in find_studies(blobs, "s", "a")] == [f"a/{B}", f"a/{A}"]
    every = find_studies(blobs, "s")
    assert [s.namespace for s in every] == ["b", "a", "a", "b"]
    assert [s.is_deleted for s in every] == [False, False, False, True]
    assert find_studies(blobs, "nobody") == []


def test_a_damaged_study_hides_no_other(blobs: DirectoryBlobs) -> None:
    blobs.put(f"a/{A}/studies/s/study.json", b"{")
    with pytest.raises(StoreError, match=r"study s in the store cannot be read.*study.json"):
        find_studies(blobs, "s")
    write(blobs, f"a/{B}", "s", 1.0)
    assert [s.plan for s in find_studies(blobs, "s")] == [f"a/{B}"]


def test_measures_add_up(blobs: DirectoryBlobs) -> None:
    plan = f"default/{A}"
    sizes = {
        "plan.json": 1,
        "manifests/k.json": 2,
        "data/k/1": 4,
        "data/k/2": 8,
        "reports/c/000000.json": 16,
        "studies/s/study.json": 32,
        "studies/s/decisions/000000.json": 64,
        "lock/00000001.json": 128,
    }
    for name, size in sizes.items():
        blobs.put(f"{plan}/{name}", bytes(size))
    found = measure(plan, list_plans(blobs)[plan])
    assert found.total == 127
    assert found.checkpoints == {"k": 14}
    assert found.studies == {"s": 96}
