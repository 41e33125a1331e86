"""What the operator removes from the store: nothing of a study that there is."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from hippo.gc import Swept
from hippo.kube.controller.store_gc import mark_missing, sweep_store
from hippo.kube.settings import build_holder
from hippo.store import DirectoryBlobs, Holder, LockHeld, PlanLock, PlanStore, StoreError, clusters
from tests.unit.gc.stored import STEPS, StoredPlan

HOLDER = build_holder("hippo")
ONE: dict[str, Any] = {"lr": 0.1}
TWO: dict[str, Any] = {"lr": 0.2}
STAMP = "research/cluster.json"


class World:
    """A plan with studies that have ended, each with a best checkpoint."""

    def __init__(self, tmp_path: Path, **described: Any) -> None:
        self.blobs = DirectoryBlobs(tmp_path / "store")
        self.plan = StoredPlan(self.blobs, "research", **described)
        self.store: PlanStore = self.plan.store
        clusters.adopt(self.blobs, "research", "here")

    def add(self, name: str, written: dict[str, Any], uid: str | None, ttl: str = "0s") -> str:
        """The key of its best checkpoint."""
        key = self.plan.add_checkpoint(written, STEPS)
        self.plan.add_study(name, written, best=key, ttl=ttl)
        if uid is not None:
            self.store.write_study(name, {**self.store.read_study(name), "uid": uid})
        return key

    def sweep(
        self,
        *live: str,
        known: str = "",
        open_: str = "",
        cluster: str | None = "here",
        unswept: dict[str, str] | None = None,
    ) -> list[Swept]:
        return sweep_store(
            self.blobs,
            set(live),
            HOLDER,
            namespaces=(),
            is_open=lambda path: path == open_,
            is_known=lambda uid: uid == known,
            cluster=cluster,
            unswept=unswept,
        )

    def is_deleted(self, name: str) -> bool:
        return self.store.read_study(name).get("deleted") is not None

    def documents(self) -> dict[str, dict[str, Any]]:
        return {name: self.store.read_study(name) for name in self.store.list_studies()}


def test_what_a_deleted_study_kept_goes_after_its_ttl(tmp_path: Path) -> None:
    world = World(tmp_path)
    ours, theirs = world.add("a", ONE, "uid-a"), world.add("b", TWO, "uid-b", "7d")
    assert [swept.checkpoints for swept in world.sweep("uid-a", "uid-b")] == [0]
    assert world.plan.stored() == {ours, theirs}
    world.sweep("uid-b")
    assert (world.plan.stored(), world.store.list_studies()) == ({theirs}, ["b"])
    world.sweep()
    assert world.plan.stored() == {theirs}, "for seven days more"
    assert world.is_deleted("b")


def test_a_plan_without_studies_goes_altogether(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("a", ONE, "uid-a")
    (swept,) = world.sweep()
    assert swept.is_gone
    assert [info.name for info in world.blobs.list("")] == [STAMP]


def test_a_study_that_came_while_the_store_was_swept_is_safe(tmp_path: Path) -> None:
    """Its plan was opened and closed again after the Studies had been listed."""
    world = World(tmp_path)
    key = world.add("late", ONE, "uid-late")
    world.sweep("uid-other", known="uid-late")
    assert world.plan.stored() == {key}
    assert not world.is_deleted("late")


def test_open_plans_and_those_of_others_are_left_alone(tmp_path: Path) -> None:
    world, local = World(tmp_path), World(tmp_path, version="2")
    key, theirs = world.add("a", ONE, "uid-a"), local.add("b", ONE, None)
    assert world.sweep(open_=world.store.plan) == []
    assert (world.plan.stored(), local.plan.stored()) == ({key}, {theirs})


def test_one_plans_trouble_hides_no_others(tmp_path: Path) -> None:
    worlds = [World(tmp_path, version=str(number)) for number in range(4)]
    for world in worlds:
        world.add("a", ONE, "uid-a")
    worlds.sort(key=lambda world: world.store.plan)
    held, locked, damaged, sound = worlds
    lock = PlanLock(held.store, replace(Holder.current(), host="elsewhere"))
    lock.acquire()
    worlds[0].blobs.put(f"{locked.store.plan}/lock/00000001.json", b"nonsense")
    name = next(i.name for i in damaged.blobs.list(damaged.store.plan) if "/study.json" in i.name)
    damaged.blobs.put(name, b"nonsense")
    unswept: dict[str, str] = {}
    assert [swept.plan for swept in sound.sweep(unswept=unswept)] == [sound.store.plan]
    assert unswept.keys() == {locked.store.plan, damaged.store.plan}
    assert "delete it if no other hippo uses this store" in unswept[locked.store.plan]


def test_whoever_is_killed_in_a_sweep_keeps_no_study_waiting(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("a", ONE, "uid-a")
    killed = replace(HOLDER, process_start="1")
    PlanLock(world.store, killed, seconds=300.0).acquire()
    mark_missing(world.blobs, world.store.plan, set(), HOLDER, now=time.time())
    assert world.is_deleted("a")
    with PlanLock(world.store, HOLDER), pytest.raises(LockHeld):
        mark_missing(world.blobs, world.store.plan, set(), HOLDER, now=time.time())


def test_another_clusters_studies_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever has been given a bucket and prefix twice."""
    world = World(tmp_path)
    key = world.add("a", ONE, "uid-a")
    for cluster in ("there", None):
        assert world.sweep("uid-of-its-own", cluster=cluster) == []
        assert not world.is_deleted("a")
    assert world.plan.stored() == {key}
    (line, _) = [record.getMessage() for record in caplog.records]
    assert (
        "research is not swept: namespace research of the store belongs to the cluster here" in line
    )
    assert "hippo store adopt -n research --cluster-uid there STORE" in line


