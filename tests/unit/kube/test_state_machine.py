"""The operator under a state machine: whatever happens in whatever order, one step at a time.

A short run belongs to the fast tests; ``make nightly`` goes on for 100,000 steps, in pieces.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, seed, settings, stateful
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    run_state_machine_as_test,
)

from hippo.kube.resources import POD, STUDY
from tests.model_checking.world import FINAL, LOCK_SECONDS, World

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [3]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [5]}},
    {"warmup": {"from": 0, "to": 0.1, "steps": 2, "then": 0.1}},
]
ALGORITHMS: list[dict[str, Any]] = [
    {"name": "grid"},
    {"name": "sha", "eta": 2, "minSteps": 2},
    {"name": "random", "seed": 3},
]
STEPS = 7
SLOTS = (0, 1)
NIGHTLY = os.environ.get("HIPPO_TEST_PROFILE") == "nightly"
MOST_STUDIES = 6 if NIGHTLY else 3
KINDS = ["refused", "lost", "killed", "cut", "held"]
QUIET_ROUNDS = 400
MOST_TURNS = 6

counted: Counter[str] = Counter()
RULES: set[str] = set()
rules: Counter[str] = Counter()
transitions: Counter[str] = Counter()
faults: Counter[str] = Counter()


def rule(**drawn: st.SearchStrategy[Any]) -> Callable[[Any], Any]:
    """A rule that is counted whenever it is followed."""

    def decorate(follow: Callable[..., None]) -> Any:
        RULES.add(follow.__name__)

        @functools.wraps(follow)
        def counting(machine: Any, *given: Any, **named: Any) -> None:
            rules[follow.__name__] += 1
            follow(machine, *given, **named)

        return stateful.rule(**drawn)(counting)

    return decorate


class OperatorMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.made = 0
        self.made_wishes = 0

    def teardown(self) -> None:
        try:
            self.come_to_rest()
        finally:
            counted["runs"] += 1
            counted["taken back"] += self.world.taken_back
            counted["pods"] += self.world.server.count("create", POD)
            counted["operators"] += self.world.operators_made
            counted["trained"] += sum(self.world.trained.values())
            counted["unique"] += len(self.world.trained)
            counted["reopened"] += self.world.reopened
            transitions.update(self.world.transitions)
            faults.update(self.world.server.met)
            self.world.close()

    # -- users -------------------------------------------------------------------------------------

    def _apply(
        self,
        algorithm: dict[str, Any],
        choices: list[Any],
        parallelism: int,
        priority: int = 0,
        budget: dict[str, Any] | None = None,
    ) -> None:
        self.world.apply(
            f"s{self.made}",
            steps=STEPS,
            space={"lr": {"choices": choices}},
            algorithm=algorithm,
            maxTrials=4,
            parallelism=parallelism,
            priority=priority,
            budget=budget or {},
            checkpoints={"every": "1h"},
        )
        self.made += 1

    @initialize(
        data=st.lists(
            st.tuples(
                st.sampled_from(ALGORITHMS[::2]),
                st.lists(st.sampled_from(LRS), min_size=1, unique_by=str),
                st.integers(1, 3),
                st.sampled_from([{}, {"wallTime": "2s"}, {"workerHours": 0.0005}]),
            ),
            min_size=1,
            max_size=2,
        ),
        identities=st.sampled_from([("hippo", "hippo"), ("hippo", "another")]),
    )
    def begin(self, data: list[Any], identities: tuple[str, str]) -> None:
        self.identities = identities
        for algorithm, choices, parallelism, budget in data:
            self._apply(algorithm, choices, parallelism, budget=budget)
        self.world.start_operator(0, identities[0])

    @precondition(lambda self: self.made < MOST_STUDIES)
    @rule(
        algorithm=st.sampled_from(ALGORITHMS),
        choices=st.lists(st.sampled_from(LRS), min_size=1, unique_by=str),
        priority=st.integers(0, 1),
    )
    def another_study_comes(
        self, algorithm: dict[str, Any], choices: list[Any], priority: int
    ) -> None:
        self.world.is_strict = False
        self._apply(algorithm, choices, 2, priority)

    @rule(data=st.data())
    def a_study_is_edited(self, data: st.DataObject) -> None:
        if names := self.world.server.names(STUDY):
            name = data.draw(st.sampled_from(names))
            changes = ["suspend", "priority", "parallelism", "budget", "retry", "delete"]
            change = data.draw(st.sampled_from(changes))
            spec = self.world.server.find(STUDY, name)["spec"]
            if change == "suspend":
                self.world.is_strict = False  # what it may come to need is not kept meanwhile
                self.world.server.change_spec(STUDY, name, suspend=not spec.get("suspend", False))
            elif change == "priority":
                self.world.server.change_spec(STUDY, name, priority=1 - spec.get("priority", 0))
            elif change == "budget":  # perhaps spent already, perhaps raised after the end
                limit = data.draw(st.sampled_from([{}, {"wallTime": "2s"}, {"wallTime": "60s"}]))
                self.world.server.change_spec(STUDY, name, budget=limit)
            elif change == "retry":
                self.made_wishes += 1
                self.world.annotate(name, str(self.made_wishes))
            elif change == "parallelism":
                self.world.server.change_spec(STUDY, name, parallelism=data.draw(st.integers(1, 3)))
            elif self.made == MOST_STUDIES:
                self.world.delete_study(name)

    # -- operators ---------------------------------------------------------------------------------

    @rule(slot=st.sampled_from(SLOTS))
    def an_operator_starts(self, slot: int) -> None:
        if slot not in self.world.operators:
            self.world.start_operator(slot, self.identities[slot])

    @rule(slot=st.sampled_from(SLOTS))
    def an_operator_is_killed(self, slot: int) -> None:
        self.world.kill_operator(slot)

    @rule(slot=st.sampled_from(SLOTS))
    def an_operator_works(self, slot: int) -> None:
        if slot in self.world.free_operators():
            self.world.take_turn(slot)

    @rule(
        slot=st.sampled_from(SLOTS),
        kind=st.sampled_from(KINDS),
        after=st.one_of(st.integers(0, 6), st.integers(0, 40)),
        turns=st.integers(1, MOST_TURNS),
    )
    def an_operator_works_under_a_fault(self, slot: int, kind: str, after: int, turns: int) -> None:
        """Most turns ask for little, so it may take several until the fault has its request."""
        free = [number for number in (slot, 1 - slot) if number in self.world.free_operators()]
        if not free:
            return
        slot = free[0]
        faults = self.world.operators[slot].faults
        faults.set(kind, after, lasts=True)
        for _ in range(turns):
            if slot in self.world.free_operators() and faults.lasts:
                self.world.take_turn(slot)
                self.world.serve_pods(actions=1)
                self.world.server.now += 2.0
        faults.clear()

    @rule(slot=st.sampled_from(SLOTS))
    def an_operator_goes_on(self, slot: int) -> None:
        if slot in self.world.operators:
            self.world.resume(slot)

    @rule(slot=st.sampled_from(SLOTS), data=st.data())
    def a_watch_tells(self, slot: int, data: st.DataObject) -> None:
        operator = self.world.free_operators().get(slot)
        if operator is not None and (behind := operator.behind()):
            key = data.draw(st.sampled_from(behind))
            self.world.run(slot, operator.deliver(key))

    @rule(slot=st.sampled_from(SLOTS), data=st.data())
    def a_watch_repeats_itself(self, slot: int, data: st.DataObject) -> None:
        operator = self.world.free_operators().get(slot)
        if operator is not None and (told := operator.told):
            key = data.draw(st.sampled_from(told))
            self.world.run(slot, operator.repeat(key))

    @rule(slot=st.sampled_from(SLOTS))
    def watches_catch_up(self, slot: int) -> None:
        if (operator := self.world.free_operators().get(slot)) is not None:
            for key in operator.behind():
                if slot in self.world.free_operators():
                    self.world.run(slot, operator.deliver(key))

    @rule(slot=st.sampled_from(SLOTS))
    def an_operator_lists_all(self, slot: int) -> None:
        if (operator := self.world.free_operators().get(slot)) is not None:
            self.world.run(slot, operator.list_again())

    # -- the node ----------------------------------------------------------------------------------

    def _draw_pod(self, data: st.DataObject, *phases: str) -> Any:
        pods = self.world.pods(*phases)
        if not pods:
            return None
        index = data.draw(st.integers(0, len(pods) - 1))
        return pods[index]

    @rule(data=st.data())
    def a_pod_starts(self, data: st.DataObject) -> None:
        if (pod := self._draw_pod(data, "Pending")) is not None:
            self.world.start_pod(pod)

    @rule()
    def nobody_finds_room(self) -> None:
        for pod in self.world.pods("Pending"):
            self.world.refuse_room(pod)
            counted["queued"] += 1

    @rule(quota=st.sampled_from([None, 1, 2, 3]))
    def a_quota_is_set(self, quota: int | None) -> None:
        """It outlasts everything: studies end under it."""
        self.world.server.quota = quota

    @rule(data=st.data(), actions=st.integers(1, 12))
    def a_pod_works(self, data: st.DataObject, actions: int) -> None:
        if (pod := self._draw_pod(data, "Running")) is not None:
            for _ in range(actions):
                if pod["metadata"]["uid"] in self.world.workers:
                    self.world.work(pod)

    @rule(data=st.data())
    def a_pod_comes_to_harm(self, data: st.DataObject) -> None:
        pod = self._draw_pod(data, "Running")
        if pod is None:
            return
        harm = data.draw(st.sampled_from(["kill", "memory", "leave", "evict", "lose"]))
        if harm == "kill":
            self.world.kill_pod(pod, 137, "Error")
        elif harm == "memory":
            self.world.kill_pod(pod, 137, "OOMKilled")
        elif harm == "leave":
            self.world.server.tell_to_leave(pod)
        elif harm == "evict":
            self.world.evict(pod)
        else:
            self.world.lose_node(pod)

    @rule()
    def lost_trainers_go_on(self) -> None:
        self.world.work_unseen()

    @rule(slot=st.sampled_from(SLOTS), rounds=st.integers(1, 4))
    def all_goes_well_for_a_while(self, slot: int, rounds: int) -> None:
        for _ in range(rounds):
            if slot in self.world.free_operators():
                self.watches_catch_up(slot)
                self.an_operator_works(slot)
            self.world.serve_pods(actions=2)
            self.world.server.now += 1.0

    @rule(seconds=st.sampled_from([0.3, 2.0, 10.0, LOCK_SECONDS]))
    def time_passes(self, seconds: float) -> None:
        self.world.server.now += seconds

    # -- what must hold ----------------------------------------------------------------------------

    @invariant()
    def nothing_is_wrong(self) -> None:
        counted["steps"] += 1
        counted["at rest"] += all(
            (study.get("status") or {}).get("phase") in FINAL for study in self.world.studies()
        )
        self.world.check()

    def come_to_rest(self) -> None:
        """Faults end, one operator is left, nobody intervenes: every study comes to its end."""
        world = self.world
        if not hasattr(self, "identities"):
            return
        world.kill_operator(1)
        for name in world.server.names(STUDY):
            world.server.change_spec(STUDY, name, suspend=False, budget={})
        if 0 not in world.operators:
            world.start_operator(0, self.identities[0])
        world.resume(0)
        if 0 not in world.operators:
            world.start_operator(0, self.identities[0])
        for number in range(QUIET_ROUNDS):
            if number == QUIET_ROUNDS // 2:
                self.an_operator_lists_all(0)
            self.watches_catch_up(0)
            world.take_turn(0)
            world.serve_pods(actions=4)
            world.work_unseen()
            world.server.now += 3.0
            world.server.collect_garbage()
            world.check()
            if number > 20 and self._is_over():
                break
        world.check_end()

    def _is_over(self) -> bool:
        world = self.world
        studies = world.studies()
        plans = world.operators[0].plans
        return (
            all((s.get("status") or {}).get("phase") in FINAL for s in studies)
            and not world.pods("Pending", "Running")
            and all(task.reconciler is None for task in plans)
        )


STEPS_A_RUN, RUNS = (100, 20) if NIGHTLY else (50, 30)
LEAST_STEPS = int(os.environ.get("HIPPO_NIGHTLY_STEPS", "100000")) if NIGHTLY else 300
FIRST_SEED = int(os.environ.get("HIPPO_NIGHTLY_SEED", "0"))


def search(number: int) -> None:
    """So many runs; at night, each search has a seed of its own."""
    machine = type("Operators", (OperatorMachine,), {})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        seed(FIRST_SEED * 1000 + number)(machine) if NIGHTLY else machine,
        settings=settings(
            max_examples=RUNS,
            stateful_step_count=STEPS_A_RUN,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.slow
@pytest.mark.timeout(7200 if NIGHTLY else 300)
def test_whatever_happens_in_whatever_order(
    caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    caplog.set_level(logging.CRITICAL)
    for tally in (counted, rules, transitions, faults):
        tally.clear()
    for number in itertools.count():
        search(number)
        if counted["steps"] >= LEAST_STEPS:
            break
    record_property("counted", dict(counted))
    for name, met in (("rules", rules), ("transitions", transitions), ("faults", faults)):
        record_property(name, dict(met))
    assert counted["pods"] > counted["runs"]
    assert counted["operators"] > counted["runs"]
