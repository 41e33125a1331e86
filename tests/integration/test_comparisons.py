"""What is compared trains the same trials: merged, trial by trial, and in virtual time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs import Place
from tests.integration.test_run_exact import STEPS

LATE = {"uniform": {"low": 0.1, "high": 0.9}}
SPACE: dict[str, Any] = {
    "lr": [0.3, 0.1, {"multistep": {"initial": 0.3, "gamma": LATE, "milestones": [6]}}],
    "momentum": [0.9, {"piecewise": [[0, 0.9], [8, 0.5]]}],
}
ALIKE: dict[str, dict[str, Any]] = {
    "random": {"name": "random", "prefixFirst": {}},
    "sha": {"name": "sha", "eta": 2, "minSteps": 3, "prefixFirst": {"weight": 2}},
    "hyperband": {"name": "hyperband", "eta": 3, "minSteps": 2, "prefixFirst": {}},
    "qmc": {"name": "optuna", "sampler": "qmc", "prefixFirst": {"candidates": 4}},
}
BY_ORDER: dict[str, dict[str, Any]] = {
    "asha": {"name": "asha", "eta": 2, "minSteps": 3, "prefixFirst": {}},
    "median": {"name": "median", "every": 2, "minTrials": 2, "prefixFirst": {}},
    "tpe": {"name": "optuna", "sampler": "tpe", "prefixFirst": {"candidates": 4}},
}


def study(place: Place, algorithm: dict[str, Any], **spec: Any) -> Path:
    return place.study("s", SPACE, steps=STEPS, algorithm=algorithm, maxTrials=10, **spec)


def trials(result: Any) -> list[Any]:
    return [(t["trial"], t["hyperparameters"], t["steps"], t["phase"]) for t in result["trials"]]


def simulate(place: Place, path: Path) -> Any:
    """With other numbers of workers and other overheads than the run."""
    costs: list[str | Path] = ["--step-seconds", "2", "--start-seconds", "3", "--load-seconds", "1"]
    arguments = [*costs, "--workers", "4", "--curves", place.store_folder, "-o", "json"]
    return place.call("simulate", path, *arguments).json()


@pytest.mark.parametrize("name", ALIKE)
def test_draws_are_alike(place: Place, name: str) -> None:
    path = study(place, ALIKE[name])
    merged = place.run(path)
    done = place.call("run", path, "--no-merge", "--store", "apart", "--workers", "3", "-o", "json")
    assert trials(done.json()) == trials(merged)
    assert "order of results" not in done.stderr
    found = simulate(place, path)
    assert found["stepsUnique"] == merged["stepsUnique"]
    assert found["studies"][0] == {
        "study": "s",
        "phase": "Succeeded",
        "message": "all trials have ended",
        "trials": len(merged["trials"]),
        "decisions": "simulated",
        "best": merged["best"]["trial"],
    }


@pytest.mark.parametrize("name", BY_ORDER)
def test_decisions_that_depend_on_order_are_repeated(place: Place, name: str) -> None:
    path = study(place, BY_ORDER[name])
    merged = place.run(path)
    alone = place.run(path, "--no-merge", "--like", ".hippo", "--store", "apart", workers=3)
    assert trials(alone) == trials(merged)
    assert alone["stepsTrained"] >= alone["stepsRequested"] == merged["stepsRequested"]
    again = place.run(path, "--no-merge", "--like", ".hippo", workers=1)  # in the same store
    assert trials(again) == trials(merged)
    found = simulate(place, path)
    assert found["studies"][0]["decisions"] == "recorded"
    assert found["stepsUnique"] == merged["stepsUnique"]
    assert found["trialBased"]["stepsTrained"] == merged["stepsRequested"]
    assert found["studies"][0]["best"] == merged["best"]["trial"]


def test_why_a_run_is_not_repeated_is_said_where_curves_end(place: Place) -> None:
    path = study(place, BY_ORDER["tpe"])
    place.run(path)
    place.edit("s", maxTrials=12)  # the sampler draws from the results of another run
    done = place.call("simulate", path, "--workers", "3", "--curves", ".hippo", status=2)
    missing, reason = done.errors[0], done.stderr.splitlines()[-1]
    assert "holds no metrics of" in missing
    assert reason.endswith(f"--curves: in {place.store_folder} the spec.maxTrials of s differs")


def test_what_may_differ_is_said_in_one_line(place: Place) -> None:
    path = study(place, BY_ORDER["asha"])
    done = place.call("run", path, "--no-merge", "--workers", "2")
    (line,) = (line for line in done.stderr.splitlines() if "order of results" in line)
    assert line[7:] == (
        "s: which trials go on depends on the order of results, so they may differ from those of"
        " a merged run; with --like STORE the decisions of one are repeated"
    )
    path = study(place, ALIKE["random"], budget={"wallTime": "1h"})
    done = place.call("run", path, "--no-merge", "--store", "other", "--workers", "2")
    assert "s: trial by trial its budget is spent sooner, so fewer trials may be" in done.stderr


def test_what_cannot_be_repeated_is_refused(place: Place) -> None:
    path = study(place, BY_ORDER["asha"])

    def complaint(*arguments: str) -> str:
        done = place.call("run", path, *arguments, "--workers", "2", status=2)
        (line,) = done.errors
        return line

    assert complaint("--like", ".hippo") == "--like: goes with --no-merge"
    place.run(path, "--no-merge", "--store", "apart")
    like = ["--no-merge", "--store", "apart", "--like"]
    store = place.folder / "apart"
    assert complaint(*like, "apart") == f"--like: {store} holds no run of s: run it there first"
    place.run(path)
    study(place, {**BY_ORDER["asha"], "seed": 7})
    other = complaint("--no-merge", "--store", "more", "--like", ".hippo")
    assert other == f"--like: in {place.store_folder} the spec.algorithm of s differs"