@pytest.mark.parametrize("cluster", ["there", None])
def test_a_namespace_without_a_stamp_is_not_taken_by_who_knows_nobody_there(
    tmp_path: Path, cluster: str | None
) -> None:
    world = World(tmp_path)
    world.add("a", ONE, "uid-a", ttl="7d")
    world.blobs.delete(STAMP)
    assert world.sweep("uid-of-its-own", cluster=cluster) == []
    assert not world.is_deleted("a")
    assert clusters.read_stamp(world.blobs, "research") is None
    clusters.adopt(world.blobs, "research", "there")
    world.sweep("uid-of-its-own", cluster="there")
    assert world.is_deleted("a")


def test_an_earlier_versions_namespace_is_stamped_by_who_knows_a_study_there(
    tmp_path: Path,
) -> None:
    world = World(tmp_path)
    world.add("a", ONE, "uid-a", ttl="7d")
    world.add("b", TWO, "uid-b")
    world.blobs.delete(STAMP)
    world.sweep("uid-b")
    assert world.is_deleted("a")
    assert not world.is_deleted("b")
    assert clusters.read_stamp(world.blobs, "research") == "here"


def test_the_studies_of_hippo_run_are_no_clusters(tmp_path: Path) -> None:
    world = World(tmp_path)
    key = world.add("local", ONE, None)
    world.blobs.delete(STAMP)
    assert world.sweep("uid-of-its-own", cluster="there") == []
    assert world.plan.stored() == {key}
    assert clusters.read_stamp(world.blobs, "research") is None, "nothing there was touched"


def test_one_namespaces_stamp_hides_no_other(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("a", ONE, "uid-a")
    other = StoredPlan(world.blobs, "other")
    other.add_study("a", ONE, best=None)
    other.store.write_study("a", {**other.store.read_study("a"), "uid": "uid-o"})
    newer = b'{"formatVersion": 9, "cluster": "here", "since": 0}'
    for damage in (b"nonsense", newer, b"{}", b" " * 10**7):
        world.blobs.put("other/cluster.json", damage)
        assert [swept.plan for swept in world.sweep("uid-a")] == [world.store.plan]
        assert other.store.read_study("a").get("deleted") is None


class Failing(DirectoryBlobs):
    """Its network goes down when studies are read."""

    def get(self, name: str, *, at_most: int | None = None) -> bytes:
        if name.endswith("study.json"):
            raise StoreError("the network is down")
        return super().get(name, at_most=at_most)

    def stream(self, name: str) -> AbstractContextManager[BinaryIO]:
        return nullcontext(BytesIO(self.get(name)))


def test_a_store_that_fails_while_it_is_looked_at_is_nobodys(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.add("a", ONE, "uid-a")
    world.blobs.delete(STAMP)
    with pytest.raises(StoreError, match="the network is down"):
        clusters.claim(Failing(str(world.blobs)), "research", "there", is_known=lambda uid: False)
    assert clusters.read_stamp(world.blobs, "research") is None


def test_a_damaged_study_hides_none_that_the_cluster_knows(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in ("a", "b", "c"):
        world.add(name, ONE, f"uid-{name}")
    world.blobs.delete(STAMP)
    world.blobs.put(f"{world.store.plan}/studies/a/study.json", b"nonsense")
    clusters.claim(world.blobs, "research", "there", is_known=lambda uid: uid == "uid-c")
    assert clusters.read_stamp(world.blobs, "research") == "there"
