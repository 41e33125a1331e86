"""Sudden death of the driver, of workers and of their server: nothing finished is trained again,
results stay the same, and no process stays behind.
"""

from __future__ import annotations

import os
import random
import signal
import time
from typing import Any

import pytest

from stage_runner.checkpoints.codec import decode
from tests.integration.runs import LEAVE_SECONDS, Place, wait_until
from tests.integration.test_run_exact import (
    SPACE,
    STEPS,
    TUNERS,
    check_against_oracle,
    count_unique,
    decided,
)

SLOW: dict[str, Any] = {"trainer": {"entrypoint": "walk:Walk", "config": {"sleep": 0.02}}}


def find_covered(place: Place, store: str | None = None) -> set[str]:
    """Histories of all steps that lie at or before a checkpoint of the store."""
    before = {after: earlier for earlier, after in place.trained()}
    covered: set[str] = set()
    for plan in place.plans(store):
        records = plan.load()
        assert not records.problems
        for manifest in records.manifests.values():
            history = decode(plan.read_checkpoint(manifest))["history"]
            while history in before and history not in covered:
                covered.add(history)
                history = before[history]
    return covered


@pytest.mark.parametrize(("tuner", "kills"), [("grid", 5), ("sha", 3), ("asha", 3)])
def test_killed_at_any_moment_it_goes_on(place: Place, tuner: str, kills: int) -> None:
    chance = random.Random(tuner)
    spec = {"steps": STEPS, **TUNERS[tuner], "maxTrials": 20}
    study = place.study(tuner, SPACE, **spec, **SLOW)
    covered: set[str] = set()
    for kill in range(kills):
        known = len(place.trained())
        process = place.start("run", study, "--workers", "2")
        if kill % 2 == 0:
            more = chance.randrange(1, 20)
            wait_until(
                lambda: len(place.trained()) > known + more or process.poll() is not None,  # noqa: B023
                "steps are trained",
            )
        time.sleep(chance.uniform(0.0, 0.8 if kill % 2 else 0.1))
        assert process.poll() is None, process.communicate()
        place.kill(process)
        again = covered & {after for _, after in place.trained()[known:]}
        assert not again
        covered |= find_covered(place)
    known = len(place.trained())
    assert known > kills // 2
    result = place.run(study)
    assert not covered & {after for _, after in place.trained()[known:]}
    trials = result["trials"]
    assert {trial["phase"] for trial in trials} <= {"Completed", "Stopped"}
    check_against_oracle(place, trials, with_states=False)
    check_against_oracle(place, [result["best"]])
    assert len(set(place.trained())) == count_unique(trials)
    # What was trained since the last report of a killed worker is not known.
    assert 0 < result["stepsTrained"] <= len(place.trained())
    if tuner != "asha":  # there, which trials are promoted depends on the order of results
        calm = Place(place.folder.parent / "calm")
        undisturbed = calm.run(calm.study(tuner, SPACE, **spec))
        assert decided(result, tuner) == decided(undisturbed, tuner)


LONG: dict[str, Any] = {"steps": 100, **SLOW}
STOPPED = "stopped; everything is saved, run again to go on"
FORK = {"lr": [0.1, {"piecewise": [[0, 0.1], [5, 0.01]]}]}


def start_long(place: Place, **spec: Any) -> Any:
    """Two trials of 100 steps that share five, with both workers at work."""
    study = place.study("long", FORK, **{**LONG, **spec})
    process = place.start("run", study, "--workers", "2")
    wait_until(lambda: len(place.trained()) > 20, "both workers train")
    return process


def test_a_killed_worker_is_replaced_and_one_told_to_leave_loses_nothing(place: Place) -> None:
    study = place.study("long", FORK, **LONG, retries=1)
    process = place.start("run", study, "--workers", "2", "-o", "json")
    wait_until(lambda: len(place.trained()) > 20, "both workers train")
    gentle, hard = place.workers(process)
    os.kill(gentle, signal.SIGTERM)
    wait_until(lambda: gentle not in place.workers(process), "the worker has left")
    covered = find_covered(place)
    known = len(place.trained())
    os.kill(hard, signal.SIGKILL)
    done = place.finish(process)
    result = done.json()
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}
    assert not covered & {after for _, after in place.trained()[known:]}
    (line,) = [line for line in done.stderr.splitlines() if "SIGKILL" in line]
    assert "retry 1 of 1" in line
    assert "out of memory?" in line
    assert line.partition("its log: ")[2].partition(";")[0].startswith(str(place.store_folder))


