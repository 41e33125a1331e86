"""What other programs read: JSON and nothing else on standard output, and exported weights."""

from __future__ import annotations

import contextlib
import json
import math
import os
import pty
import threading
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.integration import oracle
from tests.integration.runs import Place
from tests.integration.test_run_exact import STEPS, TUNERS

SPACE = {
    "lr": [0.1, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [7]}}],
    "batch_size": [8, {"piecewise": [[0, 8], [11, 16]]}],
}
SPEC: dict[str, Any] = {"steps": STEPS, **TUNERS["grid"]}


def test_run_writes_its_result_as_json(place: Place) -> None:
    done = place.call("run", place.study("study", SPACE, **SPEC), "-o", "json")
    result = done.json()
    assert result.keys() >= {
        *("trials", "best", "stepsRequested", "stepsTrained", "mergeRate"),
        *("makespanSeconds", "workerSeconds"),
    }
    assert [trial["trial"] for trial in result["trials"]] == [f"study-{i}" for i in range(4)]
    for trial in result["trials"]:
        assert trial.keys() >= {
            *("trial", "study", "hyperparameters", "steps", "phase", "metrics"),
        }
        assert trial["study"] == "study"
        assert trial["steps"] == STEPS
        assert trial["phase"] == "Completed"
        assert trial["metrics"].keys() == {"score", "noise"}
        # As written, not as computed.
        assert trial["hyperparameters"]["lr"] in SPACE["lr"]
        assert trial["hyperparameters"]["batch_size"] in SPACE["batch_size"]
    scores = [trial["metrics"]["score"] for trial in result["trials"]]
    assert result["best"] == result["trials"][scores.index(max(scores))]
    assert (result["stepsRequested"], result["stepsTrained"]) == (72, 18 + 11 + 7 + 7)
    assert math.isclose(result["mergeRate"], 72 / 43)
    assert 0 < result["workerSeconds"] < 60
    assert 0 < result["makespanSeconds"] < 60


def test_plan_writes_the_stage_tree_as_json_and_trains_nothing(place: Place) -> None:
    plan = place.call("plan", place.study("study", SPACE, **SPEC), "-o", "json").json()
    assert (plan["trials"], plan["stepsRequested"], plan["stepsUnique"]) == (4, 72, 43)
    assert math.isclose(plan["mergeRate"], 72 / 43)
    assert plan["criticalPathSteps"] == STEPS
    assert sum(stage["end"] - stage["start"] for stage in plan["stages"]) == 43
    keys = {stage["key"] for stage in plan["stages"]}
    assert all(stage["parent"] is None or stage["parent"] in keys for stage in plan["stages"])
    assert not place.store_folder.exists()
    assert place.trained() == []


def test_tables_show_the_same_and_progress_is_told_apart(place: Place) -> None:
    study = place.study("study", SPACE, **SPEC)
    done = place.call("run", study)
    assert (
        "steps trained: 43 of 72 requested, merge rate 1.67 (29 steps were shared)" in done.stdout
    )
    assert "best of study: study-" in done.stdout
    assert "once merged" in done.stderr
    assert "once merged" not in done.stdout
    shown = place.call("plan", study).stdout
    assert "4 trials, 72 steps requested, 43 once merged: merge rate 1.67" in shown


def test_what_a_trainer_prints_goes_to_its_log_and_where_it_goes_does_not_matter(
    place: Place,
) -> None:
    study = place.study("study", SPACE, **SPEC, trainer={"entrypoint": "chatty:Chatty"})
    result = place.run(study, "--store", "a relative folder")
    assert [trial["phase"] for trial in result["trials"]] == ["Completed"] * 4
    folder = place.folder / "a relative folder"
    assert len(place.manifests(folder)) == 1
    for log in folder.glob("logs/*/*/*.log"):
        lines = set(log.read_text(errors="replace").splitlines())
        assert {"words", "raw words", "words of a child"} <= lines
    found = place.call("verify", study, "--steps", "3", "-o", "json").json()
    assert (found["ok"], found["steps"]) == (True, 3)


