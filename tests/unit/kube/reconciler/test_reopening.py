"""A study that has ended goes on in a cluster: by an edit, or by an annotation; nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hippo.kube.resources import STUDY, TRIAL, Document
from hippo.protocol.reports import Ended, Outcome, WorkerError
from hippo.store import PlanStore
from tests.model_checking.store import MemoryBlobs
from tests.model_checking.workers import Worker
from tests.model_checking.world import World
from tests.unit.kube.memory import NAMESPACE

GRID: dict[str, Any] = {
    "steps": 30,
    "space": {"lr": {"choices": [0.1, 0.2]}},
    "algorithm": {"name": "grid"},
    "parallelism": 2,
}


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.start_operator(0, "hippo")
    yield made
    made.close()


def go_on(world: World, until: Callable[[], Any], rounds: int = 200) -> None:
    for _ in range(rounds):
        world.go_on(actions=3, seconds=1.0)
        world.check()
        if until():
            return
    raise AssertionError(f"in vain: {[study.get('status') for study in world.studies()]}")


def status(world: World) -> Document:
    found: Document = world.server.find(STUDY, "s").get("status") or {}
    return found


def is_at_rest(world: World, phase: str) -> Callable[[], bool]:
    def look() -> bool:
        plans = world.operators[0].plans
        return status(world).get("phase") == phase and all(p.reconciler is None for p in plans)

    return look


def condition(world: World, type_: str) -> tuple[str, str]:
    (found,) = [c for c in status(world)["conditions"] if c["type"] == type_]
    return found["status"], found["reason"]


def steps_stored(world: World) -> list[int]:
    (task,) = world.operators[0].plans
    store = PlanStore(MemoryBlobs(world.blobs), f"{NAMESPACE}/{task.name}")
    return [manifest.step for manifest in store.load().manifests.values()]


def test_a_spent_budget_saves_what_runs_and_an_edit_goes_on_from_there(world: World) -> None:
    world.apply("s", **GRID, budget={"wallTime": "5s"})
    go_on(world, is_at_rest(world, "Failed"))
    assert status(world)["message"].startswith(
        "its budget of 5s of wall time is spent; raise spec.budget.wallTime above "
    )
    assert status(world)["message"].endswith(" and apply it to go on")
    assert condition(world, "Failed") == ("True", "Failed")
    assert status(world)["endedAt"]
    assert len(steps_stored(world)) == 2
    assert all(step > 5 for step in steps_stored(world))
    world.server.change_spec(STUDY, "s", budget={"wallTime": "3s"})
    go_on(world, lambda: status(world)["observedGeneration"] == 2)
    assert status(world)["phase"] == "Failed"
    world.server.change_spec(STUDY, "s", budget={"wallTime": "1h"})
    go_on(world, lambda: status(world)["phase"] == "Running")
    assert condition(world, "Failed") == ("False", "Reopened")
    assert condition(world, "Complete")[0] == "False"
    assert "endedAt" not in status(world)
    assert {world.server.find(TRIAL, n)["spec"]["stop"] for n in ("s-0", "s-1")} == {False}
    go_on(world, is_at_rest(world, "Succeeded"))
    assert condition(world, "Complete") == ("True", "Succeeded")
    assert set(world.trained.values()) == {1}, "nothing is trained twice"
    assert sum(world.trained.values()) == 2 * 30
    world.check_end()
    told = [(event["reason"], event["message"]) for event in events(world)]
    assert ("Reopened", "it goes on, with 2 trials that its end had stopped") in told
    (kept,) = [message for reason, message in told if reason == "Notice"]
    assert kept.startswith("it stays as it ended: its budget of 3s of wall time is spent; raise")


def events(world: World) -> list[Document]:
    """That are still to be posted."""
    queue = world.operators[0].operator.events._queue
    return [queue.get_nowait() for _ in range(queue.qsize())]


def test_more_trials_may_be_asked_for_after_the_end(world: World) -> None:
    world.apply("s", **GRID | {"algorithm": {"name": "random"}, "steps": 6}, maxTrials=1)
    go_on(world, is_at_rest(world, "Succeeded"))
    world.server.change_spec(STUDY, "s", maxTrials=2)
    go_on(world, lambda: status(world)["phase"] == "Running")
    assert condition(world, "Complete") == ("False", "Reopened")
    go_on(world, is_at_rest(world, "Succeeded"))
    assert status(world)["progress"] == "2/2"
    assert set(world.trained.values()) == {1}
    world.check_end()


def test_failed_trials_are_tried_again_once_for_each_value_of_the_annotation(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = True
    train = Worker._train

    def fail(worker: Worker) -> Iterator[None]:
        for _ in train(worker):
            if broken and worker.step >= 3:
                error = WorkerError(during="step", message="no room", step=worker.step)
                worker._report(Ended, worker.step, outcome=Outcome.FAILED, error=error)
                worker.exit_code = 1
                return
            yield

    monkeypatch.setattr(Worker, "_train", fail)
    world.apply("s", **GRID, retries=0)
    go_on(world, is_at_rest(world, "Failed"))
    assert status(world)["message"] == (
        "no trial succeeded: no room; mend it and set the annotation hippo.dev/retry-failed to a"
        " new value"
    )
    world.annotate("s", "1")
    go_on(world, lambda: status(world).get("retried") == "1")
    go_on(world, is_at_rest(world, "Failed"))
    kinds = [d["kind"] for d in world.server.find(TRIAL, "s-0")["spec"]["decisions"]]
    assert kinds == ["suggest", "fail", "reopen", "fail"]
    broken = False
    world.server.now += 100
    go_on(world, is_at_rest(world, "Failed"))
    world.annotate("s", "2")
    go_on(world, is_at_rest(world, "Succeeded"))
    world.check_end()
    world.kill_operator(0)
    world.start_operator(0, "hippo")
    go_on(world, is_at_rest(world, "Succeeded"))
    kinds = [d["kind"] for d in world.server.find(TRIAL, "s-0")["spec"]["decisions"]]
    assert kinds == ["suggest", "fail", "reopen", "fail", "reopen"]


def test_a_misspelt_metric_is_mended_by_another_study_that_reuses_all(world: World) -> None:
    world.apply("s", **GRID)
    world.server.change_spec(STUDY, "s", objective={"metric": "scroe", "goal": "maximize"})
    go_on(world, is_at_rest(world, "Failed"))
    assert status(world)["message"] == (
        "no trial succeeded: metric 'scroe' is not among those that evaluate() returned (score);"
        " delete the study, mend spec.objective.metric and create it again: results are reused"
    )
    assert condition(world, "Failed") == ("True", "Failed")
    trained = dict(world.trained)
    world.delete_study("s")
    go_on(world, lambda: not world.operators[0].plans or world.server.now > 300)
    world.apply("s", **GRID)
    go_on(world, is_at_rest(world, "Succeeded"))
    assert world.trained == trained
    world.check_end()
