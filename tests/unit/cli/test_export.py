"""What a study's document says of its best trial may be half of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hippo.cli.export import export
from hippo.store import StoreError
from hippo.store.directory import DirectoryBlobs
from tests.unit.gc.stored import StoredPlan

BEST = {"best": 0, "bestStep": 12, "bestKey": "0" * 40}
STATUSES: list[Any] = [None, {}, {**BEST, "best": None}]
STATUSES += [{name: value for name, value in BEST.items() if name != left} for left in BEST]


@pytest.mark.parametrize("status", STATUSES)
def test_a_study_without_a_best_trial_has_none_to_export(tmp_path: Path, status: Any) -> None:
    plan = StoredPlan(DirectoryBlobs(tmp_path / "store"), "default")
    plan.add_study("s", {"lr": 0.1})
    plan.store.write_study("s", {**plan.store.read_study("s"), "status": status})
    with pytest.raises(StoreError, match="study s has no result yet: run it first"):
        export("s", store=str(tmp_path / "store"))
