"""Trials that users make: requests to a study of the algorithm ``external``."""

from __future__ import annotations

from typing import Any

from tests.e2e.site import Site


def trial(name: str, study: str, lr: Any, steps: int) -> dict[str, Any]:
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Trial",
        "metadata": {"name": name},
        "spec": {"study": study, "hyperparameters": {"lr": lr}, "steps": steps},
    }


def test_trials_of_users_are_trained_extended_stopped_and_refused(site: Site) -> None:
    site.start_operator()
    site.apply(
        site.study("mine", {"lr": [0.1]}, algorithm={"name": "external"}, maxTrials=3),
        trial("first", "mine", 0.1, 4),
        trial("late", "mine", {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}}, 8),
        trial("odd", "mine", {"cosine": {"initial": 0.1, "final": 0, "steps": 0}}, 4),
    )

    def status(name: str) -> dict[str, Any]:
        found: dict[str, Any] = site.get("trial", name).get("status") or {}
        return found

    for name, step in (("first", 4), ("late", 8)):
        site.wait_until(lambda n=name, s=step: status(n).get("step") == s, f"{name} is at {step}")
        assert status(name)["phase"] == "Paused"
    site.wait_until(lambda: status("odd").get("phase") == "Rejected", "odd is refused")
    assert "cosine.steps: must be at least 1" in status("odd")["reason"]

    site.patch("trial", "first", {"steps": 12})
    site.wait_until(lambda: status("first").get("phase") == "Completed", "first goes on")
    site.patch("trial", "late", {"stop": True})
    site.wait_until(lambda: status("late").get("phase") == "Stopped", "late is stopped")
    site.stop_operator()
    site.start_operator()
    site.apply(trial("third", "mine", 0.2, 12))
    site.wait_until(lambda: status("third").get("phase") == "Completed", "third is trained")
    assert site.wait_for("mine", "Succeeded", "Failed")["phase"] == "Succeeded"
    plan = site.plan_name("mine")
    site.wait_until_idle(plan)
    assert site.count_trained(plan) == 12 + 2 + 12
