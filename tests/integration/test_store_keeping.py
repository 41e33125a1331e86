"""``hippo store``: what is kept between runs, and what goes."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs import Place, wait_until
from tests.integration.test_run_exact import check_against_oracle

SPACE: dict[str, Any] = {
    "lr": [0.1, 0.2, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}}],
    "momentum": [0.9, 0.8],
}
SLOW: dict[str, Any] = {"trainer": {"entrypoint": "walk:Walk", "config": {"sleep": 0.02}}}
HALVING: dict[str, Any] = {
    "algorithm": {"name": "sha", "minSteps": 3, "eta": 2, "seed": 1},
    "checkpoints": {"retain": "none"},
}


def test_clean_up_between_two_runs_takes_nothing_that_may_still_be_promoted(place: Place) -> None:
    done = place.study("done", {"lr": [0.3]}, **SLOW)
    place.run(done)
    study = place.study("halving", SPACE, **SLOW, **HALVING)
    process = place.start("run", study, "--workers", "1")
    wait_until(lambda: len(place.evaluated()) >= 4, "trials are paused at the first rung")
    process.send_signal(signal.SIGINT)
    place.finish(process, status=1)
    kept = place.manifests().keys()
    assert len(kept) > 1
    assert place.call("store", "gc", "-o", "json").json()["plans"][0]["checkpoints"] == 0
    (error,) = place.call("store", "gc", "--max-bytes", "0B", status=1).errors
    assert "needed by studies that have not ended" in error
    assert place.manifests().keys() == kept
    result = place.run(study)
    assert [trial["phase"] for trial in result["trials"]].count("Completed") > 0
    place.check_nothing_twice()
    assert place.run(done)["best"]["trial"] == "done-0"
    place.check_nothing_twice()


def test_a_running_study_is_not_cleaned_up(place: Place) -> None:
    trainer = {"entrypoint": "walk:Walk", "config": {"sleep": 0.5}}
    study = place.study("study", SPACE, steps=600, trainer=trainer)
    process = place.start("run", study, "--workers", "2")
    wait_until(lambda: len(place.trained()) > 2, "it trains")
    told = place.call("store", "gc").stdout
    assert "skipped: in use by another hippo on host" in told
    assert f"pid {process.pid}" in told
    listed = place.call("store", "ls", "-o", "json").json()["plans"][0]
    assert f"pid {process.pid}" in listed["inUse"]
    assert listed["studies"][0]["keeps"] == "plan"
    (error,) = place.call("store", "rm", "study", status=1).errors
    assert f"pid {process.pid}" in error
    process.send_signal(signal.SIGINT)
    place.finish(process, status=1)


def test_the_life_of_a_deleted_study(place: Place) -> None:
    spec = {"checkpoints": {"retain": "all", "ttl": "0s"}}
    first = place.run(place.study("study", SPACE, **spec))
    place.run(place.study("other", {"lr": [0.1], "momentum": [0.9]}))
    (plan,) = place.call("store", "ls", "-o", "json").json()["plans"]
    assert [(s["study"], s["keeps"], s["best"]) for s in plan["studies"]] == [
        ("other", "best", 0),
        ("study", "paths", int(first["best"]["trial"].rpartition("-")[2])),
    ]
    assert plan["studies"][1]["checkpoints"] == plan["checkpoints"]["count"] == 8
    shown = place.call("store", "ls").stdout
    assert "all on its way" in shown
    assert "1 plan, 2 studies, 8 checkpoints" in shown

    assert place.call("store", "rm", "study").stdout.endswith(": study is deleted\n")
    assert "gc would remove 7 checkpoints" in place.call("store", "ls").stdout
    dry = place.call("store", "gc", "--dry-run", "-o", "json").json()
    assert len(place.manifests()) == 8
    wet = place.call("store", "gc", "-o", "json").json()
    assert {**wet, "dryRun": True} == dry
    assert wet["plans"][0]["studies"] == ["study"]
    assert len(place.manifests()) == 1, "the other study's best"
    (listed,) = place.call("store", "ls", "-o", "json").json()["plans"]
    assert [study["study"] for study in listed["studies"]] == ["other"]

    # Results are still known, so that the study, begun afresh, trains nothing.
    known = len(place.trained())
    assert place.run(place.folder / "study.yaml")["best"]["metrics"] == first["best"]["metrics"]
    assert len(place.trained()) == known


def test_a_study_run_again_after_its_deletion_is_another_one(place: Place) -> None:
    place.run(place.study("study", {"lr": [0.1, 0.2]}))
    study = place.study("study", {"lr": [0.2, 0.3]})
    assert place.call("run", study, status=2).errors  # an edit that is not allowed
    place.call("store", "rm", study)
    done = place.call("run", study, "-o", "json")
    assert "begun afresh: it had been deleted" in done.stderr
    result = done.json()
    assert [trial["hyperparameters"] for trial in result["trials"]] == [{"lr": 0.2}, {"lr": 0.3}]
    assert place.check_nothing_twice() == 36
    assert result["studies"][0]["workerSeconds"] < 12 * 3
    assert len(place.plan().read_decisions("study")) == 2


def test_what_a_budget_took_is_trained_again_where_it_is_needed(place: Place) -> None:
    retained: dict[str, Any] = {"checkpoints": {"retain": "all"}}
    best = place.run(place.study("study", SPACE, **retained))["best"]
    before = place.call("store", "ls", "-o", "json").json()
    done = place.call("store", "gc", "--max-bytes", f"{before['bytes'] - 1200}B", "-o", "json")
    found = done.json()
    assert found["bytesLeft"] <= before["bytes"] - 1200
    assert found["plans"][0]["evicted"] > 1
    place.call("store", "gc", "--max-bytes", "0B", status=1)
    assert len(place.manifests()) == 1
    place.call("export", "study", "--best")
    values = {key: [value] for key, value in best["hyperparameters"].items()}
    longer = place.run(place.study("longer", values, steps=15))
    assert longer["stepsTrained"] == 3, "from the best, which was kept"
    again = place.run(place.study("again", SPACE, steps=15))
    assert again["best"]["metrics"]
    check_against_oracle(place, again["trials"], with_states=False, horizon=15)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["gc", "--max-bytes", "10 Gb"], "--max-bytes: must be a size such as"),
        (["gc", "--max-bytes", "-1B"], "--max-bytes: must be a size such as"),
        (["ls", "-n", "Team/A"], "--namespace: must have at most 63 lower-case letters"),
        (["ls", "nowhere"], "there is no store at "),
        (["rm", "nobody", "."], "has no study 'nobody' in default: run it first"),
        (["rm", "a/../b", "."], "has no study 'a/../b' in default: run it first"),
    ],
)
def test_bad_input_is_one_clear_line(place: Place, arguments: list[str], error: str) -> None:
    Path(place.folder / ".hippo").mkdir()
    done = place.call("store", *arguments, status=None)
    assert done.status in (1, 2)
    assert len(done.errors) == 1
    assert error in done.errors[0]
    assert done.stdout == ""
