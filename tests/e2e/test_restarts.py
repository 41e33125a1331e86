"""Operators that are killed, and pods that are: the same results, and nothing trained twice."""

from __future__ import annotations

import random
import signal
import time
from typing import Any

from tests.e2e.site import Site

LRS: list[Any] = [
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [milestone]}}
    for milestone in (8, 12, 16, 20, 30)
]
MOMENTA: list[Any] = [0.9, {"piecewise": [[0, 0.9], [10, 0.5]]}]
KILLS = 12
"""Of the operator, at moments all over the studies: at least so many; about twice as many happen
before they end.
"""
PODS = 3
"""Killed on the way as well."""


def count_opened(site: Site) -> int:
    """How often operators have opened a plan."""
    return site.log.read_text().count("opened for") if site.log.exists() else 0


def test_operator_and_pods_are_killed_again_and_again(site: Site) -> None:
    dice = random.Random(5)
    grid = site.study("grid", {"lr": LRS, "momentum": MOMENTA}, steps=40, config={"sleep": 0.4})
    asha = site.study(
        "asha",
        {"lr": LRS[1:], "momentum": MOMENTA},
        steps=40,
        algorithm={"name": "asha", "eta": 2, "minSteps": 10},
        maxTrials=6,
        config={"sleep": 0.4},
        trainer={"version": "2"},  # a plan of its own: what verdicts let go is nobody else's
    )
    site.apply(grid, asha)
    kills, doomed = 0, dice.sample(range(3, KILLS), PODS)

    def has_ended() -> bool:
        return all(site.status(name).get("phase") == "Succeeded" for name in ("grid", "asha"))

    def is_at_work(opened: int) -> bool:
        return count_opened(site) > opened or has_ended()

    while not has_ended():
        opened = count_opened(site)
        site.start_operator()
        if dice.random() < 0.7:  # else it is killed while it starts, or opens a plan
            site.wait_until(lambda n=opened: is_at_work(n), "the operator has opened a plan")
        time.sleep(dice.uniform(0.0, 2.5))
        site.stop_operator(signal.SIGKILL)
        kills += 1
        if kills in doomed:
            running = [
                pod["metadata"]["name"]
                for pod in site.list("pods")
                if pod["status"]["phase"] == "Running"
            ]
            for name in running[:1]:
                site.kubectl("delete", "pod", name, "--wait=false", "--grace-period=0", "--force")
    print(f"the operator was killed {kills} times")
    assert kills >= KILLS, "the studies are too short for this test"
    site.start_operator()
    for name in ("grid", "asha"):
        status = site.wait_for(name, "Succeeded", "Failed")
        assert status["phase"] == "Succeeded", status["message"]
        site.check_results(name)
        plan = status["plan"]
        site.wait_until_idle(plan)
        told = site.get("searchplan", plan)["status"]
        assert site.count_trained(plan) == told["stepsUnique"], "a step was trained twice"
        assert told["stepsTrained"] == told["stepsUnique"]
    assert site.status("grid")["progress"] == "10/10"
    names = [pod["metadata"]["name"] for pod in site.list("pods")]
    assert len(names) == len(set(names))


def test_two_operators_never_train_a_stage_twice(site: Site) -> None:
    site.start_operator()
    site.apply(site.study("grid", {"lr": LRS[:3]}, steps=24, config={"sleep": 0.2}))
    site.wait_for("grid", "Running")
    first, site.operator = site.operator, None
    site.port += 1
    site.start_operator("--identity", "another")
    status = site.wait_for("grid", "Succeeded", "Failed")
    assert first is not None
    first.kill()
    first.wait()
    assert status["phase"] == "Succeeded"
    site.check_results("grid")
    site.wait_until_idle(status["plan"])
    told = site.get("searchplan", status["plan"])["status"]
    assert site.count_trained(status["plan"]) == told["stepsUnique"]