def test_verify_tells_what_ends_the_trainer_without_a_word(place: Place) -> None:
    trainer = {"entrypoint": "walk:Walk", "config": {"at": 1}}
    study = place.study("study", {"mode": ["step killed"]}, trainer=trainer)
    done = place.call("verify", study, status=None)
    assert done.status != 0
    assert "the check was ended by SIGKILL while it ran the trainer" in done.stderr


def test_a_failed_study_is_told_by_the_exit_status(place: Place) -> None:
    good = place.study("good", {"mode": ["good"]})
    bad = place.study("bad", {"mode": ["setup raise"]}, retries=0)
    result = place.run(good, bad, status=1)
    assert [study["phase"] for study in result["studies"]] == ["Succeeded", "Failed"]
    assert result["best"]["bad"] is None
    table = place.call("run", good, bad, status=1).stdout
    assert "bad: failed: no trial succeeded: ValueError: told to fail in setup" in table


def test_the_best_trial_is_exported(place: Place) -> None:
    objective = {"metric": "loss", "goal": "minimize"}
    trainer = {"entrypoint": "net:Net"}
    study = place.study("study", SPACE, **SPEC, objective=objective, trainer=trainer)
    assert place.call("export", study, "--best", status=1).errors == [
        f"there is no store at {place.store_folder}: name another one, or run the study first"
    ]
    best = place.run(study)["best"]
    done = place.call("export", study, "--best", "-o", "json")
    assert done.json() == {
        "study": "study",
        "trial": best["trial"],
        "step": STEPS,
        "file": str(place.folder / "study-best.pt"),
    }
    state = torch.load(place.folder / "study-best.pt", weights_only=True)
    (alone,) = place.ask_oracle([(best["hyperparameters"], STEPS, [STEPS])], entrypoint="net:Net")
    assert oracle.digest(state) == alone[STEPS]["state"]
    by_name = place.call("export", "study", "--best", "--file", "weights.npz")
    assert by_name.stdout.endswith(f" is written to {place.folder / 'weights.npz'}\n")
    arrays = np.load(place.folder / "weights.npz")
    assert (arrays["model.0.weight"] == state["model"]["0.weight"].numpy()).all()
    for arguments, error in [
        (["other", "--best"], "has no study 'other' in default: run it first"),
        (["study", "1", "--best"], "export: say which: --best or 1"),
        (["study", "--best", "--file", "/proc/x.npz"], "/proc/x.npz"),
    ]:
        done = place.call("export", *arguments, status=None)
        assert done.status != 0
        assert len(done.errors) == 1
        assert error in done.errors[0]
        assert done.stdout == ""
    done = place.call("export", place.folder / "weights.npz", "--best", status=2)
    assert "is not UTF-8 text" in done.errors[0]


def test_there_may_be_nothing_to_export(place: Place) -> None:
    study = place.study("study", SPACE, **SPEC, checkpoints={"retain": "none"})
    place.run(study)
    assert not place.manifests()
    assert place.call("export", study, "--best", status=2).errors == [
        "study: keeps no checkpoint: set spec.checkpoints.retain to best in another study"
    ]
    bad = place.study("bad", {"mode": ["setup raise"]}, retries=0)
    place.run(bad, status=1)
    assert place.call("export", bad, "--best", status=1).errors == [
        "study bad has no result yet: run it first"
    ]


def test_verify_proves_a_good_trainer_exact(place: Place) -> None:
    trainer, objective = {"entrypoint": "net:Net"}, {"metric": "loss", "goal": "minimize"}
    study = place.study("study", SPACE, **SPEC, trainer=trainer, objective=objective)
    found = place.call("verify", study, "-o", "json").json()
    assert found["ok"]
    assert [check["name"] for check in found["checks"]] == [
        *("train", "repeat", "evaluation", "restore", "save and restore", "metrics"),
        "second process",
    ]
    assert all(check["ok"] for check in found["checks"])
    assert found["steps"] == 13, "each change, at 7 and at 11, is trained with"
    plain = place.study("plain", SPACE, **SPEC)
    assert "walk:Walk is exact over 13 steps" in place.call("verify", plain).stdout


