"""Several studies of one trainer: one plan, its work done once, whoever comes and goes."""

from __future__ import annotations

from typing import Any

from tests.e2e.site import Site


def late(*milestones: int) -> list[Any]:
    return [
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [milestone]}}
        for milestone in milestones
    ]


def test_overlapping_studies_train_the_union_once_and_a_later_one_reuses_it(site: Site) -> None:
    site.start_operator()
    keep = {"checkpoints": {"retain": "all"}}
    site.apply(
        site.study("one", {"lr": late(4, 6, 8)}, **keep),
        site.study("two", {"lr": late(6, 8, 10)}, **keep),
    )
    plans = {site.wait_for(name, "Succeeded", "Failed")["plan"] for name in ("one", "two")}
    assert len(plans) == 1
    plan = plans.pop()
    # 0-4, then 4-12 and 4-6, then 6-12 and 6-8, then 8-12 twice: the union of both
    union = 4 + 8 + 2 + 6 + 2 + 4 + 4
    site.wait_until_idle(plan)
    told = site.get("searchplan", plan)
    assert told["status"]["stepsUnique"] == told["status"]["stepsTrained"] == union
    assert site.count_trained(plan) == union
    assert told["status"]["studies"] == ["one", "two"]
    assert {o["name"] for o in told["metadata"]["ownerReferences"]} == {"one", "two"}
    for name in ("one", "two"):
        site.check_results(name)

    def is_split() -> bool:
        """The end of the last worker is charged after its study has ended."""
        total = site.get("searchplan", plan)["status"]["workerSeconds"]
        spent = sum(site.status(name)["workerSeconds"] for name in ("one", "two"))
        return bool(abs(spent - total) < 0.2)

    site.wait_until(is_split, "what is shared is split")

    site.kubectl("delete", "study", "one", "two")
    site.wait_until(lambda: not site.list("searchplans"), "the last study takes the plan along")
    site.wait_until(lambda: not site.list("trials"), "Trials go with their study")
    site.apply(site.study("three", {"lr": late(4, 8, 10)}))
    status = site.wait_for("three", "Succeeded", "Failed")
    assert status["phase"] == "Succeeded"
    site.check_results("three")
    assert status["workerSeconds"] == 0
    assert site.get("searchplan", plan)["status"]["stepsTrained"] == 0
    assert site.count_trained(plan) == union, "all of it was stored"


def test_studies_are_suspended_edited_and_deleted_while_others_go_on(site: Site) -> None:
    site.start_operator()
    slow = {"config": {"sleep": 0.3}, "steps": 30, "parallelism": 1}
    site.apply(
        site.study("stays", {"lr": late(10, 20)}, **slow),
        site.study("sleeps", {"lr": late(15)}, **slow),
        site.study("goes", {"lr": late(5)}, **slow),
    )
    for name in ("stays", "sleeps", "goes"):
        site.wait_for(name, "Running")
    site.patch("study", "sleeps", {"suspend": True})
    site.kubectl("delete", "study", "goes")
    status = site.wait_for("sleeps", "Suspended")
    condition = site.condition("sleeps", "Suspended")
    assert condition is not None
    assert condition["status"] == "True"
    assert status["observedGeneration"] == site.get("study", "sleeps")["metadata"]["generation"]
    site.patch("study", "stays", {"parallelism": 3, "priority": 5})
    assert site.wait_for("stays", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert site.status("sleeps")["phase"] == "Suspended"
    site.patch("study", "sleeps", {"suspend": False})
    assert site.wait_for("sleeps", "Succeeded", "Failed")["phase"] == "Succeeded"
    for name in ("stays", "sleeps"):
        site.check_results(name)
    site.wait_for_reasons("sleeps", "Running", "Suspended", "Resumed", "Succeeded")
    assert all(trial["spec"]["study"] != "goes" for trial in site.list("trials"))
    plan = site.plan_name("stays")
    site.wait_until_idle(plan)
    assert site.get("searchplan", plan)["status"]["studies"] == ["sleeps", "stays"]


def test_a_study_that_is_made_again_under_its_name_is_another_one(site: Site) -> None:
    site.start_operator()
    site.apply(site.study("again", {"lr": late(4)}, checkpoints={"retain": "all"}))
    first = site.wait_for("again", "Succeeded", "Failed")
    site.kubectl("delete", "study", "again")
    site.apply(site.study("again", {"lr": late(4, 8)}))
    second = site.wait_for("again", "Succeeded", "Failed")
    assert first["plan"] == second["plan"]
    assert second["progress"] == "2/2"
    site.check_results("again")
    site.wait_until_idle(second["plan"])
    # The first result is found again; where the other parts from it no state was kept.
    assert site.count_trained(second["plan"]) == 12 + 12


def test_budgets_end_a_study_with_what_it_has(site: Site) -> None:
    site.start_operator()
    site.apply(
        site.study(
            "short",
            {"lr": late(5, 10, 15, 20)},
            steps=200,
            config={"sleep": 0.2},
            parallelism=1,
            budget={"wallTime": "8s"},
        )
    )
    status = site.wait_for("short", "Succeeded", "Failed")
    assert "its budget of 8s of wall time is spent" in status["message"]
