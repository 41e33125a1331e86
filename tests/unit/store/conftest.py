from __future__ import annotations

from pathlib import Path

import pytest

from hippo.store import DirectoryBlobs, PlanStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the plan's blobs lie."""
    return tmp_path / "store" / "plan"


@pytest.fixture
def store(folder: Path) -> PlanStore:
    return PlanStore(DirectoryBlobs(folder.parent), "plan")