def test_verify_names_what_breaks_the_law(place: Place) -> None:
    for name, failing, named in [
        ("Forgetful", "save and restore", "weights"),
        ("Secretive", "save and restore", "weights"),
        ("Restless", "repeat", "weights"),
        ("Disturbed", "evaluation", "weights"),
    ]:
        study = place.study("study", SPACE, **SPEC, trainer={"entrypoint": f"walk:{name}"})
        done = place.call("verify", study, "-o", "json", status=1)
        found = done.json()
        assert not found["ok"]
        failed = {check["name"]: check["detail"] for check in found["checks"] if not check["ok"]}
        assert failing in failed, name
        assert named in failed[failing]
    shown = place.call("verify", study, status=1)
    assert "walk:Disturbed is not exact" in shown.stdout
    study = place.study("study", {"mode": ["step raise"]}, trainer={"entrypoint": "walk:Walk"})
    done = place.call("verify", study, "--steps", "6", status=1)
    assert "failed  step: ValueError: told to fail in step (walk.py:" in done.stdout
    study = place.study("study", {"mode": ["evaluate raise"]}, trainer={"entrypoint": "walk:Walk"})
    done = place.call("verify", study, status=1)
    assert "failed  evaluate: ValueError: told to fail in evaluate (walk.py:" in done.stdout
    assert "differs" not in done.stdout


def test_verify_looks_for_the_metric_of_the_study(place: Place) -> None:
    objective = {"metric": "los", "goal": "minimize", "testMetric": "test"}
    study = place.study("study", SPACE, **SPEC, objective=objective)
    shown = place.call("verify", study, status=1).stdout
    for metric in ("los", "test"):
        assert f"missing objective: evaluate() returns no '{metric}' (it returns: " in shown
    assert "walk:Walk is exact, but does not suit the study's objective" in shown


def test_help_names_every_command(place: Place) -> None:
    shown = place.call("--help").stdout
    for command in ("run", "plan", "verify", "export"):
        assert command in shown
        assert "Usage: hippo" in place.call(command, "--help").stdout


def test_a_result_that_cannot_be_written_is_told(place: Place) -> None:
    study = place.study("study", SPACE, **SPEC)
    place.run(study)
    with Path("/dev/full").open("w") as full:
        done = place.finish(place.start("run", study, "-o", "json", stdout=full), status=1)
    assert done.errors == ["No space left on device"]
    assert json.loads(place.call("run", study, "-o", "json").stdout)


def test_progress_that_cannot_be_written_ends_no_run(place: Place) -> None:
    study = place.study("study", SPACE, **SPEC)
    with Path("/dev/full").open("w") as full:
        done = place.finish(place.start("run", study, "-o", "json", stderr=full))
    assert done.json()["stepsTrained"] == 43


def test_progress_is_drawn_on_a_terminal(place: Place) -> None:
    trainer = {"entrypoint": "walk:Walk", "config": {"sleep": 0.05}}
    study = place.study("study", SPACE, **SPEC, trainer=trainer)
    terminal, other = pty.openpty()
    drawn = bytearray()

    def read() -> None:
        with contextlib.suppress(OSError):  # the other end is closed
            while chunk := os.read(terminal, 4096):
                drawn.extend(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    process = place.start("run", study, "-o", "json", "--workers", "2", stderr=other)
    os.close(other)
    result = place.finish(process).json()
    reader.join(timeout=10)
    os.close(terminal)
    assert result["stepsTrained"] == 43
    text = drawn.decode()
    assert "Traceback" not in text
    for shown in ("/43 steps", "trials ended", "batch_size=8", "once merged", "succeeded"):
        assert shown in text, text
