"""The stage tree in a status: exact counts at any size, and a size that has an end."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.kube.status.builder import build_trial_status, fill_plan_status, fill_study_status
from hippo.kube.status.models import SearchPlanStatus, StudyStatus, TrialCounts
from hippo.kube.status.stage_tree import StageView, build_tree, count_stages, fold_tree
from hippo.plan import build_stage_tree, unique_steps
from tests.world import Costs, World, build_study

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [9]}},
    {"warmup": {"from": 0, "to": 0.1, "steps": 3, "then": 0.1}},
]


def tree_of(world: World) -> list[StageView]:
    engine = world.engine
    trials = [trial for run in engine.studies.values() for trial in run.trials]
    return build_tree(engine.plan, trials, engine.chains.values())


def walk(roots: list[StageView]) -> list[StageView]:
    found, stack = [], list(roots)
    while stack:
        found.append(stack.pop())
        stack += found[-1].following
    return found


@st.composite
def worlds(draw: st.DrawFn) -> World:
    algorithm = draw(
        st.sampled_from(
            [{"name": "grid"}, {"name": "asha", "eta": 2, "minSteps": 3}, {"name": "random"}]
        )
    )
    space = {"lr": {"choices": draw(st.lists(st.sampled_from(LRS), min_size=1, unique_by=str))}}
    study = build_study("s", space=space, algorithm=algorithm, maxTrials=draw(st.integers(1, 6)))
    return World([study], workers=draw(st.integers(1, 3)), costs=Costs(start=1.0, save=0.2))


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds(), st.integers(0, 60))
def test_stages_that_are_not_done_are_the_steps_left(world: World, moments: int) -> None:
    for _ in range(moments):
        if world.engine.is_finished or not world.advance():
            break
    stages = walk(tree_of(world))
    left = sum(view.end - view.start for view in stages if view.state in ("Pending", "Running"))
    # Steps before an intermediate checkpoint of a stage count as left until the stage is done.
    assert left >= unique_steps(build_stage_tree(world.engine.plan))
    assert all(view.chain for view in stages if view.state == "Running")
    for view in stages:
        assert all(child.start == view.end for child in view.following)
        assert view.state == "Done" or all(c.state != "Done" for c in view.following)


@settings(max_examples=30)
@given(worlds())
def test_in_the_end_all_stages_are_done(world: World) -> None:
    world.run()
    counts = count_stages(tree_of(world))
    assert counts.done > 0
    assert (counts.running, counts.pending, counts.failed) == (0, 0, 0)
    assert sum(v.end - v.start for v in walk(tree_of(world))) == sum(world.trained.values())


def test_a_failed_stage_is_told_apart() -> None:
    study = build_study("s", space={"lr": {"choices": LRS[:2]}}, retries=0)
    world = World([study], workers=1)
    bad = world.engine.studies["s"].trials[1].node.key(9)
    world.fail = lambda key, attempt: "no" if key == bad else None
    world.run()
    assert count_stages(tree_of(world)).failed == 1


def big_world(trials: int) -> World:
    """Never advanced: every trial is pending."""
    dice = random.Random(0)

    def schedules(count: int) -> list[Any]:
        milestones = [sorted(dice.sample(range(1, 1000), 4)) for _ in range(count)]
        return [{"multistep": {"initial": 1, "gamma": 0.5, "milestones": m}} for m in milestones]

    side = round(trials**0.5)
    space = {name: {"choices": schedules(side)} for name in ("lr", "momentum")}
    return World([build_study("s", space=space, steps=1000)], workers=8)


@pytest.mark.parametrize("trials", [9, 400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_the_status_of_any_plan_is_small_and_its_counts_are_exact(trials: int) -> None:
    world = big_world(trials)
    roots = tree_of(world)
    status = fill_plan_status(SearchPlanStatus(), world.engine, ["s"])
    stages = count_stages(roots)
    assert status.trials == TrialCounts(total=trials, pending=trials)
    assert status.stages == stages
    assert stages.pending + stages.running == len(walk(roots))
    told = sum(stage.stages or 1 for stage in status.tree)
    assert told == len(walk(roots)), "folded entries say how many stages they stand for"
    assert len(status.model_dump_json(exclude_none=True)) < 64 * 1024


def test_a_small_tree_is_shown_whole_in_depth_first_order() -> None:
    study = build_study("s", space={"lr": {"choices": LRS[:3]}})
    entries = fold_tree(tree_of(World([study], workers=1)))
    assert [(e.depth, e.steps, e.state, e.trials) for e in entries] == [
        (0, "0-6", "Running", 3),
        (1, "6-9", "Running", 2),
        (2, "9-12", "Running", 1),
        (2, "9-12", "Pending", 1),
        (1, "6-12", "Pending", 1),
    ]
    assert entries[0].changes == {"lr": 0.1}
    assert entries[4].changes == {"lr": 0.01}


def test_finished_subtrees_are_folded_first() -> None:
    world = World([build_study("s", space={"lr": {"choices": LRS}})], workers=1)
    world.run()
    entries = fold_tree(tree_of(world), most=3)
    assert all(entry.state in ("Folded", "Done") for entry in entries)
    assert sum(entry.stages or 1 for entry in entries) == len(walk(tree_of(world)))


def test_statuses_hold_no_number_that_json_lacks() -> None:
    scores = iter([float("nan"), 0.5, float("inf"), 0.25])
    study = build_study("s", space={"lr": {"choices": LRS}}, maxFailedTrials=9)
    world = World([study], workers=1)
    world.score = lambda state: {"score": next(scores), "other": float("inf")}
    world.run()
    run = world.engine.studies["s"]
    for trial in run.trials:
        json.loads(build_trial_status(run, trial).model_dump_json(), parse_constant=pytest.fail)
    status = fill_study_status(StudyStatus(), world.engine, run)
    json.loads(status.model_dump_json(), parse_constant=pytest.fail)
    assert status.best is not None
    assert status.best.metrics["other"] is None
    assert status.progress == "4/4"
    assert status.trials is not None
    assert status.trials.diverged == 2
