"""Priority where a quota or the nodes are the limit, by the operator's own rounds."""

from __future__ import annotations

from typing import Any

import pytest

from hippo.kube import names
from hippo.kube.resources import POD, SEARCH_PLAN, STUDY
from tests.model_checking.world import FINAL, World

STEPS = 6


class Crowded:
    """The model with so much room: quota, or nodes that take no more pods."""

    def __init__(self, world: World, room: int, *, by_quota: bool) -> None:
        self.world, self.room, self.by_quota = world, room, by_quota
        self.world.server.quota = room if by_quota else None
        self.began: list[str] = []
        """Studies, as their pods found room."""

    def go(self, rounds: int = 1, *, works: bool = True) -> None:
        world = self.world
        for _ in range(rounds):
            world.go_on()
            self.schedule()
            if works:
                for pod in world.pods("Running"):
                    world.work(pod)
            world.server.now += 1.0
            world.check()

    def schedule(self) -> None:
        for pod in self.world.pods("Pending"):
            if (
                len(self.world.pods("Running")) < self.room
                or "deletionTimestamp" in pod["metadata"]
            ):
                if "deletionTimestamp" not in pod["metadata"]:
                    self.began.append(pod["metadata"]["labels"][names.LABEL_STUDY])
                self.world.start_pod(pod)
            elif not pod.get("status"):
                self.world.refuse_room(pod)

    def apply(self, name: str, lrs: list[float], **spec: Any) -> None:
        algorithm = {"name": "grid"}
        space = {"lr": {"choices": lrs}}
        self.world.apply(name, steps=STEPS, space=space, algorithm=algorithm, **spec)

    def recorded(self) -> list[str]:
        (plan,) = self.world.server.names(SEARCH_PLAN)
        chains = self.world.server.find(SEARCH_PLAN, plan)["status"]["chains"]
        return sorted(chain["study"] for chain in chains)

    def phase(self, study: str) -> str:
        return str(self.world.server.find(STUDY, study)["status"]["phase"])


@pytest.mark.slow
@pytest.mark.parametrize("by_quota", [True, False])
@pytest.mark.parametrize("restarts", [False, True])
def test_queued_pods_are_taken_back_for_a_study_of_higher_priority(
    by_quota: bool, restarts: bool
) -> None:
    world = World()
    try:
        crowd = Crowded(world, room=1, by_quota=by_quota)
        crowd.apply("low", [0.1, 0.2, 0.3], parallelism=3)
        world.start_operator(0, "hippo")
        crowd.go(3, works=False)
        assert crowd.recorded() == ["low"] * 3
        crowd.apply("high", [0.5, 0.6], parallelism=2, priority=5)
        world.run(0, world.operators[0].operator.resync.look_again())
        for _ in range(6):
            if restarts:
                world.kill_operator(0)
                world.start_operator(0, "hippo")
            crowd.go(3, works=False)
        assert crowd.recorded() == ["high", "high", "low"], "the one that runs goes on"
        waiting = list(world.pods("Pending"))
        assert {pod["metadata"]["labels"][names.LABEL_STUDY] for pod in waiting} <= {"high"}
        if not restarts:
            assert world.server.count("create", POD) <= 8, "no pod is made to be taken back"
        while crowd.phase("high") not in FINAL:
            crowd.go()
            assert world.server.now < 200.0
        assert crowd.began[:3] == ["low", "high", "high"]
        while crowd.phase("low") not in FINAL:
            crowd.go()
            assert world.server.now < 400.0
        crowd.go(30)
        world.check_end()
        assert set(world.trained.values()) == {1}
        events = [d for (plural, *_), d in world.server.objects.items() if plural == "events"]
        assert not [event for event in events if event["type"] == "Warning"]
        assert world.server.count("create", POD) <= 12
    finally:
        world.close()


def test_a_study_whose_pods_were_taken_back_says_for_whom() -> None:
    world = World()
    try:
        crowd = Crowded(world, room=0, by_quota=False)
        crowd.apply("low", [0.1, 0.2], parallelism=2)
        world.start_operator(0, "hippo")
        crowd.go(3)
        crowd.apply("high", [0.5], parallelism=1, priority=5)
        world.run(0, world.operators[0].operator.resync.look_again())
        crowd.go(12)
        assert crowd.recorded() == ["high"]
        conditions = world.server.find(STUDY, "low")["status"]["conditions"]
        (told,) = [item for item in conditions if item["type"] == names.PROGRESSING]
        assert (told["status"], told["reason"]) == ("False", names.REASON_WAITING)
        assert (
            "study high has a higher priority, and its pods wait for room first"
            in (told["message"])
        )
    finally:
        world.close()
