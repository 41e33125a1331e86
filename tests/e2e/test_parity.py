"""The digits example in pods and by ``hippo run``, in the same image: the same decisions and the
same numbers, and every shared step trained once.
"""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.site import Document, Site

SPACE: Document = {
    "lr": {
        "choices": [
            0.1,
            {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
            {"warmup": {"from": 0, "steps": 2, "to": 0.1, "then": 0.1}},
        ]
    },
    "momentum": {"choices": [0.9]},
    "batch_size": {"choices": [{"piecewise": [[0, 64], [8, 128]]}]},
}
ALGORITHMS: dict[str, Document] = {
    "grid": {"algorithm": {"name": "grid"}},
    "pbt": {"algorithm": {"name": "pbt", "population": 3, "interval": 4, "quantile": 0.34}},
    "asha": {"algorithm": {"name": "asha", "eta": 2, "minSteps": 3}},
}


def digits(site: Site, name: str) -> Document:
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": name},
        "spec": {
            "objective": {"metric": "accuracy", "goal": "maximize"},
            "steps": 12,
            "space": SPACE,
            "parallelism": 2,
            **ALGORITHMS[name],
            "trainer": {
                "entrypoint": "trainer:DigitsTrainer",
                "image": site.cluster.digits_image,
                "resources": {"limits": {"nvidia.com/gpu": 1}},
                "version": name,  # each a plan of its own
            },
        },
    }


def decided(trial: Document) -> tuple[Any, ...]:
    """What was decided of a trial that the operator made, and what came of it."""
    return (
        trial["metadata"]["name"],
        json.dumps(trial["spec"]["hyperparameters"], sort_keys=True),
        trial["status"]["step"],
        trial["status"]["phase"],
        trial["status"]["metrics"],
    )


def told(trial: Document) -> tuple[Any, ...]:
    """The same of one that ``hippo run`` prints."""
    return (
        trial["trial"],
        json.dumps(trial["hyperparameters"], sort_keys=True),
        trial["steps"],
        trial["phase"],
        trial["metrics"],
    )


def test_digits_in_pods_and_by_hippo_run(site: Site) -> None:
    studies = {name: digits(site, name) for name in ALGORITHMS}
    local = site.run_in_pod(studies.values(), site.cluster.digits_image)
    site.start_operator()
    site.apply(*studies.values())
    for name in studies:
        status = site.wait_for(name, "Succeeded", "Failed")
        assert status["phase"] == "Succeeded", status["message"]
        site.wait_until_idle(status["plan"])
        plan = site.get("searchplan", status["plan"])["status"]
        assert site.count_trained(status["plan"]) == plan["stepsUnique"]
    for name in ("grid", "pbt"):
        expected = sorted(told(trial) for trial in local[name]["trials"])
        assert sorted(decided(trial) for trial in site.trials(name)) == expected
        best = site.status(name)["best"]
        assert (best["trial"], best["value"]) == (
            local[name]["best"]["trial"],
            local[name]["best"]["metrics"]["accuracy"],
        )
        assert local[name]["stepsTrained"] == site.count_trained(site.plan_name(name))
    # ASHA's choices depend on the order of results; what both have trained is equal.
    here = {decided(trial)[1:3]: trial["status"]["metrics"] for trial in site.trials("asha")}
    there = {told(trial)[1:3]: trial["metrics"] for trial in local["asha"]["trials"]}
    assert here.keys() & there.keys()
    assert all(here[key] == there[key] for key in here.keys() & there.keys())
