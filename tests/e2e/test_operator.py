"""The operator on a real node: studies from apply to their end, and what may happen on the way."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.site import Site

LRS: list[Any] = [
    0.1,
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
    {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [9]}},
]
MOMENTA: list[Any] = [0.9, {"piecewise": [[0, 0.9], [8, 0.5]]}]


def test_a_grid_is_trained_once_for_each_shared_step(site: Site) -> None:
    site.start_operator()
    site.apply(site.study("grid", {"lr": LRS, "momentum": MOMENTA}))
    status = site.wait_for("grid", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded"
    assert (status["progress"], status["stepsRequested"]) == ("6/6", 72)
    site.check_results("grid")
    site.wait_until_idle(status["plan"])
    plan = site.get("searchplan", status["plan"])["status"]
    assert plan["stepsUnique"] == plan["stepsTrained"] == site.count_trained(status["plan"]) == 32
    assert plan["chains"] == []
    assert plan["stages"] == {"done": 11, "running": 0, "pending": 0, "failed": 0}
    assert {c["type"]: c["status"] for c in status["conditions"]} == {
        "Accepted": "True",
        "Progressing": "False",
        "Suspended": "False",
        "Complete": "True",
        "Failed": "False",
    }
    site.wait_for_reasons("grid", "Running", "Succeeded")
    assert {event["reason"] for event in site.events("grid")} == {"Running", "Succeeded"}


def test_a_plan_of_ten_thousand_trials_has_a_small_status_with_exact_counts(site: Site) -> None:
    def schedules(first: int) -> list[Any]:
        return [
            {"multistep": {"initial": 1, "gamma": 0.5, "milestones": [first + index]}}
            for index in range(100)
        ]

    space = {"lr": schedules(10), "momentum": schedules(200)}
    site.start_operator()
    site.apply(site.study("large", space, steps=400, parallelism=1, config={"sleep": 5}))
    status = site.wait_for("large", "Running")
    assert status["trials"]["total"] == 10_000
    assert status["progress"] == "0/10000"
    assert len(json.dumps(site.get("study", "large"))) < 64 * 1024
    plan = site.get("searchplan", status["plan"])
    assert len(json.dumps(plan)) < 64 * 1024
    told = plan["status"]
    # Trials come to be a window ahead of the work: these are all that there are.
    trials = site.trials("large")
    assert len(trials) == told["trials"]["pending"] == 500
    # The first 500 points vary momentum within five schedules of lr: a trunk to the first milestone
    # of lr, and beyond the last five ways that each fork a hundredfold.
    steps = sum(trial["spec"]["steps"] for trial in trials)
    assert told["stepsRequested"] == steps == 200_000
    assert told["stages"]["pending"] + told["stages"]["running"] == sum(
        stage.get("stages", 1) for stage in told["tree"]
    )
    site.kubectl("delete", "study", "large")
    site.wait_until(lambda: not site.list("searchplans"), "the plan goes with its study")
