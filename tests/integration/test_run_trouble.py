"""What users get wrong: one clear line each, and the other trials unharmed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs import Place
from tests.integration.test_run_exact import check_against_oracle

STUDY = """
apiVersion: hippo.dev/v1alpha1
kind: Study
metadata: {name: study}
spec:
  objective: {metric: score, goal: maximize}
  steps: 12
  space: {lr: {choices: [0.1, 0.2]}}
  algorithm: {name: grid}
  trainer: {entrypoint: "walk:Walk"}
"""


# -- studies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "instead", "errors"),
    [
        ("steps: 12", "stepz: 12", ["spec.steps: is missing", "spec.stepz: unknown field"]),
        ("0.1,", "{cosinus: {}},", ["spec.space.lr.choices[0]: unknown schedule 'cosinus'"]),
        (
            "0.1,",
            "{cosine: {initial: 0.1, final: 0, steps: 0}},",
            ["spec.space.lr.choices[0].cosine.steps: must be at least 1"],
        ),
        ("name: grid", "name: gridd", ["spec.algorithm.name: unknown algorithm 'gridd'; known: "]),
        ("walk:Walk", "walk.Walk", ['spec.trainer.entrypoint: must be "module:Class"']),
        ("steps: 12", "steps: [12", [":8: is not YAML: "]),
        (STUDY, "", ["is empty"]),
    ],
)
def test_a_wrong_study_is_told_by_its_fields(
    place: Place, written: str, instead: str, errors: list[str]
) -> None:
    (place.folder / "study.yaml").write_text(STUDY.replace(written, instead))
    done = place.call("run", "study.yaml", status=2)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == len(done.errors) == len(errors)
    for line, error in zip(done.errors, errors, strict=True):
        assert line.startswith("study.yaml")
        assert error in line


def test_a_wrong_command_is_told(place: Place) -> None:
    (place.folder / "study.yaml").write_text(STUDY)
    assert place.call("run", "nowhere.yaml", status=2).errors == ["nowhere.yaml: no such file"]
    twice = place.call("run", "study.yaml", "study.yaml", status=2)
    assert twice.errors == ["metadata.name: two studies are named 'study'"]
    for arguments, named in [
        (["run", "study.yaml", "--workers", "0"], "--workers"),
        (["run", "study.yaml", "--wrokers", "2"], "--wrokers"),
        (["run", "study.yaml", "-o", "yaml"], "yaml"),
        (["run"], "studies"),
        (["rum"], "rum"),
    ]:
        done = place.call(*arguments, status=2)
        assert done.stdout == ""
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
        assert named in line
    assert not place.store_folder.exists()


# -- trainers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entrypoint", "error", "raises"),
    [
        ("walc:Walk", "walc:Walk: no module named 'walc' below {}; did you mean 'walk'?", False),
        ("walk:Walc", "walk:Walc: walk has no 'Walc'; did you mean 'Walk'?", False),
        ("walk:NoTrainer", "NoTrainer is no subclass of stage_runner.Trainer", False),
        ("broken:Walk", "broken:Walk: SyntaxError: invalid syntax (broken.py:1)", True),
        ("lacking:Walk", "No module named 'nowhere' (lacking.py:1)", True),
        ("walk:Stillborn", "RuntimeError: not today (walk.py:", True),
    ],
)
def test_a_trainer_that_cannot_begin(
    place: Place, entrypoint: str, error: str, raises: bool
) -> None:
    (place.folder / "broken.py").write_text("def")
    (place.folder / "lacking.py").write_text("import nowhere")
    study = place.study("study", {"lr": [1, 2]}, trainer={"entrypoint": entrypoint}, retries=0)
    done = place.call("run", study, "-o", "json", status=1)
    told = [line for line in done.stderr.splitlines() if error.format(place.folder) in line]
    assert len(told) >= 2  # when it happened, and why the study failed
    assert all("study: " in line for line in told)
    log = read_log(told[0])
    assert error.format(place.folder) in log
    assert ("Traceback" in log) == raises
    result = done.json()
    assert [trial["phase"] for trial in result["trials"]] == ["Failed", "Failed"]
    assert result["best"] is None


def read_log(line: str) -> str:
    return Path(line.partition("its log: ")[2].partition(";")[0]).read_text()


BY_NAME = "evaluate() must return metrics by name, such as {'loss': 0.3}"
MISDEEDS = {
    "setup raise": "ValueError: told to fail in setup (walk.py:",
    "step raise": "ValueError: told to fail in step (walk.py:",
    "evaluate raise": "ValueError: told to fail in evaluate (walk.py:",
    "save raise": "ValueError: told to fail in save (walk.py:",
    "step memory": "MemoryError (walk.py:",
    "step exit": "SystemExit: 7 (walk.py:",
    "setup exit": "SystemExit: 7 (walk.py:",
    "step interrupt": "KeyboardInterrupt (walk.py:",
    "step generator": "GeneratorExit (walk.py:",
    "evaluate base": "BaseException: odd one (walk.py:",
    "step cancel": "CancelledError (walk.py:",
    "step recur": "RecursionError: maximum recursion depth exceeded",
    "step iterate": "StopIteration (walk.py:",
    "step mute": "Mute: its message cannot be read (RuntimeError) (walk.py:",
    "step long": "ValueError: line line line ",
    "step coded": "ValueError: \\x1b[31mred\\x1b[0m \\udcff \\x00 (walk.py:",
    "step group": "ExceptionGroup (several): ValueError: one; KeyError: 'two'",
    "step shut": "ValueError: told to fail without a word (walk.py:",
    "step quote": "OSError: no such shard (walk.py:",
    "step end": "the worker ended with exit status 7 and no report in step 3; its log",
    "step leave": "the trainer ended its process, with exit status 0 and no report in step 3; its",
    "evaluate leave": "the trainer ended its process, with exit status 0 and no report in eva",
    "step killed": "the worker was killed by SIGKILL (out of memory?) in step 3; its log",
    "setup killed": "the worker was killed by SIGKILL (out of memory?) in setup(); its log",
    "step segfault": "the worker was killed by SIGSEGV in step 3 (walk.py:",
    "evaluate segfault": "the worker was killed by SIGSEGV in evaluate() at step 12 (walk.py:",
    "evaluate nothing": f"{BY_NAME}, not nothing",
    "evaluate list": f"{BY_NAME}, not list",
    "evaluate text": "evaluate(): metric 'score' must be a number, not str ('high')",
    "evaluate other": "metric 'score' is not among those that evaluate() returned (loss)",
    "save odd": "state['own']: a random.Random cannot be saved; save plain data, arrays and",
}
DIVERGED = {
    "evaluate nan": "score was nan at step 12",
    "evaluate inf": "score was -inf at step 12",
}


def test_misdeeds_of_a_trial_are_its_own(place: Place) -> None:
    modes = ["good", *MISDEEDS, *DIVERGED]
    spec: dict[str, Any] = {"retries": 0, "maxFailedTrials": len(modes)}
    study = place.study("study", {"mode": modes}, **spec)
    done = place.call("run", study, "-o", "json", "--workers", "2")
    result = done.json()
    trials = {trial["hyperparameters"]["mode"]: trial for trial in result["trials"]}
    assert trials["good"]["phase"] == "Completed"
    assert trials["good"] == result["best"]
    check_against_oracle(place, [trials["good"]])
    for mode, message in MISDEEDS.items():
        assert trials[mode]["phase"] == "Failed"
        assert trials[mode]["reason"].startswith(message)
        assert trials[mode]["metrics"] == {}
        cause = trials[mode]["reason"].partition("; its log")[0]  # which is told once for all
        told = [line for line in done.stderr.splitlines() if cause in line]
        assert told, mode
        if "raise" in mode or "memory" in mode:
            assert "Traceback" in read_log(told[0])
            assert "walk.py" in read_log(told[0])
        if mode == "step segfault":
            assert "in misbehave" in read_log(told[0])
    for mode, message in DIVERGED.items():
        assert trials[mode]["phase"] == "Diverged"
        assert trials[mode]["reason"] == message
        assert trials[mode]["metrics"]["score"] is None
    # Run again: a finished study stays as it is, verdicts included.
    again = place.run(study)
    assert again["trials"] == result["trials"]
    assert again["best"] == result["best"]
    # Another study finds the results that there are, and tries the rest again.
    known = len(place.trained())
    other = place.study("other", {"mode": ["good", "evaluate other", "evaluate nan"]})
    assert [trial["phase"] for trial in place.run(other)["trials"]] == [
        "Completed",
        "Failed",
        "Diverged",
    ]
    assert len(place.trained()) == known


def test_too_many_failures_end_the_study(place: Place) -> None:
    spec: dict[str, Any] = {"retries": 0, "maxFailedTrials": 1}
    modes = ["setup raise", "step raise", "save raise", *(f"good {n}" for n in range(20))]
    done = place.call(
        "run",
        place.study("study", {"mode": modes}, **spec),
        "-o",
        "json",
        "--workers",
        "1",
        status=1,
    )
    result = done.json()
    phases = [trial["phase"] for trial in result["trials"]]
    assert phases.count("Failed") == 2
    assert phases.count("Stopped") > 15
    assert result["studies"][0]["phase"] == "Failed"
    assert "2 stages failed, more than maxFailedTrials (1)" in done.stderr


@pytest.mark.parametrize(("during", "again"), [("step", 1), ("evaluate", 0), ("save", 2)])
def test_a_passing_failure_is_retried_from_the_last_checkpoint(
    place: Place, during: str, again: int
) -> None:
    """Sequences part at step 2; the failure is at step 3, at the end, or at the fork."""
    space = {"mode": [f"{during} raise once"], "lr": [0.1, {"piecewise": [[0, 0.1], [2, 0.2]]}]}
    study = place.study("study", space, retries=1)
    done = place.call("run", study, "-o", "json", "--workers", "1")
    assert [trial["phase"] for trial in done.json()["trials"]] == ["Completed", "Completed"]
    (line,) = [line for line in done.stderr.splitlines() if "retry" in line]
    assert f"told to fail in {during} once" in line
    assert "retry 1 of 1 in 1 s" in line
    assert len(set(place.trained())) == 2 + 10 + 10
    assert len(place.trained()) == 2 + 10 + 10 + again


def test_a_checkpoint_that_does_not_load_fails_who_needs_it(place: Place) -> None:
    space = {"mode": ["load raise"], "lr": [0.1, {"piecewise": [[0, 0.1], [2, 0.2]]}]}
    result = place.run(place.study("study", space, retries=0))
    phases = sorted(trial["phase"] for trial in result["trials"])
    assert phases == ["Completed", "Failed"]
    (failed,) = [trial for trial in result["trials"] if trial["phase"] == "Failed"]
    assert failed["reason"].startswith("ValueError: told to fail in load (walk.py:")


def test_a_hippo_that_was_upgraded_meanwhile_is_charged_to_no_trial(place: Place) -> None:
    """Its workers are of another version than the run: here, of one that knows no assignment."""
    place.study("study", {"lr": [0.1, 0.2, 0.3]})
    walk = place.folder / "walk.py"
    sources = walk.read_text()
    older = "import stage_runner.worker as worker\nworker.TIMED_ASSIGNMENT_VERSION = 0\n"
    future = "from __future__ import annotations\n"
    assert future in sources
    walk.write_text(sources.replace(future, future + older))
    done = place.call("run", "study.yaml", "--workers", "2", status=None)
    assert done.status != 0
    (error,) = done.errors
    assert "its workers do not fit this run: --assignment" in error
    assert "nothing is lost: put it right and run again" in error
    assert "retry" not in done.stderr
    status = place.call("store", "ls", "-o", "json").json()
    assert "Failed" not in str(status)
