"""Runs that the model checker has found, cut down to what matters."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from hippo.kube.reconciler import trial_objects
from hippo.kube.resources import STUDY
from tests.model_checking.world import World
from tests.unit.kube.memory import copied
from tests.unit.kube.test_state_machine import OperatorMachine

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


def test_an_operator_that_knows_no_status_overwrites_none(caplog: pytest.LogCaptureFixture) -> None:
    """Its first request of a turn fails while its view is from before the study's first status."""
    caplog.set_level(logging.CRITICAL)
    machine = OperatorMachine()
    grid = {"name": "grid"}
    machine.begin([(grid, [0.1], 1, {}), (grid, [0.1], 1, {"wallTime": "2s"})], ("hippo", "hippo"))
    machine.an_operator_starts(slot=1)

    def fail(slot: int) -> None:
        machine.an_operator_works_under_a_fault(slot=slot, kind="refused", after=0, turns=1)
        machine.nothing_is_wrong()

    for _ in range(2):
        fail(0)
        machine.all_goes_well_for_a_while(slot=1, rounds=1)
        machine.nobody_finds_room()
    machine.all_goes_well_for_a_while(slot=1, rounds=4)
    phases = [study["status"]["phase"] for study in machine.world.studies()]
    assert "Failed" in phases
    for _ in range(3):
        fail(0)
    assert [study["status"]["phase"] for study in machine.world.studies()] == phases
    machine.teardown()


def test_a_watch_that_repeats_an_old_document_takes_no_status_back(world: World) -> None:
    world.apply("s", steps=7, space={"lr": {"choices": [0.1]}}, maxTrials=1)
    world.start_operator(0, "hippo")
    operator = world.operators[0]
    for _ in range(40):
        world.take_turn(0)
        world.serve_pods(actions=2)
        world.server.now += 3.0
    (study,) = world.studies()
    assert study["status"]["phase"] == "Succeeded"
    assert all("status" not in operator._told[key] for key in operator.told if key[0] == "studies")
    for key in operator.told:
        world.run(0, operator.repeat(key))
    world.take_turn(0)
    assert [s["status"]["phase"] for s in world.studies()] == ["Succeeded"]


def test_a_list_from_before_a_write_and_its_watch_event_conflict_with_nothing(world: World) -> None:
    """The same new study is told of twice at once: both documents have no status yet."""
    world.apply("s", steps=7, space={"lr": {"choices": [0.1]}}, maxTrials=1)
    (study,) = [copied(found) for found in world.studies()]
    world.start_operator(0, "hippo")
    operator = world.operators[0].operator
    world.run(0, operator.study_changed(study, is_gone=False))
    written = world.server.count("status", STUDY)
    for _ in range(2):
        world.run(0, operator.study_changed(study, is_gone=False))
    assert world.server.count("status", STUDY) == written
    assert world.studies()[0]["status"]["phase"] == "Pending"


@pytest.mark.parametrize("at_once", [1, 200])
def test_a_study_ends_when_the_statuses_of_its_trials_are_written(
    world: World, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Also where not all of them are written in one round."""
    monkeypatch.setattr(trial_objects, "MOST_STATUSES", at_once)
    for name in ("one", "two"):
        world.apply(name, steps=5, space={"lr": {"choices": LRS}}, maxTrials=4)
    world.start_operator(0, "hippo")
    for _ in range(40):
        world.go_on(actions=4, seconds=3.0)
        world.check()
    assert [study["status"]["phase"] for study in world.studies()] == ["Succeeded"] * 2
    world.check_end()
