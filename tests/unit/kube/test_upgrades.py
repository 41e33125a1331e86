"""A study that one version began, the next one finishes; what a newer one wrote is left alone."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from hippo.kube.crds.definitions import build_crds
from hippo.kube.names import ANNOTATION_ASSIGNMENT, ANNOTATION_FORMAT, CLUSTER_FORMAT
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY
from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION
from hippo.protocol.records import FORMAT_VERSION
from tests.model_checking.world import FINAL, World
from tests.unit.kube.structural import refusals

GOLDEN = sorted((Path(__file__).parents[2] / "golden").glob("*.json"))
NEWER = FORMAT_VERSION + 1


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def world(request: pytest.FixtureRequest) -> Any:
    world = World.restored(json.loads(request.param.read_text()))
    yield world
    world.close()


def test_a_study_begun_by_an_earlier_version_is_finished(world: World) -> None:
    before = set(world.trained)
    assert before
    (plan,) = (world.server.find(SEARCH_PLAN, name) for name in world.server.names(SEARCH_PLAN))
    recorded = [chain["name"] for chain in plan["status"]["chains"]]
    running = world.pods("Running")
    assert running, "pods of the earlier version are at work"

    world.start_operator(0, "hippo")
    world.go_on()
    status = world.server.find(SEARCH_PLAN, plan["metadata"]["name"])["status"]
    adopted = {chain["name"] for chain in status["chains"]}
    assert adopted & set(recorded), "they go on under the new version"
    for pod in running:  # then their node is drained
        world.server.remove(POD, pod["metadata"]["name"])
    finish(world)
    assert before < set(world.trained)


def finish(world: World) -> None:
    for _ in range(200):
        world.go_on()
        world.serve_pods(actions=3)
        world.server.now += 2.0
        world.check()  # also that nothing that was saved is trained again
        if all(study["status"]["phase"] in FINAL for study in world.studies()):
            break
    for _ in range(20):
        world.go_on()
        world.server.now += 3.0
    world.check_end()


def make_newer(world: World, part: str) -> None:
    for name, data in world.blobs.items():
        if f"/{part}" in name:
            document = json.loads(data.partition(b"\n")[0])
            line = json.dumps({**document, "formatVersion": NEWER, "more": True}).encode()
            seal = b'\n{"sha256":"%s"}\n' % hashlib.sha256(line).hexdigest().encode()
            world.blobs[name] = line + (seal if part == "manifests/" else b"")


@pytest.mark.parametrize("part", ["plan.json", "lock/", "manifests/", "reports/", "decisions/"])
def test_a_newer_store_is_left_alone(world: World, part: str) -> None:
    make_newer(world, part)
    check_left_alone(world, "written by a newer Hippo")


def test_a_newer_search_plan_is_left_alone(world: World) -> None:
    for name in world.server.names(SEARCH_PLAN):
        status = world.server.find(SEARCH_PLAN, name)["status"]
        status |= {"formatVersion": CLUSTER_FORMAT + 1, "chains": [{"id": "of a newer kind"}]}
    before = [without_notice(found) for found in objects(world)]
    check_left_alone(world, "run that version of the operator again")
    assert [without_notice(found) for found in objects(world)] == before


def check_left_alone(world: World, words: str) -> None:
    def rest() -> Any:
        """All but what says that it is left alone."""
        kept = (n for n in world.blobs if "/lock/" not in n and not n.endswith("/cluster.json"))
        store = {name: world.blobs[name] for name in kept}
        pods = [pod["metadata"]["name"] for pod in world.server.pods()]
        return store, pods, [without_notice(study) for study in world.studies()]

    before = json.dumps(rest(), default=str)
    world.start_operator(0, "hippo")
    for _ in range(3):
        world.go_on()
        world.server.now += 70.0
    assert json.dumps(rest(), default=str) == before
    queue = world.operators[0].operator.events._queue
    told = [queue.get_nowait() for _ in range(queue.qsize())]
    assert {event["reason"] for event in told} == {"NewerFormat"}
    assert all(words in event["message"] for event in told)
    assert "\n" not in told[0]["message"]
    for found in objects(world):
        condition = progressing(found)
        assert (condition["status"], condition["reason"]) == ("False", "NewerFormat")
        assert words in condition["message"]
    (study,) = world.studies()
    assert study["status"]["message"] == progressing(study)["message"]


def objects(world: World) -> list[Any]:
    plans = [world.server.find(SEARCH_PLAN, name) for name in world.server.names(SEARCH_PLAN)]
    return [*world.studies(), *plans]


def progressing(found: Any) -> Any:
    return next(c for c in found["status"]["conditions"] if c["type"] == "Progressing")


def without_notice(found: Any) -> Any:
    status = {**found["status"], "message": None}
    status["conditions"] = [c for c in status["conditions"] if c["type"] != "Progressing"]
    return status


NEXT = {"formatVersion": TIMED_ASSIGNMENT_VERSION + 1}
MORE = {"more": True}


def launch_newer(world: World, changes: dict[str, Any]) -> None:
    """Pods at work carry assignments that are not of this version."""
    for pod in world.pods("Running", "Pending"):
        annotations = pod["metadata"]["annotations"]
        document = json.loads(annotations[ANNOTATION_ASSIGNMENT])
        annotations[ANNOTATION_ASSIGNMENT] = json.dumps({**document, **changes})


@pytest.mark.parametrize("changes", [NEXT, MORE, NEXT | MORE, {"route": MORE}])
def test_pods_that_a_newer_version_launched_are_left_alone(
    world: World, changes: dict[str, Any]
) -> None:
    launch_newer(world, changes)
    before = [without_notice(found) for found in objects(world)]
    check_left_alone(world, "was launched by a newer Hippo and is at work: run that version")
    assert [without_notice(found) for found in objects(world)] == before


def test_once_such_pods_have_ended_the_plan_is_taken_up(world: World) -> None:
    launch_newer(world, NEXT)
    world.start_operator(0, "hippo")
    world.go_on()
    for pod in world.pods("Running", "Pending"):
        world.server.remove(POD, pod["metadata"]["name"])
    finish(world)
    for found in objects(world):
        assert progressing(found)["reason"] != "NewerFormat"


@pytest.mark.parametrize("again", [False, True], ids=["same operator", "started anew"])
def test_what_says_so_is_taken_back_by_who_takes_over(world: World, again: bool) -> None:
    (name,) = (name for name in world.blobs if name.endswith("plan.json"))
    ours = world.blobs[name]
    make_newer(world, "plan.json")
    world.start_operator(0, "hippo")
    world.go_on(2)
    assert {progressing(found)["reason"] for found in objects(world)} == {"NewerFormat"}
    world.blobs[name] = ours
    if again:
        world.kill_operator(0)
        world.start_operator(0, "hippo")
    world.server.now += 70.0
    world.go_on(3)
    assert {progressing(found)["reason"] for found in objects(world)} == {"Running"}
    (study,) = world.studies()
    assert "newer Hippo" not in study["status"]["message"]
    make_newer(world, "plan.json")  # and once more
    operator = world.operators[0].operator
    for worker in operator.plans.values():
        world.run(0, worker._drop())  # as after a failure of the store
    world.go_on(2)
    assert {progressing(found)["reason"] for found in objects(world)} == {"NewerFormat"}


def test_one_who_knows_better_is_not_contradicted_again_and_again(world: World) -> None:
    """A newer operator and an older one, while one replaces the other."""
    make_newer(world, "plan.json")
    world.start_operator(0, "hippo")
    world.go_on()
    (study,) = world.studies()
    progressing(study).update(status="True", reason="Running", message="")
    world.server.touch(study)
    for _ in range(3):
        world.server.now += 70.0
        world.go_on()
    assert progressing(world.studies()[0])["reason"] == "Running"


def test_definitions_that_lose_what_is_written_are_told_of(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = world.server.replace_status

    async def forgetful(resource: Any, namespace: str, name: str, body: Any) -> Any:
        status = {k: v for k, v in body["status"].items() if k != "formatVersion"}
        return await replace(resource, namespace, name, {**body, "status": status})

    monkeypatch.setattr(world.server, "replace_status", forgetful)
    world.start_operator(0, "hippo")
    world.go_on(2)
    (study,) = world.studies()
    assert "the CRDs in this cluster are older than this operator" in study["status"]["message"]
    assert world.server.pods() == world.pods("Running", "Succeeded", "Pending")


def test_objects_of_earlier_versions_fit_the_definitions_of_this_one(world: World) -> None:
    schemas = {
        crd["spec"]["names"]["plural"]: crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for crd in build_crds()
    }
    checked = 0
    for (plural, _, name), found in world.server.objects.items():
        if plural in schemas:
            parts = {part: found[part] for part in ("spec", "status") if part in found}
            assert not refusals(schemas[plural], parts), f"{plural} {name}"
            checked += 1
    assert checked > 3
    assert all(
        crd["metadata"]["annotations"] == {ANNOTATION_FORMAT: str(CLUSTER_FORMAT)}
        for crd in build_crds()
    )


def test_study_and_pods_are_there(world: World) -> None:
    """The golden files are what they are taken for."""
    assert world.server.names(STUDY) == ["s"]
    assert any("/reports/" in name for name in world.blobs)
