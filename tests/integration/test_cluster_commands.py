"""``hippo results``, ``tree`` and ``logs``, of studies that were really run."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs import Place, wait_until

SPACE: dict[str, Any] = {
    "lr": [0.1, 0.2, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}}],
    "momentum": [0.9, {"piecewise": [[0, 0.9], [9, 0.8]]}],
}
ALGORITHMS: dict[str, dict[str, Any]] = {
    "grid": {"name": "grid"},
    "sha": {"name": "sha", "minSteps": 3, "eta": 2, "seed": 1},
    "asha": {"name": "asha", "minSteps": 3, "eta": 2, "seed": 1},
    "hyperband": {"name": "hyperband", "minSteps": 3, "eta": 2, "seed": 1},
    "pbt": {"name": "pbt", "population": 4, "interval": 3, "seed": 1},
    "median": {"name": "median", "every": 3, "seed": 1},
}


def slow(seconds: float, steps: int = 12) -> dict[str, Any]:
    return {
        "steps": steps,
        "trainer": {"entrypoint": "walk:Walk", "config": {"sleep": seconds}},
    }


def files_of(folder: Path) -> dict[str, int]:
    return {str(file): file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_results_are_those_of_the_run(place: Place, algorithm: str) -> None:
    more = {} if algorithm in ("grid", "pbt") else {"maxTrials": 6}
    study = place.study("study", SPACE, algorithm=ALGORITHMS[algorithm], **more)
    run = place.run(study)
    before = files_of(place.folder)
    found = place.call("results", study, "-o", "json").json()
    for name in ("trials", "best", "stepsRequested", "stepsUnique", "stepsTrained", "mergeRate"):
        assert found[name] == run[name], name
    assert found["workerSeconds"] == pytest.approx(run["workerSeconds"])
    assert found["phase"] == "Succeeded"
    assert found["inUse"] is None
    tree = place.call("tree", "study", "-o", "json").json()
    assert {stage["state"] for stage in tree["stages"]} == {"Done"}
    assert sum(stage["end"] - stage["start"] for stage in tree["stages"]) == run["stepsUnique"]
    assert files_of(place.folder) == before  # they only read


def test_what_suggested_the_trials_need_not_be_installed(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = {"name": "optuna", "sampler": "tpe", "seed": 1}
    run = place.run(place.study("study", SPACE, algorithm=sampler, maxTrials=4))
    lacking = place.folder.parent / "lacking"
    lacking.mkdir()
    for package in ("optuna", "kubernetes", "kopf", "aiohttp", "prometheus_client", "torch"):
        (lacking / f"{package}.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(lacking))
    found = place.call("results", "study", "-o", "json").json()
    assert found["trials"] == run["trials"]
    assert found["best"] == run["best"]
    place.call("tree", "study")
    place.call("logs", "study")


def test_replicates_and_trial_by_trial(place: Place) -> None:
    replicates = {"replicateBest": 1, "replicates": 2}
    try_again = place.study("again", {"lr": [0.1, 0.2]}, **replicates)
    run = place.run(try_again)
    found = place.call("results", try_again, "-o", "json").json()
    assert found["trials"] == run["trials"]
    assert found["replicates"] == run["studies"][0]["replicates"]
    alone = place.run(try_again, "--no-merge", "--store", "apart")
    assert (
        place.call("results", "again", "--store", "apart", "-o", "json").json()["trials"]
        == (alone["trials"])
    )
    stages = place.call("tree", "again", "--store", "apart", "-o", "json").json()["stages"]
    assert sum(stage["end"] - stage["start"] for stage in stages) == alone["stepsTrained"]


def test_failed_and_diverged_trials_say_why(place: Place) -> None:
    study = place.study("study", {"lr": [0.1], "mode": ["good", "raise", "nan"]}, retries=0)
    run = place.run(study, status=None)
    found = place.call("results", study, "-o", "json").json()
    assert found["trials"] == run["trials"]
    assert found["phase"] == run["studies"][0]["phase"]
    told = place.call("results", study).stdout
    for trial in run["trials"]:
        assert trial["phase"] in told
        if trial["phase"] == "Failed":
            assert trial["reason"].split()[0] in told
    states = [s["state"] for s in place.call("tree", study, "-o", "json").json()["stages"]]
    assert states.count("Failed") == sum(trial["phase"] == "Failed" for trial in run["trials"])


def test_a_study_in_progress(place: Place) -> None:
    study = place.study("study", SPACE, **slow(0.3, steps=60))
    process = place.start("run", study, "--workers", "2")
    wait_until(lambda: len(place.trained()) > 20, "work has forked")
    found = place.call("results", study, "-o", "json").json()
    assert found["phase"] == "Running"
    assert f"pid {process.pid}" in found["inUse"]
    assert [trial["phase"] for trial in found["trials"]] == ["Pending"] * 6
    tree = place.call("tree", study, "-o", "json").json()
    assert tree["workers"] == 2
    states = [stage["state"] for stage in tree["stages"]]
    placed = states.count("Running") + sum(stage["workersBeyond"] for stage in tree["stages"])
    assert 1 <= placed <= 2  # one that has left nothing yet may be at any of several places
    assert states.count("Pending") > 0
    drawn = place.call("tree", study).stdout
    assert "2 workers at work" in drawn
    place.kill(process)
    tree = place.call("tree", study, "-o", "json").json()
    assert tree["workers"] == 0
    assert tree["inUse"] is None
    assert "but nobody is at work on it now" in place.call("tree", study).stdout
    stored = [stage for stage in tree["stages"] if stage["isStored"]]
    assert all(stage["state"] == "Done" for stage in stored)


def test_a_finished_worker_makes_its_stage_stored_in_the_drawing(place: Place) -> None:
    study = place.study("study", SPACE, checkpoints={"retain": "all"})
    place.run(study)
    drawn = place.call("tree", study).stdout
    assert drawn.startswith("stage tree\n")
    assert drawn.count("  stored") == sum("→" in line for line in drawn.splitlines())
    assert "study: Succeeded: all trials have ended" in drawn
    place.call("store", "rm", "study")
    assert ", deleted" in place.call("results", "study").stdout


def test_a_store_in_a_bucket_is_named_by_the_environment(
    place: Place, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = place.study("study", SPACE)
    run = place.run(study, "--store", s3_url)
    monkeypatch.setenv("HIPPO_STORE", s3_url)
    found = place.call("results", "study", "-o", "json").json()
    assert found["trials"] == run["trials"]
    assert place.call("tree", "study").stdout.count("Succeeded") == 1
    shown = place.call("logs", study).stdout  # they stay on the machine, beside the study
    assert shown.startswith("==> r1-")


def test_what_is_not_there_is_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for command in ("results", "tree", "logs"):
        (error,) = place.call(command, "nobody", status=1).errors
        assert "there is no store at" in error
    assert "kubectl, for those of a cluster, is not installed" in error
    study = place.study("study", {"lr": [0.1]})
    place.run(study)
    for command in ("results", "tree", "logs"):
        (error,) = place.call(command, "nobody", status=1).errors
        assert "has no study 'nobody' in default" in error


# -- logs ------------------------------------------------------------------------------------------

TALKING = """
from walk import Walk


