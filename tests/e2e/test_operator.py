"""The operator on a real node: studies from apply to their end, and what may happen on the way."""

from __future__ import annotations

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
    assert [event["reason"] for event in site.events("grid")] == ["Running", "Succeeded"]
