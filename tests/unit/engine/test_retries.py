"""Retries are reported until they succeed, and a failing store is not overrun."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from hippo.engine.failure_policy import LONGEST_STORE_PAUSE, MAX_STORE_FAILURES
from hippo.protocol.reports import Outcome, WorkerError
from tests.world import Costs, World, build_study

FLAT = {"lr": {"choices": [round(0.1 * n, 1) for n in range(1, 9)]}}
REFUSED = WorkerError(during="store", message="the keys are refused", step=0)


def make(workers: int = 4, *, outlasts_store: bool = True) -> World:
    """A study of eight trials that share nothing."""
    world = World([build_study(space=FLAT)], workers=workers, costs=Costs(start=3.0))
    options = replace(world.engine.options, outlasts_store=outlasts_store)
    world.engine._failures._options = options
    return world


def fail_all(world: World) -> None:
    world.now += 1.0
    for chain in world.running:
        world.kill(chain, Outcome.STORE, REFUSED)


def test_one_chain_at_a_time_tries_a_store_that_fails() -> None:
    world = make()
    fail_all(world)  # before any of them has begun
    launched = [world.now]
    while world.now < 600:
        before = len(world.launches)
        world.advance()
        if len(world.launches) > before:
            assert len(world.launches) == before + 1
            launched.append(world.now)
            fail_all(world)
        assert len(world.running) <= 1
    pauses = [after - earlier for earlier, after in pairwise(launched)]
    # But for the first ones, each chain fails a second after its launch.
    assert pauses[:6] == [1, 1 + 2, 1 + 4, 1 + 8, 1 + 16, 1 + 32]
    assert set(pauses[6:]) == {1 + LONGEST_STORE_PAUSE}
    assert world.halted is None
    trouble = world.engine.find_trouble("s")
    assert trouble is not None
    assert (trouble.message, trouble.is_store) == ("the keys are refused", True)


def test_nobody_else_tries_the_store_before_the_one_that_does_has_begun() -> None:
    """As long as a pod may take until it is scheduled and has its image."""
    world = make()
    fail_all(world)
    world.costs.start = 3 * LONGEST_STORE_PAUSE
    while not world.running:
        world.advance()
    (tries,) = world.running
    while not world.engine.chains[tries].begun:
        assert world.running == [tries]
        world.advance()
    assert len(world.running) == 4


def test_all_go_on_as_soon_as_one_has_begun() -> None:
    world = make()
    fail_all(world)
    while not world.running:
        world.advance()
    assert len(world.running) == 1
    assert world.engine.find_trouble("s") is not None
    began = world.now
    while world.engine.find_trouble("s") is not None:
        world.advance()
    assert world.now <= began + 3.0, "its start"
    assert len(world.running) == 4
    world.run()
    assert world.notices.count("the keys are refused; trying again") == 1


def test_after_an_outage_all_go_on_at_once() -> None:
    """They had begun, so their credentials are valid; the store failed them later."""
    world = make()
    while not all(chain.begun for chain in world.engine.chains.values()):
        world.advance()
    fail_all(world)
    assert len(world.running) == 4
    assert world.engine.find_trouble("s") is None
    fail_all(world)  # it lasts
    assert world.running == []
    assert world.engine.find_trouble("s") is not None
    world.run()


def test_one_bad_moment_of_one_chain_is_no_trouble() -> None:
    world = make()
    world.kill(world.running[0], Outcome.STORE, REFUSED)
    assert world.engine.find_trouble("s") is None
    world.run()


def test_where_chains_begin_and_cannot_save_only_a_save_ends_the_count() -> None:
    """A full disk accepts a report but no checkpoint."""
    world = make(workers=1, outlasts_store=False)
    for _ in range(MAX_STORE_FAILURES + 1):
        assert world.halted is None
        while not any(chain.begun for chain in world.engine.chains.values()):
            world.advance()
        world.kill(world.running[0], Outcome.STORE, REFUSED)
    assert world.halted == "the keys are refused"


def test_who_waits_for_no_worker_halts_where_it_always_did() -> None:
    world = make(workers=MAX_STORE_FAILURES + 1, outlasts_store=False)
    for chain in world.running[:MAX_STORE_FAILURES]:
        world.kill(chain, Outcome.STORE, REFUSED)
    assert world.halted is None
    fail_all(world)
    assert world.halted == "the keys are refused"


@pytest.mark.parametrize("attempts", [1, 2])
def test_a_retry_is_told_until_it_has_gone_on(attempts: int) -> None:
    space = {"lr": {"choices": [0.1]}}
    world = World([build_study(space=space, retries=2)], workers=1)
    bad = None

    def fail(key: str, attempt: int) -> str | None:
        nonlocal bad
        bad = bad or key
        return "ValueError: no" if key == bad and attempt <= attempts else None

    world.fail = fail
    told = set()
    while world.advance():
        trouble = world.engine.find_trouble("s")
        if trouble is not None:
            told.add(trouble.message)
            assert not trouble.is_store
    assert told == {f"ValueError: no; retry {n} of 2 in {n:g} s" for n in range(1, attempts + 1)}
    assert world.engine.find_trouble("s") is None


def test_a_retry_that_nobody_wants_any_more_is_not_told() -> None:
    world = World([build_study(space=FLAT, retries=5)], workers=1, fail=lambda key, n: "boom")
    while world.engine.find_trouble("s") is None:
        world.advance()
    while world.advance():
        pass
    assert world.engine.find_trouble("s") is None


def test_retries_of_one_study_are_not_anothers() -> None:
    studies = [
        build_study("a", space={"lr": {"choices": [0.1]}}),
        build_study("b", space={"lr": {"choices": [0.9]}}),
    ]
    failing: list[str] = []

    def fail(key: str, attempt: int) -> str | None:
        failing[:] = failing or [key]
        return "boom" if key == failing[0] and attempt == 1 else None

    world = World(studies, workers=1, fail=fail)
    while not any(world.engine.find_trouble(name) for name in ("a", "b")):
        world.advance()
    assert (world.engine.find_trouble("a") is None) != (world.engine.find_trouble("b") is None)
