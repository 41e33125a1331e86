"""A namespace with room for two pods, and a trainer that is mended before anything was trained."""

from __future__ import annotations

from hippo.kube import names
from tests.e2e.site import Site

QUOTA = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}}


def test_priority_holds_where_a_quota_is_the_limit(site: Site) -> None:
    site.apply({**QUOTA, "spec": {"hard": {"pods": "2"}}})
    site.start_operator()
    slow = {"config": {"sleep": 0.2}}
    lrs = [0.1, 0.2, 0.3, 0.4]
    site.apply(site.study("low", {"lr": lrs}, parallelism=4, steps=300, **slow))
    site.wait_until(lambda: _count_running(site, "low") == 2, "two of low's four pods run")
    plan = site.plan_name("low")

    def recorded() -> list[str]:
        chains = site.get("searchplan", plan)["status"].get("chains", [])
        return sorted(chain["study"] for chain in chains)

    site.wait_until(lambda: recorded() == ["low"] * 4, "four chains are recorded")
    high = {"parallelism": 2, "priority": 5, "steps": 60, **slow}
    site.apply(site.study("high", {"lr": [0.5, 0.6]}, **high))
    site.wait_until(lambda: recorded().count("low") <= 2, "low's queued chains are taken back")
    site.wait_until(lambda: _count_running(site, "high") >= 1, "a running pod of low makes room")
    assert site.status("low")["trials"]["completed"] == 0
    assert site.wait_for("high", "Succeeded", "Failed")["phase"] == "Succeeded"
    assert site.status("low")["phase"] == "Running"
    ended = site.wait_for("low", "Succeeded", "Failed", seconds=400)
    assert ended["phase"] == "Succeeded"
    for name in ("low", "high"):
        site.check_results(name)
    site.wait_until_idle(plan)
    assert site.count_trained(plan) == 4 * 300 + 2 * 60, "nothing is trained twice"
    assert site.told("low", "ChainFailed") == site.told("low", "ChainPreempted") == ""


def test_a_trainer_is_mended_before_anything_was_trained(site: Site) -> None:
    site.start_operator()
    space = {"lr": [0.1, 0.2]}
    site.apply(site.study("typo", space, trainer={"entrypoint": "chaned:Chained"}, retries=0))
    failed = site.wait_for("typo", "Failed")
    assert failed["stepsTrained"] == 0
    site.apply(site.study("typo", space, trainer={"entrypoint": "chained:Chained"}, retries=0))
    status = site.wait_for("typo", "Succeeded")
    assert status["plan"] != failed["plan"]
    assert status["trials"]["completed"] == 2
    site.check_results("typo")
    assert [plan["metadata"]["name"] for plan in site.list("searchplans")] == [status["plan"]]
    for pod in site.pods("typo"):
        assert pod["metadata"]["labels"][names.LABEL_PLAN] == status["plan"]
    said = site.kubectl(
        *("patch", "study", "typo", "--type=merge", "-p"),
        '{"spec": {"trainer": {"entrypoint": "other:Other"}}}',
        check=False,
    )
    assert said == "", "it is refused"
    assert site.get("study", "typo")["spec"]["trainer"]["entrypoint"] == "chained:Chained"


def _count_running(site: Site, study: str) -> int:
    return sum(pod["status"].get("phase") == "Running" for pod in site.pods(study))
