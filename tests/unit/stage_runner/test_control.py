"""Controls are looked for off the training path, and at once by a chain that stands still."""

from __future__ import annotations

import threading
from pathlib import Path

from hippo.store import DirectoryBlobs, PlanStore
from hippo.store.records import Control, Route
from stage_runner.control import Poller


def test_one_that_waits_does_not_wait_for_the_next_look(tmp_path: Path) -> None:
    store = PlanStore(DirectoryBlobs(tmp_path), "plan")
    poller = Poller(store, "c1", poll_seconds=3600)
    try:
        for version in (1, 2):
            route = Route(hyperparameters={"lr": 0.1}, steps=10, stop_at=version)
            store.write_control(Control(chain="c1", version=version, route=route))
            poller.wait(30, interrupted=threading.Event())
            control = poller.take()
            assert control is not None
            assert control.version == version
        assert poller.take() is None
    finally:
        poller.close()
