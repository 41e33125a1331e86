"""Studies are marked as deleted, and a mark stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hippo.gc import forget_missing
from hippo.store import DirectoryBlobs
from tests.unit.gc.stored import StoredPlan

ONE: dict[str, Any] = {"lr": 0.1}


def test_studies_whose_objects_are_gone_are_marked_as_deleted(tmp_path: Path) -> None:
    plan = StoredPlan(DirectoryBlobs(tmp_path / "store"))
    store = plan.store
    for name, uid in {"a": "uid-a", "b": "uid-b", "local": None}.items():
        plan.add_study(name, ONE)
        if uid is not None:
            store.write_study(name, {**store.read_study(name), "uid": uid})

    def documents() -> dict[str, dict[str, Any]]:
        return {name: store.read_study(name) for name in store.list_studies()}

    known = documents()
    assert forget_missing(store, known, {"uid-b"}, now=5.0) == ["a"]
    assert known == documents()
    deleted = {name: document.get("deleted") for name, document in known.items()}
    assert deleted == {"a": 5.0, "b": None, "local": None}
    assert forget_missing(store, known, {"uid-b"}, now=7.0) == []
    assert known["a"]["deleted"] == 5.0
