"""``parallelism`` holds at every moment, and costs nothing where it does not limit."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.engine.events import Adopted, Event, StudyAdded, StudyChanged
from hippo.lifecycles import StudyState
from hippo.model import Study
from tests.unit.engine.test_properties import ALGORITHMS, check_results, studies, worlds
from tests.unit.engine.test_sharing import MANY, OTHERS, rates, run_until
from tests.world import Costs, World, build_study, with_spec


def watch(world: World) -> World:
    """Checks after every event that no study exceeds its limit."""
    lent: dict[str, int] = {}
    feed = world.feed

    def check(event: Event) -> None:
        if not isinstance(event, Adopted) and world.engine.chains.keys() <= seen:
            lent.update(world.engine._pool.lent)
        else:
            lent.clear()
        feed(event)
        seen.update(world.engine.chains)
        if not isinstance(event, StudyAdded | Adopted) or not event.more_follow:
            check_limits(world, lent)

    seen: set[str] = set()
    world.feed = check  # type: ignore[method-assign]
    return world


def check_limits(world: World, before: dict[str, int]) -> None:
    engine = world.engine
    limits = {
        name: run.study.spec.parallelism
        for name, run in engine.studies.items()
        if run.is_active and run.study.spec.parallelism is not None
    }
    for name, limit in limits.items():
        lent = [chain for chain in engine.chains.values() if chain.study == name]
        assert sum(not chain.is_leaving for chain in lent) <= limit
        assert len(lent) <= max(limit, before.get(name, len(lent))), "it was given one more"
    if any(limit < world.workers for limit in limits.values()):
        for chain in engine.chains.values():
            if chain.is_leaving or chain.step >= chain.claim.stop_at:
                continue  # it trains nothing more
            asking = engine._scheduler.askers.since(chain.claim, chain.step)
            assert not asking or chain.study in asking


@pytest.mark.slow
@settings(max_examples=60)
@given(worlds())
def test_no_study_ever_has_more_workers_than_it_may(world: World) -> None:
    check_results(watch(world).run())


@pytest.mark.slow
@settings(max_examples=40)
@given(worlds(), st.integers(1, 3))
def test_limits_are_kept_by_routes_that_are_cut_short(world: World, most: int) -> None:
    """A worker that trains only a part of what a study waits for trains for it."""
    world.longest_route = most
    world.launches.clear()
    world.start_engine()
    check_results(watch(world).run())


@pytest.mark.slow
@settings(max_examples=50)
@given(worlds(), st.integers(0, 2**16))
def test_limits_are_kept_while_they_and_studies_change(world: World, seed: int) -> None:
    dice = random.Random(seed)
    watch(world)
    while not world.engine.is_finished:
        what = dice.random()
        alive = [name for name, run in world.engine.studies.items() if not run.state.is_final]
        name = dice.choice(alive) if alive else None
        if name is not None and what < 0.05:
            world.change(name, parallelism=dice.choice([None, 1, 2, 3]))
        elif name is not None and what < 0.07:
            world.change(name, priority=dice.randint(-1, 1))
        elif name is not None and what < 0.10:
            world.change(name, suspend=not world.engine.studies[name].study.spec.suspend)
        elif what < 0.12:
            world.disturb(dice)
        if not world.advance():
            for study in world.studies:
                if world.engine.studies[study.name].state is StudyState.SUSPENDED:
                    world.change(study.name, suspend=False)
            assert world.engine.is_finished or world.running, "nothing is left to happen"
    check_results(world)


@pytest.mark.slow
@settings(max_examples=25)
@given(worlds(), st.integers(0, 2**16))
def test_limits_are_kept_by_workers_that_outlive_their_driver(world: World, seed: int) -> None:
    watch(world).run_with_restarts(random.Random(seed))
    check_results(world)


def limited(made: list[Study], limit: int | None) -> list[Study]:
    return [with_spec(study, parallelism=limit) for study in made]


@pytest.mark.slow
@settings(max_examples=30)
@given(studies(), st.integers(1, 4), st.sampled_from([0.0, 1.0]), st.integers(0, 2))
def test_a_limit_of_all_workers_is_none(
    made: list[Study], workers: int, linger: float, more: int
) -> None:
    costs = Costs(start=1.0, load=0.5, save=0.25, linger=linger)
    free = World(limited(made, None), workers, costs).run()
    bound = World(limited(made, workers + more), workers, costs).run()
    assert bound.log == free.log


@pytest.mark.slow
@settings(max_examples=30)
@given(studies(most=1), st.integers(1, 3), st.sampled_from([0.0, 1.0]), st.integers(1, 3))
def test_a_study_within_its_limit_goes_on_as_if_there_were_no_more_workers(
    made: list[Study], limit: int, linger: float, more: int
) -> None:
    costs = Costs(start=1.0, load=0.5, save=0.25, linger=linger)
    free = World(limited(made, None), limit, costs).run()
    bound = World(limited(made, limit), limit + more, costs).run()
    assert bound.log == free.log


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS, ids=lambda algorithm: algorithm["name"])
@pytest.mark.parametrize("workers", [2, 4])
def test_whichever_its_algorithm_a_limit_of_all_workers_is_none(
    algorithm: dict[str, Any], workers: int
) -> None:
    lrs: list[Any] = [
        {"multistep": {"initial": 0.1, "gamma": g, "milestones": [m]}}
        for m in (3, 5, 8)
        for g in (0.1, 0.3, 0.5)
    ]
    trials = {} if algorithm["name"] == "pbt" else {"maxTrials": 9}
    study = build_study(space={"lr": {"choices": lrs}}, algorithm=algorithm, **trials)
    logs = [
        World(limited([study], limit), number, Costs(start=0.5, save=0.2, linger=1.0)).run().log
        for limit, number in ((None, workers), (workers, workers), (workers, workers + 3))
    ]
    assert logs[0] == logs[1] == logs[2]


def lent(world: World) -> dict[str, int]:
    return {name: n for name, n in world.engine._pool.lent.items() if n}


def test_a_limit_that_is_lowered_takes_effect_at_the_end_of_the_step() -> None:
    world = watch(World([build_study("a", space=MANY, steps=100)], workers=4))
    run_until(world, 5.0)
    world.change("a", parallelism=1)
    run_until(world, 7.0)
    assert lent(world) == {"a": 1}
    world.change("a", parallelism=3)
    run_until(world, 9.0)
    assert lent(world) == {"a": 3}
    world.run()
    assert set(world.trained.values()) == {1}, "what left was saved first"


def test_a_limit_that_was_lowered_while_nobody_looked_takes_effect_though_workers_are_fewer() -> (
    None
):
    """On a cluster there are as many workers as studies may have."""
    world = watch(World([build_study("a", space=MANY, steps=100)], workers=4))
    run_until(world, 5.0)
    world.studies[0] = with_spec(world.studies[0], parallelism=1)
    world.workers = 1
    world.start_engine(adopt=True)
    run_until(world, 7.0)
    assert lent(world) == {"a": 1}
    world.run()


def test_whoever_asks_for_the_same_takes_over_what_is_beyond_a_limit() -> None:
    made = [build_study(name, space=MANY, steps=100) for name in ("a", "b")]
    world = watch(World(made, workers=4))
    run_until(world, 5.0)
    world.change("a", parallelism=1)
    assert lent(world)["a"] == 1
    assert not any(chain.is_leaving for chain in world.engine.chains.values())
    assert len(world.launches) == 4


def test_what_others_could_lend_makes_room_for_what_they_cannot() -> None:
    """Limits of two and one allow three workers, whichever study started the shared work."""
    made = [
        build_study("a", space=rates(0.1, 0.2, 0.3), steps=50, parallelism=2),
        build_study("b", space=rates(0.1), steps=50, parallelism=1),
    ]
    world = watch(World(made, workers=4))
    run_until(world, 2.0)
    assert len(world.engine.chains) == 3


def test_a_lender_whose_part_is_done_is_followed_by_one_that_may_lend() -> None:
    made = [
        build_study("short", space=rates(0.1), steps=4, parallelism=1),
        build_study("long", space=rates(0.1, 0.2), steps=20, parallelism=1),
    ]
    world = watch(World(made, workers=4)).run()
    assert set(world.trained.values()) == {1}
    assert world.now >= 40 - 4, "no more than one worker beyond the short one's end"


def test_studies_at_their_limits_do_not_keep_another_from_its_own() -> None:
    made = [build_study("a", space=MANY, parallelism=1, steps=50)]
    made.append(build_study("b", space=OTHERS, steps=50, priority=-1))
    world = watch(World(made, workers=4))
    run_until(world, 2.0)
    assert lent(world) == {"a": 1, "b": 3}


def test_asha_is_asked_when_the_worker_of_a_study_at_its_limit_has_arrived() -> None:
    """This must not require an idle worker beyond the limit, which never exists."""
    algorithm = {"name": "asha", "eta": 2, "minSteps": 3}
    study = build_study(space=MANY, algorithm=algorithm, maxTrials=8, parallelism=2)
    world = watch(World([study], workers=8, costs=Costs(start=1.0, linger=1.0)))
    world.feed(StudyChanged(study))
    assert len(world.decisions["s"]) == 2
    world.run()
    assert len(world.launches) < 8 + 3, "arrived workers went on in place"
