"""Fewer places than workers: whose launched workers wait, and which chains make room."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hippo.engine.commands import Command, Launch, Steer
from hippo.engine.events import Queued, Tick, WorkerGone
from hippo.engine.scheduling.queueing import MOST_ROOM_SECONDS, ROOM_SECONDS
from hippo.protocol.reports import Outcome
from tests.unit.engine.test_properties import check_results, studies
from tests.unit.engine.test_sharing import rates
from tests.world import Costs, World, build_study


@dataclass
class Crowded(World):
    """A cluster with few places; the worker that has waited longest starts next."""

    room: int = 1
    closed_to: frozenset[str] = frozenset()
    """Studies for whose workers there is no room, whoever leaves."""
    dice: random.Random | None = None
    """Now and then a worker that is taken back begins nevertheless."""
    began: list[str] = field(default_factory=list)  # chains, as they found room
    taken_back: list[str] = field(default_factory=list)
    _waiting: list[str] = field(default_factory=list)
    _told: frozenset[str] = frozenset()

    def start_engine(self, *, adopt: bool = False) -> None:
        if not adopt:
            self._waiting.clear()
        self._told = frozenset()
        super().start_engine(adopt=adopt)

    def _carry_out(self, command: Command) -> None:
        super()._carry_out(command)
        if isinstance(command, Launch):
            self._waiting.append(command.assignment.chain)
        elif isinstance(command, Steer) and command.control.chain in self._waiting:
            if command.control.route.stop_at == 0:
                self.taken_back.append(command.control.chain)
            self._schedule("", 0.0)

    def _schedule(self, chain: str, seconds: float) -> None:
        if chain and self.launches and chain == self.launches[-1].chain and chain not in self.began:
            return  # it begins once there is room
        super()._schedule(chain, seconds)

    def advance(self) -> bool:
        self._waiting = [chain for chain in self._waiting if chain in self._running]
        self._let_in()
        if not self.is_down:
            self._remove_taken_back()
            if self._told != (told := frozenset(self._waiting)):
                self._told = told
                self.feed(Queued(told))
                self._count += 1
                self._heap.append((self.now, False, self._count, ""))
                self._heap.sort()
        return super().advance()

    def _let_in(self) -> None:
        for chain in list(self._waiting):
            if len(self._running) - len(self._waiting) >= self.room:
                return
            if self._study_of(chain) in self.closed_to:
                continue
            if chain in self.taken_back and not (self.dice and self.dice.random() < 0.3):
                continue
            self._waiting.remove(chain)
            self.began.append(chain)
            super()._schedule(chain, 0.0)

    def _remove_taken_back(self) -> None:
        for chain in [chain for chain in self._waiting if chain in self.taken_back]:
            self._waiting.remove(chain)
            del self._running[chain], self._unread[chain]
            self.feed(WorkerGone(chain, Outcome.STOPPED))

    def _study_of(self, chain: str) -> str:
        return next(a.studies[0] for a in self.launches if a.chain == chain)

    def studies_that_began(self) -> list[str]:
        return [self._study_of(chain) for chain in self.began]


def study(name: str, first: float, count: int, steps: int = 40, **more: Any) -> Any:
    space = rates(*(first + number / 1000 for number in range(count)))
    return build_study(name, space=space, steps=steps, **more)


def crowded(low: Any, high: Any, room: int = 2, after: float = 5.0, **more: Any) -> Crowded:
    """``high`` arrives while ``low`` has filled the places and waits for more."""
    world = Crowded([low], workers=20, room=room, **more)
    while world.now < after:
        assert world.advance()
    assert len(world.engine.chains) == 4
    assert len(world.began) == room
    world.add(high)
    return world


def test_launched_workers_that_wait_are_taken_back_for_a_study_of_higher_priority() -> None:
    low, high = study("low", 0.1, 8, parallelism=4), study("high", 0.5, 3, priority=5)
    world = crowded(low, high, known_costs=False)  # so that nobody is asked to leave
    while len(world.began) < 5:
        assert world.advance()
    assert world.studies_that_began() == ["low", "low", "high", "high", "high"]
    assert len(world.taken_back) == 2
    world.run()
    check_results(world)
    assert set(world.trained.values()) == {1}
    assert not world.notices


def test_they_are_taken_back_too_where_there_may_be_no_more_workers() -> None:
    low, high = study("low", 0.1, 8), study("high", 0.5, 3, priority=5)
    world = Crowded([low], workers=4, room=2, known_costs=False)
    while world.now < 5.0:
        assert world.advance()
    world.add(high)
    while len(world.began) < 5:
        assert world.advance()
    assert world.studies_that_began() == ["low", "low", "high", "high", "high"]
    world.run()
    check_results(world)
    assert set(world.trained.values()) == {1}


@pytest.mark.parametrize("known", [True, False])
def test_a_running_worker_of_lower_priority_makes_room_and_nothing_is_lost(known: bool) -> None:
    """This holds even if no worker has reported a step yet, so step times are unknown."""
    low, high = study("low", 0.1, 4, parallelism=4, steps=400), study("high", 0.5, 1, priority=5)
    world = crowded(low, high, known_costs=known)
    while world.studies_that_began()[-1] != "high":
        assert world.advance()
        world.feed(Tick())
    assert world.now < (20.0 if known else 50.0)
    while world.engine.studies["high"].is_active:
        assert world.advance()
    assert world.now < (70.0 if known else 100.0)
    world.run()
    check_results(world)
    assert set(world.trained.values()) == {1}, "who leaves saves"


@pytest.mark.parametrize(
    "other",
    [
        {"priority": 0},
        {"priority": -1},
        {"priority": 5, "trainer": {"entrypoint": "trainer:T", "resources": {"limits": {"a": 1}}}},
        {
            "priority": 5,
            "trainer": {"entrypoint": "trainer:T", "podTemplate": {"nodeSelector": {"gpu": "a"}}},
        },
    ],
)
def test_nobody_waits_for_those_of_no_better_right_or_of_other_needs(other: dict[str, Any]) -> None:
    low = study("low", 0.1, 4, parallelism=4)
    world = crowded(low, study("other", 0.5, 3, **other))
    world.run()
    mine = [chain for chain in world.taken_back if world._study_of(chain) == "low"]
    assert not mine
    assert set(world.trained.values()) == {1}


def test_room_that_is_not_taken_is_made_ever_more_rarely() -> None:
    """Other users may take the places that Hippo's workers leave."""
    low = study("low", 0.1, 12, parallelism=4, steps=2000)
    high = study("high", 0.5, 1, steps=5, priority=5)
    world = crowded(low, high, closed_to=frozenset({"high"}))
    until = world.now + 8 * ROOM_SECONDS
    left = 0
    while world.now < until:
        before = {c for c in world.engine.chains if c in world.began}
        assert world.advance()
        left += len(before - world.engine.chains.keys())
    assert 2 <= left <= 4
    assert world.engine._scheduler._queue._room_pause <= MOST_ROOM_SECONDS