class Talking(Walk):
    def step(self, hparams):
        print("lr", hparams["lr"], flush=True)
        return super().step(hparams)
"""


def talking(place: Place, seconds: float) -> Path:
    (place.folder / "talking.py").write_text(TALKING)
    trainer = {"entrypoint": "talking:Talking", "config": {"sleep": seconds}}
    return place.study("study", {"lr": [0.1, 0.2]}, steps=4, trainer=trainer)


def test_logs_of_this_machine(place: Place) -> None:
    study = talking(place, 0.0)
    place.run(study, workers=1)
    shown = place.call("logs", study).stdout
    heads = [line for line in shown.splitlines() if line.startswith("==>")]
    assert len(heads) == 2
    assert shown.count("lr 0.1\n") == shown.count("lr 0.2\n") == 4
    last = place.call("logs", "study", "--tail", "1").stdout
    assert last.splitlines()[::2] == heads
    assert last.count("lr 0.") == 2
    one = place.call("logs", "study", "--trial", "study-1").stdout
    assert one.count("lr 0.2\n") == 4
    assert "lr 0.1" not in one
    (error,) = place.call("logs", "study", "--trial", "study-7", status=2).errors
    assert error == "--trial: study has no trial 'study-7': they are study-0 to study-1"


def test_logs_are_followed_until_the_run_ends(place: Place) -> None:
    study = talking(place, 0.3)
    process = place.start("run", study, "--workers", "1")
    wait_until(lambda: place.trained(), "it trains")
    follower = place.start("logs", study, "--follow")
    place.finish(process)
    shown = place.finish(follower).stdout
    assert shown.count("lr 0.1\n") == shown.count("lr 0.2\n") == 4


def pod(name: str, created: str, phase: str, **state: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "namespace": "ml", "creationTimestamp": created},
        "status": {
            "phase": phase,
            "containerStatuses": [{"name": "trainer", "image": "i:1", "state": state}],
        },
    }


PODS = [
    pod("old", "2026-01-01T10:00:00Z", "Succeeded", terminated={"exitCode": 0}),
    pod("new", "2026-01-01T12:00:00Z", "Running", running={}),
    pod("late", "2026-01-01T11:00:00Z", "Pending", waiting={"reason": "ErrImagePull"}),
]

KUBECTL = """#!/bin/sh
echo "$@" >> "{folder}/asked"
case "$1" in
    get) cat "{folder}/pods.json";;
    logs) echo "words of $*";;
