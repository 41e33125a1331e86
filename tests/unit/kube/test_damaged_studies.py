"""A study whose own records in the store are damaged is suspended; the others of its plan go on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hippo.store.bounds import MAX_BYTES, Kind
from tests.model_checking.world import World

pytestmark = pytest.mark.usefixtures("quiet")

TRAINER = {"entrypoint": "t:T", "image": "i:1"}
FAMILY: dict[str, dict[str, Any]] = {
    "bad": {"space": {"lr": {"choices": [0.1, 0.2]}}},
    "good": {"space": {"lr": {"choices": [0.2, 0.3]}}},
}


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    for name, spec in FAMILY.items():
        world.apply(name, steps=6, algorithm={"name": "grid"}, trainer=TRAINER, **spec)
    world.start_operator(0, "hippo")
    world.go_on(4, actions=2, seconds=2.0)
    assert {study["status"]["phase"] for study in world.studies()} == {"Running"}
    yield world
    world.close()


def restart(world: World) -> None:
    world.kill_operator(0)
    world.start_operator(0, "hippo")


def see(world: World, name: str) -> dict[str, Any]:
    (found,) = [s["status"] for s in world.studies() if s["metadata"]["name"] == name]
    return dict(found)


def find(world: World, end: str) -> str:
    (name,) = [name for name in world.blobs if name.endswith(end)]
    return name


SPOILT = {
    "decision": ("bad/decisions/000000.json", b"{", "decision 0 of study bad"),
    "large": (
        "bad/decisions/000000.json",
        b" " * (MAX_BYTES[Kind.DECISION] + 1),
        "000000.json cannot be read: it has 8,388,609 bytes",
    ),
    "document": ("bad/study.json", b"[]", "study bad in the store cannot be read"),
    "steps": ("bad/study.json", b'"steps":0', "study.spec.steps"),
    "another": ("bad/study.json", b'"name":"good"', "it is the study good"),
    "unknown trial": (
        "bad/decisions/000001.json",
        b'{"index":1,"kind":"promote","trial":7,"steps":6,"reason":"r"}',
        "it is about trial 7 of 1 before it",
    ),
    "contradiction": (
        "bad/decisions/000001.json",
        b'{"index":1,"kind":"promote","trial":0,"steps":3,"reason":"r"}',
        "decision 1: step 3 is no rung",
    ),
    "schedule": (
        "bad/decisions/000000.json",
        b'{"index":0,"kind":"suggest","trial":0,"steps":6,"reason":"r","hyperparameters":{"lr":{}}}',
        "decision",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SPOILT)
def test_others_go_on_and_nothing_of_it_is_lost(world: World, case: str) -> None:
    end, spoilt, told = SPOILT[case]
    name = find(world, end)
    sound = world.blobs[name]
    old = {b'"steps":0': b'"steps":6', b'"name":"good"': b'"name":"bad"'}.get(spoilt)
    world.blobs[name] = sound.replace(old, spoilt) if old is not None else spoilt
    assert world.blobs[name] != sound
    damaged = world.blobs[name]
    theirs = {n: d for n, d in world.blobs.items() if "/studies/bad/" in n}
    restart(world)
    for _ in range(30):
        world.go_on(actions=2, seconds=2.0)
    assert see(world, "good")["phase"] == "Succeeded"
    assert see(world, "bad")["phase"] == "Suspended"
    assert told in see(world, "bad")["message"]
    assert "\n" not in see(world, "bad")["message"]
    assert theirs == {n: d for n, d in world.blobs.items() if "/studies/bad/" in n}
    assert world.blobs[name] == damaged

    world.blobs[name] = sound  # from a backup
    world.annotate("bad", "now")
    for _ in range(30):
        world.go_on(actions=2, seconds=2.0)
    assert see(world, "bad")["phase"] == "Succeeded"


def test_a_control_that_cannot_be_read_costs_its_chain_only(world: World) -> None:
    chain = find_chain(world)
    world.blobs[f"{plan_of(world)}/control/{chain}.json"] = b"[" * 1000
    restart(world)
    for _ in range(30):
        world.go_on(actions=2, seconds=2.0)
    for name in FAMILY:
        assert see(world, name)["phase"] == "Succeeded"


def plan_of(world: World) -> str:
    return find(world, "bad/study.json").removesuffix("/studies/bad/study.json")


def find_chain(world: World) -> str:
    task = world.operators[0].plans[0]
    assert task.reconciler is not None
    return next(iter(task.reconciler.engine.chains))