def test_it_is_not_for_ever_that_others_wait_behind_a_worker_that_finds_no_room() -> None:
    low = study("low", 0.1, 2, parallelism=4, steps=5)
    high = study("high", 0.5, 1, steps=5, priority=5)
    world = Crowded([high], workers=20, closed_to=frozenset({"high"}), patience=100.0)
    while world.now < 1.0 and world.advance():
        pass
    world.add(low)
    while world.engine.studies["low"].is_active:
        assert world.advance()
        assert world.now < 500.0
    assert world.studies_that_began()[0] == "low"


def test_a_worker_that_was_taken_back_counts_as_no_attempt() -> None:
    low, high = study("low", 0.1, 4, parallelism=4, retries=1), study("high", 0.5, 9, priority=5)
    world = crowded(low, high)
    for _ in range(6):
        world.change("high", priority=-5)
        for _ in range(20):
            world.advance()
        world.change("high", priority=5)
        for _ in range(20):
            world.advance()
    world.run()
    assert len(world.taken_back) > 4
    assert set(world.trained.values()) == {1}
    assert not world.notices


@pytest.mark.slow
@settings(max_examples=60)
@given(
    studies=studies(),
    room=st.integers(1, 3),
    linger=st.sampled_from([0.0, 1.0]),
    start=st.sampled_from([0.0, 2.0]),
    seed=st.integers(0, 10_000),
)
def test_every_step_is_trained_once_whoever_waits(
    studies: list[Any], room: int, linger: float, start: float, seed: int
) -> None:
    """This holds even if workers start just when they are withdrawn."""
    costs = Costs(linger=linger, start=start, save=0.3)
    dice = random.Random(seed)
    world = Crowded(studies, workers=6, room=room, costs=costs, dice=dice).run()
    check_results(world)
    specs = [study.spec for study in studies]
    if len(specs) == 1 or all(
        spec.algorithm.name in ("grid", "random") and not spec.replicates for spec in specs
    ):
        assert set(world.trained.values()) == {1}
    assert world.notices == []


@pytest.mark.slow
@settings(max_examples=40)
@given(studies=studies(), room=st.integers(1, 3), seed=st.integers(0, 10_000))
def test_faults_and_restarts_change_no_result(studies: list[Any], room: int, seed: int) -> None:
    dice = random.Random(seed)
    world = Crowded(studies, workers=6, room=room, costs=Costs(linger=1.0), dice=dice)
    world.run_with_restarts(dice)
    check_results(world)
