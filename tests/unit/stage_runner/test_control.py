"""Controls are looked for off the training path, and at once by a chain that stands still."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from hippo.protocol.assignments import Control, Route
from hippo.store import DirectoryBlobs, PlanStore, StoreError
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


class Counting(PlanStore):
    """A store on this machine, or said to be far away, that counts looks and may fail."""

    def __init__(self, folder: Path, *, is_remote: bool, fails: bool = False) -> None:
        blobs = DirectoryBlobs(folder)
        blobs.is_remote = is_remote
        super().__init__(blobs, "plan")
        self.fails = fails
        self.looks = 0

    def read_control(self, chain: str) -> Control | None:
        self.looks += 1
        if self.fails:
            raise StoreError("no answer")
        return super().read_control(chain)


@pytest.mark.parametrize(("is_remote", "most"), [(False, 45), (True, 7)])
def test_looks_of_one_that_waits_are_bounded(tmp_path: Path, is_remote: bool, most: int) -> None:
    """Each look at S3 is paid for; on this machine they come fast at first, then less often."""
    store = Counting(tmp_path, is_remote=is_remote)
    poller = Poller(store, "c1", poll_seconds=3600)
    try:
        poller.wait(0.3, interrupted=threading.Event())
    finally:
        poller.close()
    assert 1 <= store.looks <= most


def test_one_that_trains_looks_no_faster_after_it_has_waited(tmp_path: Path) -> None:
    store = Counting(tmp_path, is_remote=False)
    poller = Poller(store, "c1", poll_seconds=3600)
    try:
        poller.wait(0.05, interrupted=threading.Event())
        before = store.looks
        threading.Event().wait(0.15)
        assert store.looks <= before + 1  # the one that had begun
    finally:
        poller.close()


def test_a_moment_s_failure_of_a_local_store_is_no_failure_of_the_chain(tmp_path: Path) -> None:
    """Twenty failures in a row are: looks every 2 ms would come to that in 40 ms."""
    store = Counting(tmp_path, is_remote=False, fails=True)
    poller = Poller(store, "c1", poll_seconds=3600)
    try:
        poller.wait(0.3, interrupted=threading.Event())
        assert store.looks <= 7
        assert poller.take() is None
    finally:
        poller.close()
