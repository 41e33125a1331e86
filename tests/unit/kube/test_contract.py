"""The Kubernetes driver keeps the contract of drivers, in a modelled cluster."""

from __future__ import annotations

import logging

import pytest

from hippo.kube.resources import STUDY, TRIAL
from hippo.store import PlanStore
from tests.driver_contract import Document, DriverContract, Run
from tests.model_checking.store import MemoryBlobs
from tests.model_checking.world import World
from tests.unit.kube.memory import NAMESPACE

ROUNDS = 200


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


class TestOperator(DriverContract):
    def run(self, *studies: Document) -> Run:
        world = World()
        try:
            for study in studies:
                world.apply(study["metadata"]["name"], **study["spec"])
            world.start_operator(0, "hippo")
            for _ in range(ROUNDS):
                world.go_on(actions=4, seconds=3.0)
                world.check()
            world.check_end()
            return read_run(world)
        finally:
            world.close()


def read_run(world: World) -> Run:
    found = world.studies()
    (plan,) = {study["status"]["plan"] for study in found}
    store = PlanStore(MemoryBlobs(world.blobs), f"{NAMESPACE}/{plan}")
    names = [study["metadata"]["name"] for study in found]
    results: dict[str, dict[tuple[int, int], float]] = {name: {} for name in names}
    for name in world.server.names(TRIAL):
        trial = world.server.find(TRIAL, name)
        spec, status = trial["spec"], trial["status"]
        results[spec["study"]][spec["index"], status["step"]] = status["metrics"]["score"]
    return Run(
        phases={name: world.server.find(STUDY, name)["status"]["phase"] for name in names},
        decisions={name: store.read_decisions(name) for name in names},
        results=results,
        steps_trained=sum(world.trained.values()),
    )
