"""A day of churn: studies come, are edited, and go; the operator holds no more at its end.

In virtual time, with the operator's own code (``tests.model_checking``): an hour in ``make test``,
twenty-four in ``make nightly``.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from hippo.kube.client import ApiError
from hippo.kube.resources import STUDY
from tests.model_checking.world import FINAL, World

NIGHTLY = os.environ.get("HIPPO_TEST_PROFILE") == "nightly"
HOURS = float(os.environ.get("HIPPO_NIGHTLY_HOURS", "24")) if NIGHTLY else 1.0
SEED = int(os.environ.get("HIPPO_NIGHTLY_SEED", "24"))
ROUND_SECONDS = 20.0
LIVE = 4
"""Studies at once."""
LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [3]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [5]}},
    {"warmup": {"from": 0, "to": 0.1, "steps": 2, "then": 0.1}},
]
LOW = "low"
"""A study of low priority, beside a stream of urgent ones."""


def held(world: World) -> dict[str, int]:
    """How much the operator keeps, by what."""
    operator = world.operators[0].operator
    return {
        "plans": len(operator.plans),
        "studies": len(operator._plan_of) + len(operator.statuses._known),
        "pods": sum(map(len, operator._pods.values())),
        "namespaces of pods": len(operator._pods),
        "trials": sum(map(len, operator.user_trials.by_namespace.values())),
        "reception": len(operator._admission._checked) + len(operator._admission._rejected),
        "gone": len(operator._gone),
        "tasks": len(operator._tasks),
    }


_SHARED = (types.ModuleType, type, types.CodeType, types.BuiltinFunctionType)


def weigh(root: object, apart_from: Iterable[object]) -> int:
    """Bytes of all that can be reached from an object alone, but for these and the code itself."""
    seen = {id(found) for found in apart_from}
    total, rest = 0, [root]
    while rest:
        found = rest.pop()
        if id(found) in seen or isinstance(found, _SHARED):
            continue
        seen.add(id(found))
        total += sys.getsizeof(found)
        if isinstance(found, types.FunctionType):
            rest += found.__closure__ or ()
        else:
            rest += gc.get_referents(found)
    return total


def send_events(world: World) -> None:
    """As the operator's own task does beside its rounds; the queue is bounded, whatever comes."""
    queue = world.operators[0].operator.events._queue
    assert queue.qsize() <= 1000
    while not queue.empty():
        queue.get_nowait()


def churn(world: World, dice: random.Random, number: int) -> int:
    """What users and nodes do between two rounds; returns how many studies there have been."""
    server = world.server
    names = [name for name in server.names(STUDY) if name != LOW]
    if len(names) < LIVE and dice.random() < 0.5:
        world.apply(
            f"s{number}",
            steps=7,
            space={"lr": {"choices": dice.sample(LRS, dice.randint(1, 4))}},
            algorithm=dice.choice([{"name": "grid"}, {"name": "sha", "eta": 2, "minSteps": 2}]),
            maxTrials=4,
            parallelism=2,
            priority=dice.randint(1, 5),
            # One plan for some, and one that nobody asks for again for others.
            trainer={
                "entrypoint": "t:T",
                "image": "i:1",
                "version": dice.choice(["", str(number)]),
            },
        )
        number += 1
    for name in names:
        study = server.find(STUDY, name)
        ended = (study.get("status") or {}).get("phase") in FINAL
        if dice.random() < (0.3 if ended else 0.01):
            world.delete_study(name)
        elif not ended and dice.random() < 0.05:
            suspended = study["spec"].get("suspend", False)
            server.change_spec(STUDY, name, suspend=not suspended, priority=dice.randint(1, 5))
    for pod in world.pods("Running"):
        if dice.random() < 0.03:
            dice.choice([world.evict, lambda p: world.kill_pod(p, 137, "Error")])(pod)
    if dice.random() < 0.02:
        world.operators[0].faults.set(dice.choice(["refused", "lost"]), dice.randrange(30))
    world.is_strict = False
    return number


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600 if NIGHTLY else 300)
def test_a_day_of_churn_leaves_nothing_behind(
    caplog: pytest.LogCaptureFixture, record_property: Callable[[str, object], None]
) -> None:
    caplog.set_level(logging.CRITICAL)
    dice, world, number = random.Random(SEED), World(), 0
    sizes: list[dict[str, int]] = []
    memory: list[int] = []
    objects: list[int] = []
    low_ended = None
    try:
        world.apply(LOW, steps=7, space={"lr": {"choices": LRS}}, parallelism=1, priority=-5)
        world.start_operator(0, "hippo")
        rounds = int(HOURS * 3600 / ROUND_SECONDS)
        for turn in range(rounds):
            number = churn(world, dice, number)
            operator = world.operators[0]
            world.catch_up(0)
            if turn % 3 == 0:
                with contextlib.suppress(ApiError):  # as its own loop does, and tries again
                    world.run(0, operator.list_again())
            world.take_turn(0)
            world.serve_pods(actions=3)
            world.server.now += ROUND_SECONDS
            world.server.collect_garbage()
            world.forget_what_is_gone()
            send_events(world)
            status = world.server.find(STUDY, LOW).get("status") or {}
            if low_ended is None and status.get("phase") in FINAL:
                low_ended = world.server.now
            if turn % max(1, rounds // 24) == 0:
                gc.collect()
                sizes.append(held(world))
                objects.append(len(gc.get_objects()))
                memory.append(weigh(operator.operator, (world, world.server, world.blobs)))
    finally:
        world.close()
    figures = {"hours": HOURS, "studies": number, "memory": memory, "objects": objects}
    record_property("churn", figures)
    assert number > 10 * HOURS
    early = [sum(entry.values()) for entry in sizes[4:8]]
    late = [sum(entry.values()) for entry in sizes[-4:]]
    assert max(late) < 2 * max(early) + 40, (sizes[4], sizes[-1])
    assert max(memory[-4:]) < 1.5 * max(memory[4:8]), memory
    assert max(objects[-4:]) < 1.1 * max(objects[4:8]), objects
    assert low_ended is not None, "a study of low priority always ends"
