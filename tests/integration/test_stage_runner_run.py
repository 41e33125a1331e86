"""``python -m stage_runner run`` as a process of its own: signals and sudden death."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION
from hippo.protocol.compatibility import find_incompatibility
from hippo.protocol.reports import Ended, MetricsReported, Outcome
from hippo.session.crash_trace import find_crash
from tests.integration.worker_processes import runner_command, start_run, wait_until
from tests.unit.stage_runner.chains import Lab


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_chain_runs_to_its_end(lab: Lab) -> None:
    here = lab.run(lab.assignment(12, evaluate_at=(12,)), plan="here")
    assignment = lab.assignment(12, evaluate_at=(12,))
    process = start_run(lab, assignment)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    # A line for each report, with the time and the chain before it.
    lines = [line.split(f" {assignment.chain}: ")[1] for line in log.splitlines()]
    told = [line for line in lines if "speed" not in line]  # now and then what a step returns
    assert told[0].startswith("training begins from nothing: set up in ")
    assert told[1].startswith("step 12: checkpoint of ")
    assert told[2].startswith(f"step 12: score {here.metrics[12]['score']:g}")
    assert told[3].startswith("completed at step 12: 12 steps in ")
    assert len(told) == 4
    reports = lab.store().read_reports(assignment.chain)
    assert [report.kind for report in reports] == ["began", "checkpoint", "metrics", "ended"]
    assert [getattr(report, "metrics", None) for report in reports][2] == here.metrics[12]


def test_sets_of_texts_have_one_order_in_all_workers(lab: Lab) -> None:
    found = []
    for seed in ("1", "random"):
        assignment = lab.assignment(4, evaluate_at=(4,), entrypoint="plain:Ordered")
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        start_run(lab, assignment, env=environment).communicate(timeout=60)
        reports = lab.store().read_reports(assignment.chain)
        found += [report.metrics for report in reports if isinstance(report, MetricsReported)]
    assert len(found) == 2
    assert found[0] == found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_save_and_leave(lab: Lab, number: signal.Signals) -> None:
    assignment = lab.assignment(500, steps=500, config={"sleep": 0.01})
    process = start_run(lab, assignment)
    wait_until(lambda: len(lab.counted()) > 5, "some steps are trained")
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == 143
    ended = lab.store().read_reports(assignment.chain)[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.PREEMPTED
    (saved,) = lab.store().load().manifests.values()
    assert saved.step == ended.step == len(lab.counted())


def test_a_step_beyond_the_grace_is_left_unsaved(lab: Lab) -> None:
    assignment = lab.assignment(12, config={"sleep": 60.0}, grace_seconds=0.2)
    process = start_run(lab, assignment)
    wait_until(lambda: len(lab.counted()) == 1, "the step has begun")
    began = time.monotonic()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert time.monotonic() - began < 20
    reports = lab.store().read_reports(assignment.chain)
    assert [report.kind for report in reports] == ["began", "ended"]
    assert reports[-1].outcome is Outcome.PREEMPTED  # type: ignore[union-attr]


TIMED: dict[str, Any] = {
    "format_version": TIMED_ASSIGNMENT_VERSION,
    "step_timeout_seconds": 0.5,
}


def test_a_step_beyond_its_limit_is_reported_after_what_was_saved(lab: Lab) -> None:
    assignment = lab.assignment(12, save_at=(2, 12), config={"hang_at": 3}, **TIMED)
    process = start_run(lab, assignment)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    reports = lab.store().read_reports(assignment.chain)
    assert [report.kind for report in reports] == ["began", "checkpoint", "ended"]
    ended = reports[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
    assert ended.error is not None
    assert (ended.error.during, ended.error.step) == ("step", 3)
    assert re.fullmatch(
        r"step 3 has not ended within trainer\.stepTimeout \(0\.5 s\): it stands at plain\.py:\d+,"
        r" in step\(\)",
        ended.error.message,
    )
    assert "time.sleep(3600)" in log


def test_a_step_that_holds_pythons_lock_ends_with_its_stack_in_the_log(lab: Lab) -> None:
    """As a pod's log, which is all that its operator then has."""
    assignment = lab.assignment(12, config={"hold_at": 3}, **TIMED)
    process = start_run(lab, assignment)
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    crash = find_crash(log[-2048:])  # as much as a kubelet passes on
    assert crash is not None
    assert re.fullmatch(r"plain\.py:\d+, in step\(\)", crash.place)


def test_sudden_death_leaves_nothing_half_written(lab: Lab) -> None:
    start = 0
    for _ in range(4):
        assignment = lab.assignment(400, start=start, steps=400, save_every_seconds=0.0)
        process = start_run(lab, assignment)
        before = len(lab.counted())
        wait_until(lambda before=before: len(lab.counted()) > before + 7, "steps are trained")  # type: ignore[misc]
        process.kill()
        process.communicate(timeout=60)
        assert process.returncode == -signal.SIGKILL
        records = lab.store().load()
        assert not records.problems
        for manifest in records.manifests.values():
            lab.store().read_checkpoint(manifest)
        start = max(manifest.step for manifest in records.manifests.values())
    finished = lab.run(lab.assignment(400, start=start, steps=400, evaluate_at=(400,)))
    alone = lab.run(lab.assignment(400, steps=400, evaluate_at=(400,)), plan="alone")
    assert finished.metrics == alone.metrics
    assert finished.digests == alone.digests


@pytest.mark.parametrize("text", [None, "{", "{}", '{"formatVersion": 99}'])
def test_what_is_no_assignment_is_one_line(lab: Lab, text: str | None) -> None:
    file = lab.folder / "assignment.json"
    if text is not None:
        file.write_text(text)
    command = runner_command(lab, "run", "--plan", "plan", "--assignment", str(file))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert find_incompatibility(done.returncode, done.stderr)
    assert done.stderr.count("\n") == 1
    assert str(file) in done.stderr