esac
"""


@pytest.fixture
def kubectl(place: Place, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for kubectl and its cluster; a list of what it was asked for."""
    folder = place.folder / "programs"
    folder.mkdir()
    (folder / "kubectl").write_text(KUBECTL.format(folder=folder))
    (folder / "kubectl").chmod(0o755)
    (folder / "pods.json").write_text(json.dumps({"items": PODS}))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder / "asked"


def test_logs_of_pods_the_newest_first(place: Place, kubectl: Path) -> None:
    shown = place.call("logs", "digits", "-n", "ml", "--tail", "5").stdout.splitlines()
    assert shown[0] == "==> new: running <=="
    assert shown[1] == "words of logs -n ml new -c trainer --tail 5"
    assert shown[2].startswith("==> late: pending: image i:1 cannot be pulled")
    assert shown[3] == "==> old: succeeded <=="
    assert len(shown) == 5
    asked = kubectl.read_text().splitlines()[0]
    assert asked == "get pods -n ml -l study.hippo.dev/digits -o json"


def test_logs_of_pods_are_followed(place: Place, kubectl: Path) -> None:
    done = place.call("logs", place.study("digits", {"lr": [0.1]}), "--follow")
    assert done.stdout == (
        "words of logs -f --prefix -n default -l study.hippo.dev/digits -c trainer"
        " --max-log-requests=3 --tail=-1\n"
    )
    (error,) = done.errors
    assert error.startswith("late: image i:1 cannot be pulled")


def test_a_trials_pods_are_found_through_the_store(
    place: Place, kubectl: Path, s3_url: str
) -> None:
    study = place.study("digits", {"lr": [0.1, 0.2]})
    place.run(study, "--store", s3_url, workers=1)
    elsewhere = place.folder / "elsewhere"  # as if it had been trained in a cluster
    elsewhere.mkdir()
    (place.folder / ".hippo-logs").rename(elsewhere / ".hippo-logs")
    place.call("logs", "digits", "--trial", "digits-1", "--store", s3_url)
    chains = {name for name, *_ in place.plan(s3_url).load().reports.items()}
    asked = kubectl.read_text().splitlines()[0]
    (one,) = [chain for chain in chains if f"in ({chain})" in asked]
    assert asked == (
        f"get pods -n default -l study.hippo.dev/digits,hippo.dev/chain in ({one}) -o json"
    )
    (error,) = place.call("logs", "other", "--trial", "other-1", status=1).errors
    assert (
        error == "--trial needs the study's store, which tells who trained the trial: say --store"
    )


def test_nothing_found_in_a_cluster(place: Place, kubectl: Path) -> None:
    (kubectl.parent / "pods.json").write_text('{"items": []}')
    (error,) = place.call("logs", "digits", "-n", "ml", status=1).errors
    assert "and it has no pods in namespace ml" in error
    (kubectl.parent / "kubectl").write_text("#!/bin/sh\necho 'error: no server' >&2\nexit 1\n")
    (error,) = place.call("logs", "digits", "-n", "ml", status=1).errors
    assert error.endswith("and kubectl: error: no server")


def test_following_ends_on_ctrl_c(place: Place) -> None:
    study = talking(place, 5.0)
    process = place.start("run", study, "--workers", "1")
    wait_until(lambda: (place.store_folder / "logs" / "default").exists(), "a worker is launched")
    follower = place.start("logs", study, "--follow")
    time.sleep(2)
    follower.send_signal(signal.SIGINT)
    place.finish(follower, status=130)
    place.kill(process)