def test_when_the_server_dies_the_run_ends_and_the_next_goes_on(place: Place) -> None:
    process = start_long(place)
    os.kill(place.server(process), signal.SIGKILL)
    done = place.finish(process, status=1)
    (error,) = done.errors
    assert "server" in error
    assert "run again" in error
    wait_until(lambda: not place.processes(), "all processes have left", LEAVE_SECONDS)
    covered, known = find_covered(place), len(place.trained())
    assert covered
    result = place.run(place.folder / "long.yaml")
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}
    assert not covered & {after for _, after in place.trained()[known:]}


def test_killed_while_the_trainer_is_imported_it_leaves_nobody(place: Place) -> None:
    (place.folder / "slow.py").write_text(
        "import time, pathlib\n"
        "pathlib.Path(__file__).with_name('begun').touch()\n"
        "time.sleep(30)\n"
        "from walk import Walk\n"
    )
    study = place.study("slow", FORK, trainer={"entrypoint": "slow:Walk"})
    process = place.start("run", study)
    wait_until((place.folder / "begun").exists, "the import has begun")
    place.kill(process)


# -- stopping in order -----------------------------------------------------------------------------


def check_stopped_in_order(place: Place, process: Any) -> None:
    """It says so, everything is saved, and the next run goes on with nothing trained twice."""
    done = place.finish(process, status=None)
    assert done.status not in (0, None)
    assert done.errors == [STOPPED]
    assert not place.processes()
    assert find_covered(place) == {after for _, after in place.trained()}
    result = place.run(place.folder / "long.yaml")
    assert {trial["phase"] for trial in result["trials"]} == {"Completed"}
    assert place.check_nothing_twice() == result["stepsTrained"] == 195


@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGHUP"])
def test_stopped_in_order_it_goes_on_where_it_was(place: Place, how: str) -> None:
    process = start_long(place)
    if how == "Ctrl-C":
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(getattr(signal, how))
    check_stopped_in_order(place, process)


def test_under_nohup_it_outlives_its_terminal(place: Place) -> None:
    study = place.study("long", FORK, **LONG)
    process = place.start("run", study, "--workers", "2", under=("nohup",))
    wait_until(lambda: len(place.trained()) > 20, "both workers train")
    os.killpg(process.pid, signal.SIGHUP)
    place.finish(process)
    assert place.check_nothing_twice() == 195


def test_a_second_interrupt_leaves_at_once(place: Place) -> None:
    study = place.study("stuck", FORK, trainer={"entrypoint": "walk:Walk", "config": {"sleep": 30}})
    process = place.start("run", study, "--workers", "1")
    wait_until(lambda: list(place.store_folder.glob("*/*/reports/*/000000.json")), "it trains")
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.5)
    assert process.poll() is None
    began = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    done = place.finish(process, status=None)
    assert done.status not in (0, None)
    assert time.monotonic() - began < LEAVE_SECONDS
    assert done.errors == [
        "stopped at once: steps since the last checkpoints are lost, run again to go on"
    ]
    assert not place.processes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_starting_it_says_so(place: Place, number: signal.Signals) -> None:
    (place.folder / "slow.py").write_text(
        "import time, pathlib\n"
        "pathlib.Path(__file__).with_name('begun').touch()\n"
        "time.sleep(30)\n"
        "from walk import Walk\n"
    )
    study = place.study("slow", FORK, trainer={"entrypoint": "slow:Walk"})
    process = place.start("run", study)
    wait_until((place.folder / "begun").exists, "the import has begun")
    began = time.monotonic()
    os.killpg(process.pid, number)
    done = place.finish(process, status=None)
    assert done.status not in (0, None)
    assert len(done.errors) == 1
    assert time.monotonic() - began < LEAVE_SECONDS
    wait_until(lambda: not place.processes(), "all processes have left", LEAVE_SECONDS)


# -- one writer ------------------------------------------------------------------------------------


def test_a_second_run_says_who_holds_the_store(place: Place) -> None:
    trainer = {"entrypoint": "walk:Walk", "config": {"sleep": 0.05}}
    process = start_long(place, trainer=trainer, steps=5000)
    other = place.study("other", FORK, trainer=trainer)
    done = place.call("run", other, status=1)
    (error,) = done.errors
    assert f"pid {process.pid}" in error
    assert "long.yaml" in error
    assert "wait for it" in error
    assert done.stdout == ""
    # Another trainer is another plan: nobody is in the way, and no log is shared.
    apart = place.study("apart", {"lr": [0.5]})
    assert place.run(apart)["stepsTrained"] == 12
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert place.finish(process, status=1).errors == [STOPPED]
    logs = {
        f"{path.parent.parent.name}/{path.parent.name}": path.stem
        for path in place.store_folder.glob("logs/*/*/*.log")
    }
    assert set(logs) == {plan.plan for plan in place.plans()}
