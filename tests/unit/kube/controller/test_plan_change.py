"""A trainer that was misspelt is mended before anything was trained: the study begins afresh."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from hippo.kube.client import ApiError
from hippo.kube.controller import study_moves as module
from hippo.kube.controller.controller import Operator
from hippo.kube.controller.plan_change import may_move
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY, TRIAL
from hippo.kube.status.models import StudyStatus
from hippo.store import DirectoryBlobs, PlanStore
from tests.unit.kube.controller.test_controller import edited, operating, phase, quickly, until
from tests.unit.kube.memory import NAMESPACE, MemoryApi, add_study, run

__all__ = ["quickly"]
MENDED = {"entrypoint": "trainer:Trainer", "image": "digits:2"}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOVE_SECONDS", 0.02)


class Cluster:
    def __init__(self, tmp_path: Path) -> None:
        self.server = MemoryApi()
        self.blobs = DirectoryBlobs(tmp_path / "store")

    def edit(self, study: str, **spec: Any) -> Any:
        """As a user does; the CRD's rule has let it pass."""
        key = (STUDY.plural, NAMESPACE, study)
        self.server.objects[key] = edited(self.server.objects[key], **spec)
        return self.server.objects[key]

    def plan_of(self, study: str) -> str:
        """Empty while it begins afresh."""
        return str((self.server.find(STUDY, study).get("status") or {}).get("plan") or "")

    def images(self) -> set[str]:
        pods = [self.server.find(POD, name) for name in self.server.names(POD)]
        return {pod["spec"]["containers"][0]["image"] for pod in pods}

    def of_study(self, name: str, plan: str) -> Any:
        return PlanStore(self.blobs, f"{NAMESPACE}/{plan}").read_study(name)

    def has_settled(self, study: str, before: str) -> bool:
        server = self.server
        status = server.find(STUDY, study).get("status") or {}
        return (
            status.get("phase") == "Running"
            and status.get("plan") not in (None, before)
            and before not in server.names(SEARCH_PLAN)
            and self.images() == {"digits:2"}
        )


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


def test_what_was_not_trained_moves_to_the_plan_of_its_new_trainer(
    cluster: Cluster, tmp_path: Path
) -> None:
    async def go() -> None:
        server = cluster.server
        await add_study(server, "a")
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: len(server.names(POD)) == 2, "pods")
            await until(lambda: phase(server, "a") == "Running", "it runs")
            before, uids = cluster.plan_of("a"), [_uid(server, n) for n in server.names(TRIAL)]
            assert server.find(STUDY, "a")["status"]["stepsTrained"] == 0
            document = cluster.edit("a", trainer=MENDED)
            await made.study_changed(document, is_gone=False)
            await made.study_changed(document, is_gone=False)  # a watch that repeats itself
            watch = asyncio.create_task(_watch_pods(server, made))
            await until(lambda: cluster.has_settled("a", before), "it has moved")
            await until(lambda: len(server.names(POD)) == 2, "new pods")
            watch.cancel()
            assert not set(uids) & {_uid(server, n) for n in server.names(TRIAL)}
            assert cluster.of_study("a", before)["deleted"] is not None
            assert cluster.of_study("a", cluster.plan_of("a")).get("deleted") is None
            at_work = [task.name for task in made.plans.values() if task.reconciler is not None]
            assert at_work == [cluster.plan_of("a")]

    run(go())


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["list", "delete", "status"])
def test_an_operator_that_is_killed_on_the_way_is_followed_by_one_that_finishes(
    cluster: Cluster, tmp_path: Path, verb: str
) -> None:
    async def go() -> None:
        server = cluster.server
        await add_study(server, "a")
        async with operating(server, tmp_path) as first:
            await first.resync.look_again()
            await until(lambda: phase(server, "a") == "Running", "it runs")
            before = cluster.plan_of("a")
        for name in server.names(POD):  # its image was never there
            del server.objects[POD.plural, NAMESPACE, name]
        cluster.edit("a", trainer=MENDED)
        is_down = True

        def fail(asked: str, plural: str, name: str) -> ApiError | None:
            is_it = is_down and asked == verb and (verb != "list" or plural == TRIAL.plural)
            return ApiError(0, "it is down") if is_it else None

        server.fail = fail
        async with operating(server, tmp_path) as second:
            with contextlib.suppress(ApiError):
                await second.resync.look_again()
            await until(lambda: any(call[0] == verb for call in server.calls[-3:]), "it fails")
        is_down = False
        async with operating(server, tmp_path) as third:
            await third.resync.look_again()
            await until(lambda: cluster.has_settled("a", before), "it has moved")
            assert cluster.of_study("a", before)["deleted"] is not None

    run(go())


