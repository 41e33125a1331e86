"""An image whose Hippo does not fit: told apart from a trainer's failure, and charged to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hippo.kube import names
from hippo.kube.controller.plan_change import may_move
from hippo.kube.pods.state import Cause, observe, outcome
from hippo.kube.resources import SEARCH_PLAN, STUDY
from hippo.kube.status.written import read_study_status
from hippo.protocol.compatibility import EXIT_INCOMPATIBLE, MARK
from hippo.protocol.reports import Outcome
from tests.model_checking.world import World

OLD = (
    "--assignment /etc/hippo/assignment.json was written by a newer Hippo: build the trainer's"
    " image with the operator's version of Hippo"
)
NEW = f"{MARK}--assignment /etc/hippo/assignment.json was written by a newer Hippo"
BAD_FORMAT = "exec /usr/bin/python3: exec format error"
NO_PYTHON = 'failed to create containerd task: exec: "python3": executable file not found in $PATH'
RETRIES = 1


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    world.apply("s", steps=12, retries=RETRIES, space={"lr": {"choices": [0.1, 0.2, 0.3]}})
    world.start_operator(0, "hippo")
    take_turns(world)
    yield world
    world.close()


def take_turns(world: World, number: int = 1) -> None:
    world.go_on(number, seconds=5.0)


def end(world: World, code: int, words: str, reason: str = "Error") -> int:
    """All pods that wait or run end so; how many."""
    found = world.pods("Pending", "Running")
    for pod in found:
        world.workers.pop(pod["metadata"]["uid"], None)
        ended = {"exitCode": code, "reason": reason, "message": words, "finishedAt": "2027-01-01"}
        container = {
            "name": names.TRAINER_CONTAINER,
            "imageID": "sha256:incompatible",
            "state": {"terminated": ended},
        }
        world.server.set_pod_status(pod, {"phase": "Failed", "containerStatuses": [container]})
    return len(found)


def begin(world: World) -> None:
    """Pods are seen while they run, with the image that they run."""
    for pod in world.pods("Pending"):
        container = {
            "name": names.TRAINER_CONTAINER,
            "imageID": "sha256:incompatible",
            "state": {"running": {"startedAt": "2027-01-01T00:00:00Z"}},
        }
        world.server.set_pod_status(pod, {"phase": "Running", "containerStatuses": [container]})


def status(world: World) -> Any:
    return world.server.find(STUDY, "s")["status"]


def condition(world: World) -> Any:
    return next(c for c in status(world)["conditions"] if c["type"] == names.PROGRESSING)


def finish(world: World) -> None:
    for _ in range(120):
        take_turns(world)
        world.serve_pods(actions=3)
        world.check()
        if status(world).get("phase") in ("Succeeded", "Failed"):
            break
    take_turns(world, 10)
    world.check_end()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "words", "reason"),
    [(2, OLD, "Error"), (EXIT_INCOMPATIBLE, NEW, "Error"), (128, NO_PYTHON, "StartError")],
)
def test_a_study_whose_image_does_not_fit_waits_and_says_why(
    world: World, code: int, words: str, reason: str
) -> None:
    begin(world)
    take_turns(world)
    launched = end(world, code, words, reason)
    assert launched > 1
    take_turns(world, 60)
    assert not world.pods("Pending", "Running"), "no other is launched"
    assert len(world.server.pods()) == launched
    assert status(world)["phase"] == "Running"
    assert status(world)["trials"]["failed"] == 0
    told = condition(world)
    assert (told["status"], told["reason"]) == ("False", names.REASON_IMAGE_UNFIT)
    assert "does not fit this operator" in told["message"]
    assert "spec.trainer.image" in told["message"]
    assert "\n" not in told["message"]
    assert status(world)["message"] == told["message"]
    (plan,) = (world.server.find(SEARCH_PLAN, name) for name in world.server.names(SEARCH_PLAN))
    assert plan["status"].get("imageId") is None, "the tag may be another image's soon"
    queue = world.operators[0].operator.events._queue
    events = [queue.get_nowait() for _ in range(queue.qsize())]
    assert [e["reason"] for e in events].count(names.REASON_IMAGE_UNFIT) == 1
    assert names.REASON_CHAIN_FAILED not in {e["reason"] for e in events}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["edited", "asked for", "operator restarted"])
def test_it_goes_on_when_something_has_changed(world: World, how: str) -> None:
    for _ in range(RETRIES + 2):  # more often than failures are forgiven
        end(world, 2, OLD)
        take_turns(world, 5)
        assert not world.pods("Pending", "Running")
        if how == "edited":
            parallelism = world.server.find(STUDY, "s")["spec"].get("parallelism", 3)
            world.server.change_spec(STUDY, "s", parallelism=parallelism + 1)
        elif how == "asked for":
            world.annotate("s", f"wish {world.server.now}")
        else:
            world.kill_operator(0)
            world.start_operator(0, "hippo")
        take_turns(world, 3)
        assert world.pods("Pending", "Running")
    finish(world)
    assert condition(world)["reason"] == names.REASON_SUCCEEDED


def test_its_image_may_be_edited(world: World) -> None:
    """What was not trained moves to the plan of its new trainer (``test_moving.py``)."""
    end(world, EXIT_INCOMPATIBLE, NEW)
    take_turns(world, 5)
    assert may_move(read_study_status(world.server.find(STUDY, "s")))


def test_what_outlives_its_driver_is_not_tried_again(world: World) -> None:
    end(world, 2, OLD)
    take_turns(world, 3)
    before = len(world.server.pods())
    operator = world.operators[0].operator
    for worker in operator.plans.values():
        world.run(0, worker._drop())  # as after a failure of the store
    take_turns(world, 20)
    assert len(world.server.pods()) == before
    assert condition(world)["reason"] == names.REASON_IMAGE_UNFIT


@pytest.mark.parametrize(
    ("code", "words"), [(2, "usage: trainer.py"), (2, ""), (EXIT_INCOMPATIBLE, "bye"), (1, NEW)]
)
def test_a_trainer_that_ends_like_that_is_charged(world: World, code: int, words: str) -> None:
    for _ in range(60):
        end(world, code, words)
        take_turns(world)
        if status(world).get("phase") == "Failed":
            break
    assert status(world)["phase"] == "Failed"
    assert len(world.server.pods()) == status(world)["trials"]["failed"] * (1 + RETRIES)


def test_a_trainer_that_says_so_once_it_has_begun_is_charged(world: World) -> None:
    for _ in range(60):
        for pod in world.pods("Pending"):
            world.start_pod(pod)
            world.work(pod)
            world.work(pod)  # it reports that it has begun
        take_turns(world)
        if not world.pods("Pending"):
            end(world, EXIT_INCOMPATIBLE, NEW)
        take_turns(world)
        if status(world).get("phase") == "Failed":
            break
    assert status(world)["phase"] == "Failed"
    assert "does not fit" not in status(world)["message"]


def ended_pod(code: int, words: str, reason: str, command: list[str]) -> Any:
    ended = {"exitCode": code, "message": words, "reason": reason, "finishedAt": "2027-01-01"}
    return {
        "spec": {"containers": [{"name": names.TRAINER_CONTAINER, "command": command}]},
        "status": {
            "phase": "Failed",
            "containerStatuses": [
                {"name": names.TRAINER_CONTAINER, "state": {"terminated": ended}}
            ],
        },
    }


@pytest.mark.parametrize(
    ("words", "reason", "command", "cause"),
    [
        (NO_PYTHON, "StartError", list(names.RUNNER), Cause.INCOMPATIBLE),
        (
            "exec /usr/bin/python3: exec format error",
            "StartError",
            names.RUNNER,
            Cause.INCOMPATIBLE,
        ),
        (NO_PYTHON, "StartError", ["python3", "mine.py"], Cause.CONFIG),  # of a template
        ("cannot set rlimits", "StartError", list(names.RUNNER), Cause.CONFIG),
    ],
)
def test_a_container_that_cannot_start(words: str, reason: str, command: Any, cause: Cause) -> None:
    state = observe(ended_pod(128, words, reason, list(command)))
    assert state.cause is cause
    assert outcome(state) is (Outcome.REFUSED if cause is Cause.INCOMPATIBLE else Outcome.LOST)


def test_what_kubernetes_states_goes_first() -> None:
    pod = ended_pod(2, OLD, "OOMKilled", list(names.RUNNER))
    assert observe(pod).cause is Cause.OUT_OF_MEMORY
