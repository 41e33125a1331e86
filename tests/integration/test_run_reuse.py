"""What is known is not trained again: by a later run, another study, another command."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.integration.runs import Place, wait_until
from tests.integration.test_run_exact import (
    ALL,
    SPACE,
    STEPS,
    TUNERS,
    check_against_oracle,
    count_unique,
)

GRID: dict[str, Any] = {"steps": STEPS, **TUNERS["grid"]}
SLOW: dict[str, Any] = {"trainer": {"entrypoint": "walk:Walk", "config": {"sleep": 0.02}}}
SHORT = {"lr": [0.1, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [4]}}]}


def test_a_finished_study_stays_finished(place: Place) -> None:
    study = place.study("study", SPACE, **GRID)
    first = place.run(study)
    known = len(place.trained())
    again = place.run(study)
    assert len(place.trained()) == known
    timeless = {key: first[key] for key in ("trials", "best", "stepsRequested", "stepsTrained")}
    assert {key: again[key] for key in timeless} == timeless
    shown = place.call("run", study)
    assert "it had ended: all trials have ended; all 20 points of its space" in shown.stderr
    assert "steps trained: 190 of 360 requested" in shown.stdout


def test_a_later_study_finds_what_an_earlier_one_left(place: Place) -> None:
    first = place.run(place.study("first", SPACE, **GRID, **ALL))
    known = len(place.trained())
    # The same trials by chance, so that the order differs; and longer ones.
    again = place.run(place.study("again", SPACE, **{**GRID, **TUNERS["random"]}))
    assert len(place.trained()) == known
    assert again["stepsTrained"] == 0
    assert len(again["trials"]) == 12
    by_values = {json.dumps(t["hyperparameters"], sort_keys=True): t for t in first["trials"]}
    for trial in again["trials"]:
        twin = by_values[json.dumps(trial["hyperparameters"], sort_keys=True)]
        assert trial["metrics"] == twin["metrics"]
    longer = place.run(place.study("longer", {**SPACE, "lr": [0.1]}, steps=STEPS + 6))
    assert longer["stepsTrained"] == 4 * 6 == len(place.trained()) - known
    place.check_nothing_twice()


def test_with_the_best_alone_retained_a_later_study_reuses_results_and_that_state(
    place: Place,
) -> None:
    best = place.run(place.study("first", SPACE, **GRID))["best"]
    known = len(place.trained())
    again = place.run(place.study("again", SPACE, **GRID))
    assert again["stepsTrained"] == 0
    assert again["best"]["metrics"] == best["metrics"]
    space = {key: [value] for key, value in best["hyperparameters"].items()}
    longer = place.run(place.study("longer", space, steps=STEPS + 2))
    assert longer["stepsTrained"] == 2 == len(place.trained()) - known


def test_an_edited_trainer_reuses_nothing_and_says_so(place: Place) -> None:
    study = place.study("study", SHORT)
    assert place.run(study)["stepsTrained"] == 20
    source = place.folder / "walk.py"
    source.write_text(source.read_text().replace("1e-3 * pull", "2e-3 * pull"))
    done = place.call("run", study, "-o", "json")
    assert done.json()["stepsTrained"] == 20
    (line,) = [line for line in done.stderr.splitlines() if "afresh" in line]
    assert "study" in line
    assert "sources" in line
    assert len(place.trained()) == 40


def test_only_some_fields_may_change(place: Place) -> None:
    study = place.study("study", SHORT)
    place.run(study)
    place.study("study", {"lr": [0.1, 0.3]}, steps=24)
    errors = place.call("run", study, status=2).errors
    assert errors == [
        "study: spec.space: may not change; make another study instead",
        "study: spec.steps: may not change; make another study instead",
    ]
    study = place.study("study", SHORT, parallelism=1, maxFailedTrials=9)
    place.run(study)


def test_more_trials_may_be_asked_for_while_a_study_goes_on(place: Place) -> None:
    spec: dict[str, Any] = {"steps": STEPS, "algorithm": {"name": "random", "seed": 3}, **SLOW}
    study = place.study("study", SPACE, **spec, maxTrials=4)
    process = place.start("run", study, "--workers", "2")
    wait_until(lambda: len(place.trained()) > 4, "it trains")
    place.kill(process)
    process = place.start("run", place.edit("study", maxTrials=8), "--workers", "2")
    wait_until(
        lambda: len(list(place.store_folder.glob("*/*/studies/*/decisions/*"))) == 8, "8 trials"
    )
    place.kill(process)
    assert place.call("run", place.edit("study", maxTrials=4), status=2).errors == [
        "study: spec.maxTrials: may only grow (it was 8)"
    ]
    result = place.run(place.edit("study", maxTrials=8))
    assert [trial["phase"] for trial in result["trials"]] == ["Completed"] * 8
    check_against_oracle(place, result["trials"], with_states=False)


def test_a_suspended_study_waits(place: Place) -> None:
    study = place.study("study", SHORT, suspend=True)
    assert place.call("run", study, status=1).errors == [
        "study: suspended; set spec.suspend to false and run again"
    ]
    assert place.trained() == []
    assert place.run(place.edit("study", suspend=False))["stepsTrained"] == 20


def test_two_studies_in_one_command_share_their_work(place: Place) -> None:
    left = place.study("left", SHORT)
    right = place.study(
        "right", {"lr": [0.1, 0.2]}, objective={"metric": "noise", "goal": "minimize"}
    )
    result = place.run(left, right)
    assert result["stepsTrained"] == place.check_nothing_twice() == 12 + 8 + 12
    assert result["stepsUnique"] == count_unique(result["trials"])
    assert [trial["trial"] for trial in result["trials"]] == [
        *("left-0", "left-1"),
        *("right-0", "right-1"),
    ]
    assert set(result["best"]) == {"left", "right"}
    check_against_oracle(place, list(result["best"].values()))
    shares = [study["workerSeconds"] for study in result["studies"]]
    assert all(share > 0 for share in shares)
    assert abs(sum(shares) - result["workerSeconds"]) < 1e-9


def test_going_on_with_several_studies_keeps_what_each_of_them_needs(place: Place) -> None:
    halving = {"name": "asha", "minSteps": 2}  # of two trials, none is promoted
    quick = place.study("quick", SHORT, **SLOW, steps=60, algorithm=halving, maxTrials=2)
    long = place.study("long", SHORT, **SLOW, steps=60)
    process = place.start("run", quick, long, "--workers", "1")
    wait_until(lambda: len(place.trained()) > 20, "the long one trains")
    process.send_signal(signal.SIGINT)
    place.finish(process, status=1)
    result = place.run(quick, long)
    assert place.check_nothing_twice() == result["stepsTrained"] == 60 + 56
    kept = place.manifests().keys()
    assert len(kept) == 2
    place.run(quick, long)
    assert place.manifests().keys() == kept
    check_against_oracle(place, [result["best"]["long"]], horizon=60)


def test_studies_of_different_trainers_cannot_share_a_run(place: Place) -> None:
    left = place.study("left", SHORT)
    right = place.study("right", SHORT, trainer={"entrypoint": "walk:Walk", "seed": 1})
    assert place.call("run", left, right, status=2).errors == [
        "spec.trainer: studies left and right cannot share a plan: their seed differs;"
        " run them one after the other"
    ]
    assert place.trained() == []