def test_other_studies_of_the_plan_that_it_leaves_go_on(cluster: Cluster, tmp_path: Path) -> None:
    async def go() -> None:
        server = cluster.server
        await add_study(server, "a")
        await add_study(server, "b")
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: len(server.names(POD)) == 2, "pods")
            await until(lambda: phase(server, "b") == "Running", "b runs")
            before, pods = cluster.plan_of("a"), server.names(POD)
            await made.study_changed(cluster.edit("a", trainer=MENDED), is_gone=False)
            await until(lambda: cluster.plan_of("a") not in ("", before), "a has moved")
            await until(lambda: len(server.names(POD)) == 4, "pods of both")
            assert set(pods) < set(server.names(POD))
            owners = server.find(SEARCH_PLAN, before)["metadata"]["ownerReferences"]
            assert [owner["name"] for owner in owners] == ["b"]
            await until(lambda: cluster.of_study("a", before)["deleted"], "the store knows")
            assert cluster.of_study("b", before).get("deleted") is None
            assert phase(server, "b") == "Running"
            assert cluster.plan_of("b") == before

    run(go())


def test_memory_and_nodes_may_be_mended_in_place(cluster: Cluster, tmp_path: Path) -> None:
    async def go() -> None:
        server = cluster.server
        await add_study(server, "a", parallelism=1)
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: phase(server, "a") == "Running", "it runs")
            (pod,) = server.names(POD)
            trainer = {
                "entrypoint": "trainer:Trainer",
                "image": "digits:1",
                "resources": {"requests": {"memory": "1Gi"}},
            }
            before = cluster.plan_of("a")
            await made.study_changed(cluster.edit("a", trainer=trainer), is_gone=False)
            await until(lambda: server.find(STUDY, "a")["status"]["observedGeneration"] == 2, "it")
            del server.objects[POD.plural, NAMESPACE, pod]
            made.pod_changed({"metadata": _metadata(pod, before)}, is_gone=True)
            await until(lambda: server.names(POD) not in ([], [pod]), "another pod")
            (pod,) = server.names(POD)
            container = server.find(POD, pod)["spec"]["containers"][0]
            assert container["resources"]["requests"]["memory"] == "1Gi"
            assert cluster.plan_of("a") == before

    run(go())


@pytest.mark.parametrize(
    ("status", "may"),
    [
        ({}, True),
        ({"phase": "Pending", "plan": "p"}, True),
        ({"phase": "Running", "steps_trained": 0, "steps_reached": 0}, True),
        ({"phase": "Failed", "steps_trained": 0, "steps_reached": 0}, True),
        ({"phase": "Running", "steps_trained": 1, "steps_reached": 0}, False),
        ({"phase": "Running", "steps_trained": 0, "steps_reached": 4}, False),
        ({"phase": "Running", "steps_reached": 0}, False),  # of a version that did not count them
        ({"phase": "Succeeded", "steps_reached": 4}, False),
    ],
)
def test_only_what_was_not_trained_moves(status: dict[str, Any], may: bool) -> None:
    assert may_move(StudyStatus(**status)) is may


async def _watch_pods(server: MemoryApi, made: Operator) -> None:
    told: dict[str, Any] = {}
    while True:
        for name in server.names(POD):
            told[name] = server.find(POD, name)
            made.pod_changed(told[name], is_gone=False)
        for name in told.keys() - set(server.names(POD)):
            made.pod_changed(told.pop(name), is_gone=True)
        await asyncio.sleep(0.01)


def _uid(server: MemoryApi, trial: str) -> str:
    return str(server.find(TRIAL, trial)["metadata"]["uid"])


def _metadata(pod: str, plan: str) -> Any:
    return {"name": pod, "namespace": NAMESPACE, "labels": {"hippo.dev/plan": plan}}


@pytest.mark.parametrize("plan", ["../../other/searchplans/" + "a" * 16, "a" * 17, "A" * 16, ""])
def test_a_status_that_names_no_plan_leads_nowhere(
    cluster: Cluster, tmp_path: Path, plan: str
) -> None:
    async def go() -> None:
        server = cluster.server
        await add_study(server, "a")
        server.find(STUDY, "a")["status"] = {"phase": "Pending", "plan": plan}
        async with operating(server, tmp_path) as made:
            await made.resync.look_again()
            await until(lambda: phase(server, "a") == "Running", "it runs")
            assert len(cluster.plan_of("a")) == 16

    run(go())
