"""Runs that the model checker has found, cut down to what matters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.model_checking.world import World

LRS: list[Any] = [0.1, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [3]}}]


@pytest.fixture
def world(caplog: pytest.LogCaptureFixture) -> Iterator[World]:
    caplog.set_level(logging.CRITICAL)
    world = World()
    yield world
    world.close()


def test_a_study_whose_deletion_was_missed_is_not_begun_again(world: World) -> None:
    """The operator has listed it; it was gone before the watch began, which so tells nothing."""
    for name in ("deleted", "other"):
        world.apply(name, steps=7, space={"lr": {"choices": LRS}}, maxTrials=4, parallelism=1)
    world.start_operator(0, "hippo")
    world.delete_study("deleted")
    for _ in range(40):
        world.take_turn(0)
        world.serve_pods(actions=2)
        world.server.now += 3.0
        world.check()
    (other,) = world.studies()
    assert other["status"]["phase"] == "Succeeded"
    assert not [name for name in world.blobs if "/studies/deleted/decisions/" in name]


def test_a_study_that_was_missed_and_replaced_is_taken_for_the_new_one(world: World) -> None:
    """Under the same name; the watch tells of the new one in the end."""
    world.apply("s", steps=7, space={"lr": {"choices": LRS}}, maxTrials=4)
    world.start_operator(0, "hippo")
    world.delete_study("s")
    world.apply("s", steps=5, space={"lr": {"choices": [0.1]}}, maxTrials=4)
    for turn in range(40):
        if turn == 3:
            assert not world.trained, "nobody asks for the old one"
            world.run(0, world.operators[0].list_again())
        world.take_turn(0)
        world.serve_pods(actions=2)
        world.server.now += 3.0
        world.check()
    (study,) = world.studies()
    assert study["status"]["phase"] == "Succeeded"
    assert sum(world.trained.values()) == 5
