"""The fork server: launching, hints, and that nobody survives whoever started them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hippo.protocol.reports import Ended, Outcome
from tests.integration.worker_processes import (
    Server,
    is_alive,
    processes_mentioning,
    runner_command,
    wait_until,
)
from tests.unit.stage_runner.chains import TRAINERS, Lab

LONG = {"steps": 100_000, "config": {"sleep": 0.01}}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


@pytest.mark.parametrize("module", ["plain", "elsewhere"], ids=["forked", "started afresh"])
def test_chains_are_launched_side_by_side(lab: Lab, module: str) -> None:
    lab.entrypoint = f"{module}:PlainTrainer"
    chains = [
        lab.assignment(40, steps=40, config={"sleep": 0.01}, evaluate_at=(e, 40)) for e in (3, 4)
    ]
    with Server(lab, "--preload", module) as server:
        for chain in chains:
            server.launch(chain)
        for chain in chains:
            assert server.wait_for("exited", chain.chain) == {
                "exited": chain.chain,
                "code": 0,
                "signal": None,
                "during": "store",
                "step": 40,
            }
    for chain in chains:
        events = [e for e in server.events if chain.chain in e.values()]
        kinds = [next(iter(event)) for event in events]
        assert kinds[0] == "started"
        assert kinds[-1] == "exited"
        assert kinds.count("poke") == 6  # began, 2 checkpoints, 2 metrics, ended
        steps = [event["step"] for event in events if "progress" in event]
        assert steps == sorted(steps)
        assert 2 <= len(steps) < 20
        assert all("speed" in event["metrics"] for event in events if "progress" in event)
        assert lab.store().read_reports(chain.chain)[-1].step == 40


def test_terminate_saves_and_kill_does_not(lab: Lab) -> None:
    gentle, hard = lab.assignment(100_000, **LONG), lab.assignment(100_000, **LONG)
    with Server(lab, "--preload", "plain") as server:
        for chain in (gentle, hard):
            server.launch(chain)
        for chain in (gentle, hard):
            server.wait_for("progress", chain.chain)
        os.kill(
            server.process.pid, signal.SIGINT
        )  # Ctrl-C reaches the whole group; the driver decides
        server.ask(terminate="nobody")
        server.ask(terminate=gentle.chain)
        server.ask(kill=hard.chain)
        assert server.wait_for("exited", gentle.chain)["code"] == 143
        assert server.wait_for("exited", hard.chain)["signal"] == signal.SIGKILL
    ended = lab.store().read_reports(gentle.chain)[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.PREEMPTED
    assert [m.step for m in lab.store().load().manifests.values()] == [ended.step]


def test_torch_with_threads_works_after_a_fork(lab: Lab) -> None:
    lab.entrypoint = "parallel_torch:ParallelTrainer"
    chain = lab.assignment(4, evaluate_at=(4,))
    trainer = chain.trainer.model_copy(update={"threads": 2})
    chain = chain.model_copy(update={"trainer": trainer})
    with Server(lab, "--preload", "parallel_torch", "--threads", "2") as server:
        log = server.launch(chain)
        assert server.wait_for("exited", chain.chain)["code"] == 0, log.read_text()
    reports = lab.store().read_reports(chain.chain)
    assert reports[0].start_seconds < 1.0  # type: ignore[union-attr]  # it was warm


def test_a_module_that_cannot_be_imported_is_reported_by_the_worker(lab: Lab) -> None:
    chain = lab.assignment(4, entrypoint="missing:Trainer")
    with Server(lab, "--preload", "missing") as server:
        log = server.launch(chain)
        assert server.wait_for("exited", chain.chain)["code"] == 2
    ended = lab.store().read_reports(chain.chain)[-1]
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.INVALID
    assert "no module named 'missing'" in log.read_text()


def test_a_log_that_cannot_be_written_is_an_exit(lab: Lab) -> None:
    chain = lab.assignment(4)
    with Server(lab) as server:
        (lab.folder / f"{chain.chain}.log").mkdir()
        server.launch(chain)
        assert server.wait_for("exited", chain.chain)["code"] == 71


@pytest.mark.parametrize("module", ["plain", "elsewhere"], ids=["forked", "started afresh"])
@pytest.mark.parametrize("how", ["end of input", "killed"])
def test_workers_die_with_the_server(lab: Lab, how: str, module: str) -> None:
    lab.entrypoint = f"{module}:PlainTrainer"
    chains = [lab.assignment(100_000, **LONG) for _ in range(2)]
    with Server(lab, "--preload", module) as server:
        for chain in chains:
            server.launch(chain)
        pids = [server.wait_for("started", chain.chain)["pid"] for chain in chains]
        for chain in chains:
            server.wait_for("progress", chain.chain)
        assert all(map(is_alive, pids))
        if how == "killed":
            server.process.kill()
        else:
            assert server.process.stdin is not None
            server.process.stdin.close()
        server.process.wait(60)
        wait_until(lambda: not any(map(is_alive, pids)), "the workers are gone")


def test_nobody_survives_a_driver_that_is_killed(lab: Lab) -> None:
    chain = lab.assignment(100_000, **LONG)
    driver = textwrap.dedent(
        """
        import json, socket, subprocess, sys
        ours, theirs = socket.socketpair()
        subprocess.Popen(sys.argv[2:], stdin=theirs, stdout=theirs)
        theirs.close()
        ours.sendall(sys.argv[1].encode() + b"\\n")
        for line in ours.makefile():
            print(line, end="", flush=True)
        """
    )
    launch = {
        "plan": "plan",
        "assignment": chain.model_dump(mode="json"),
        "device": None,
        "log": str(lab.folder / "log"),
    }
    request = json.dumps({"launch": launch})
    server = runner_command(lab, "serve", "--path", str(TRAINERS), "--preload", "plain")
    process = subprocess.Popen(
        [sys.executable, "-c", driver, request, *server], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if '"progress"' in line:
            break
    assert len(processes_mentioning(str(lab.folder))) == 3  # driver, server, worker
    process.kill()
    process.wait(60)
    process.stdout.close()
    wait_until(lambda: not processes_mentioning(str(lab.folder)), "all are gone")
