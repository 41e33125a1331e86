"""Population-based training through the whole world: an exploit is a fork and costs no copy."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.model import Study
from tests.unit.engine.test_properties import check_results
from tests.world import Costs, World, build_study


def pbt_study(name: str = "s", **algorithm: Any) -> Study:
    return build_study(
        name,
        space={
            "lr": {"uniform": {"low": 0.001, "high": 1.0, "log": True}},
            "bs": {"choices": [32, 64, 128]},
        },
        algorithm={"name": "pbt", "population": 4, "interval": 3, **algorithm},
    )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    return World(
        [pbt_study(f"s{i}", seed=draw(st.integers(0, 3))) for i in range(draw(st.integers(1, 2)))],
        workers=draw(st.integers(1, 5)),
        costs=Costs(
            start=draw(st.sampled_from([0.0, 2.0])),
            save=draw(st.sampled_from([0.0, 0.3, 5.0])),
            linger=draw(st.sampled_from([0.0, 1.0])),
        ),
    )


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds())
def test_members_go_on_from_their_donors_checkpoints(world: World) -> None:
    world.run()
    check_results(world)
    assert set(world.trained.values()) == {1}, "some step was trained twice"
    assert world.notices == [], "a checkpoint was missing when it was needed"
    if len(world.studies) == 1:
        # The population's steps and nothing else: what a child has before it begins costs nothing.
        assert len(world.trained) == 4 * 12


@pytest.mark.slow
@settings(max_examples=30)
@given(worlds(), st.integers(0, 2**16))
def test_faults_and_restarts_change_no_decision(world: World, seed: int) -> None:
    calm = World(world.studies, workers=2).run()
    check_results(world.run_disturbed(random.Random(seed)))
    assert world.decisions == calm.decisions


def test_an_exploit_never_takes_a_missing_checkpoint() -> None:
    """The donor's state vanishes when the first child is about to load it."""
    world = World([pbt_study()], workers=2, costs=Costs(load=0.5))
    lost: list[str] = []
    while not world.engine.is_finished:
        children = [t for t in world.engine.studies["s"].trials if t.parent is not None]
        for assignment in world.launches:
            key = assignment.start_key
            if key in world.checkpoints and not lost and children:
                del world.checkpoints[key]
                lost.append(key)
        assert world.advance()
    check_results(world)
    assert lost
    assert any("its manifest is missing" in notice for notice in world.notices)
    again = [key for key, times in world.trained.items() if times > 1]
    assert again, "what was lost was trained again, and nothing was taken in its place"
    assert len(again) <= 3 * 4
