"""Trainers that hang, and what they leave behind: told, ended, and never in the way of an exit."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hippo.cli.arguments import locate_studies
from hippo.engine import Engine
from hippo.local import LocalDriver, RunOptions, RunStopped, worker_server
from hippo.session.session import Session
from hippo.session.stalls import Stall
from tests.integration.runs import HIPPO, LEAVE_SECONDS, MARK, Place, wait_until
from tests.integration.test_run_exact import check_against_oracle

FORK = {"lr": [0.1, {"piecewise": [[0, 0.1], [5, 0.01]]}]}
LIMITED: dict[str, Any] = {"trainer": {"entrypoint": "walk:Walk", "stepTimeout": "1s"}}
OVERDUE = "has not ended within trainer.stepTimeout (1 s): it stands at walk.py:"
HANGS = {
    "setup hang": f"setup() {OVERDUE}",
    "step hang": f"step 3 {OVERDUE}",
    "step spin": f"step 3 {OVERDUE}",
    "step wait": "ended with OSError: no such shard (walk.py:",
    "evaluate hang": f"evaluate() at step 12 {OVERDUE}",
    "save spin": f"state_dict() at step 12 {OVERDUE}",
    "step shut hang": f"step 3 {OVERDUE}",
    "step hold": "in code that holds Python's lock",
}


# -- trainer.stepTimeout ---------------------------------------------------------------------------


def test_a_call_beyond_the_limit_is_a_failure_that_names_its_place(place: Place) -> None:
    modes = ["good", *HANGS]
    spec: dict[str, Any] = {**LIMITED, "retries": 0, "maxFailedTrials": len(modes)}
    done = place.call("run", place.study("study", {"mode": modes}, **spec), "-o", "json")
    trials = {trial["hyperparameters"]["mode"]: trial for trial in done.json()["trials"]}
    assert trials["good"]["phase"] == "Completed"
    check_against_oracle(place, [trials["good"]])
    for mode, message in HANGS.items():
        assert trials[mode]["phase"] == "Failed"
        reason = trials[mode]["reason"]
        assert message in reason, mode
        assert re.search(r"it stands at walk\.py:\d+, in misbehave\(\)", reason), reason
        log = Path(reason.partition("its log: ")[2]).read_text()
        assert "in misbehave" in log
        assert "in step" in log or not mode.startswith("step")
    assert not place.processes()


def test_a_hang_that_passes_is_retried_from_the_last_checkpoint(place: Place) -> None:
    space = {"mode": ["step hang once"], **FORK}
    (Place(place.folder.parent / "oracle").folder / "hung").touch()  # there, nobody would end it
    study = place.study("study", space, **LIMITED, retries=1)
    done = place.call("run", study, "-o", "json", "--workers", "1")
    trials = done.json()["trials"]
    assert [trial["phase"] for trial in trials] == ["Completed", "Completed"]
    check_against_oracle(place, trials, with_states=False)
    (line,) = [line for line in done.stderr.splitlines() if "retry" in line]
    assert f"step 3 {OVERDUE}" in line
    assert "retry 1 of 1 in 1 s" in line
    assert len(place.trained()) == 12 + 7 + 3


def test_a_limit_is_no_part_of_the_result(place: Place) -> None:
    first = place.run(place.study("first", {"lr": [0.1, 0.2]}))
    known = len(place.trained())
    second = place.run(place.study("second", {"lr": [0.1, 0.2]}, **LIMITED))
    assert len(place.trained()) == known
    assert [t["metrics"] for t in second["trials"]] == [t["metrics"] for t in first["trials"]]


# -- the import of a trainer -----------------------------------------------------------------------


def test_an_import_that_hangs_is_told_by_its_place(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, place.mark)
    monkeypatch.setattr(worker_server, "READY_TIMEOUT_SECONDS", 8.0)
    monkeypatch.setattr(worker_server, "STACK_SHARE", 0.3)
    (place.folder / "slow.py").write_text("import time\n\ntime.sleep(3600)\n")
    study = place.study("slow", {"lr": [0.1]}, trainer={"entrypoint": "slow:Walk"})
    options = RunOptions(store=str(place.store_folder), logs=place.folder / "logs", workers=1)
    with pytest.raises(
        worker_server.WorkersFailed,
        match=r"not ready after 8 s: the import of the trainer stands at slow\.py:3, in <module>: ",
    ):
        LocalDriver(locate_studies([study]), options, Listener(enough=-1)).run()
    assert not place.processes()


def test_an_import_that_kills_its_process_is_told_by_its_place(place: Place) -> None:
    (place.folder / "fatal.py").write_text("import os\n\nos.abort()\n")
    study = place.study("fatal", {"lr": [0.1]}, trainer={"entrypoint": "fatal:Walk"})
    (error,) = place.call("run", study, status=1).errors
    assert error.startswith(
        "the worker server was killed by SIGABRT while it started at fatal.py:3, in <module> (see "
    )


# -- what is told without a limit ------------------------------------------------------------------


@dataclass
class Listener:
    """Interrupts a run once enough of its workers have been told of."""

    enough: int
    stalls: list[Stall] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)

    def started(self, engine: Engine, session: Session) -> None: ...

    def updated(self, engine: Engine) -> None: ...

    def notified(self, message: str, study: str | None) -> None:
        self.messages.append(message)

    def stalled(self, stalls: Sequence[Stall]) -> None:
        if len(stalls) == self.enough and not self.stalls:
            self.stalls = list(stalls)
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)


def test_a_call_that_lasts_is_told_with_chain_step_place_and_process(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MARK, place.mark)
    modes = ["setup hang", "step spin", "evaluate hang", "step hold"]
    study = place.study("study", {"mode": modes}, retries=0)
    listener = Listener(enough=len(modes))
    options = RunOptions(
        store=str(place.store_folder),
        logs=place.store_folder / "logs",
        workers=len(modes),
        stalled_after=4.5,
    )
    driver = LocalDriver(locate_studies([study]), options, listener)
    with pytest.raises(RunStopped, match="stopped at once"):
        driver.run()
    told = sorted(str(stall) for stall in listener.stalls)
    patterns = [
        r"evaluate\(\) has not ended for \d+ s: r1-0000\d stands at step 12 \(walk\.py:\d+, in"
        r" misbehave\(\)\), pid \d+",
        r"no step has ended for \d+ s: r1-0000\d stands at step 3 \(walk\.py:\d+, in"
        r" misbehave\(\)\), pid \d+",
        r"no step has ended for \d+ s: r1-0000\d stands at step 3, pid \d+",
        r"setup\(\) has not ended for \d+ s: r1-0000\d stands at step 0 \(walk\.py:\d+, in"
        r" misbehave\(\)\), pid \d+",
    ]
    for pattern in patterns:
        assert any(re.fullmatch(pattern, text) for text in told), told
    assert {stall.study for stall in listener.stalls} == {"study"}


def test_a_chain_that_goes_on_is_not_told_of_any_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 5 s, of which some are told from 1.2 s on, and none after its end."""
    monkeypatch.setenv(MARK, place.mark)
    trainer = {"entrypoint": "walk:Walk", "config": {"sleep": 5}}
    study = place.study("study", {"lr": [0.1]}, steps=2, trainer=trainer)
    steps: list[tuple[int, ...]] = []

    class Watching(Listener):
        def stalled(self, stalls: Sequence[Stall]) -> None:
            now = tuple(stall.step for stall in stalls)
            if not steps or steps[-1] != now:
                steps.append(now)

    options = RunOptions(
        store=str(place.store_folder), logs=place.folder / "logs", workers=1, stalled_after=1.2
    )
    engine = LocalDriver(locate_studies([study]), options, Watching(enough=-1)).run()
    assert engine.studies["study"].best is not None
    told = [step for step in steps if step]
    assert told
    assert told == sorted(set(told))
    assert all(not (one and other) for one, other in pairwise(steps)), steps
    assert steps[-1] == ()


# -- stopping --------------------------------------------------------------------------------------


@dataclass
class Terminal:
    """``hippo`` under a terminal of its own, on whose keyboard a test types."""

    process: subprocess.Popen[bytes]
    master: int
    shown: str = ""

    def type(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def read_until(self, text: str) -> None:
        deadline = time.monotonic() + 60
        while text not in self.shown:
            assert time.monotonic() < deadline, f"waited in vain for {text!r}: {self.shown[-2000:]}"
            if select.select([self.master], [], [], 0.1)[0]:
                with contextlib.suppress(OSError):  # the other end is closed
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")

    def end(self) -> int:
        while self.process.poll() is None:
            if select.select([self.master], [], [], 0.05)[0]:
                with contextlib.suppress(OSError):
                    self.shown += os.read(self.master, 65536).decode("utf-8", "replace")
        return self.process.returncode


@contextlib.contextmanager
def open_terminal(place: Place, *arguments: str | Path) -> Iterator[Terminal]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", HIPPO, *map(str, arguments)],
        cwd=place.folder,
        env={**os.environ, MARK: place.mark, "TERM": "xterm", "COLUMNS": "200"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        os.close(master)
        if process.poll() is None:
            process.kill()
        process.wait()
        place.clean_up()


def test_ctrl_c_says_how_long_it_takes_and_the_second_leaves_at_once(place: Place) -> None:
    study = place.study("stuck", {"mode": ["step hang", "step hold"]}, retries=0)
    with open_terminal(place, "run", study, "--workers", "2") as terminal:
        wait_until(lambda: len(place.trained()) == 6, "both workers hang")
        terminal.type("\x03")
        terminal.read_until("stopping: 2 workers save at the end of their step and leave")
        terminal.read_until("for more than 60 s from now is given up")
        terminal.read_until("Ctrl-C again leaves at once")
        assert terminal.process.poll() is None
        began = time.monotonic()
        terminal.type("\x03")
        assert terminal.end() == 1
        assert time.monotonic() - began < LEAVE_SECONDS + 2
        assert "stopped at once: steps since the last checkpoints are lost" in terminal.shown
        assert not place.processes()


def test_a_hung_step_holds_up_no_exit_beyond_the_grace(place: Place) -> None:
    """Neither one that hears the signal, nor one that holds Python's lock, nor one that is deaf to
    it; and it is not said that everything was saved.
    """
    trainer = {"entrypoint": "walk:Walk", "maxGrace": "1s"}
    modes = ["step hang", "step hold"]
    study = place.study("stuck", {"mode": modes}, retries=0, trainer=trainer)
    process = place.start("run", study, "--workers", "2")
    wait_until(lambda: len(place.trained()) == 6, "both workers hang")
    process.send_signal(signal.SIGTERM)
    done = place.finish(process, status=1)
    (error,) = done.errors
    assert error.startswith("stopped; r1-0000")
    assert "could not save in time" in error
    assert "everything is saved" not in done.stderr
    assert not place.processes()


def test_a_hung_step_holds_up_no_end_of_a_study_beyond_the_grace(place: Place) -> None:
    trainer = {"entrypoint": "walk:Walk", "maxGrace": "1s"}
    spec = {"objective": {"metric": "score", "goal": "maximize", "target": -1e9}}
    space = {"mode": ["step hang", "good"]}
    study = place.study("study", space, retries=0, trainer=trainer, **spec)
    done = place.call("run", study, "--workers", "2", "-o", "json")
    assert done.json()["studies"][0]["message"].startswith("trial study-1 reached the target")
    assert not place.processes()


def test_a_trainer_that_handles_signals_itself_is_told_to_leave_all_the_same(place: Place) -> None:
    config = {"sleep": 0.05}
    trainer = {"entrypoint": "walk:Walk", "config": config}
    study = place.study("deaf", {"mode": ["setup deaf"]}, steps=500, trainer=trainer)
    process = place.start("run", study)
    wait_until(lambda: len(place.trained()) > 3, "it trains")
    process.send_signal(signal.SIGTERM)
    done = place.finish(process, status=1)
    assert done.errors == ["stopped; everything is saved, run again to go on"]


# -- what trainers leave behind --------------------------------------------------------------------


def test_what_a_trainer_has_started_ends_with_its_worker(place: Place) -> None:
    study = place.study("study", {"mode": ["step spawn", "step fork", "step fork back", "good"]})
    done = place.call("run", study, "-o", "json")
    trials = done.json()["trials"]
    assert {trial["phase"] for trial in trials} == {"Completed"}
    good = [trial for trial in trials if trial["hyperparameters"]["mode"] == "good"]
    check_against_oracle(place, good, with_states=False)
    wait_until(lambda: not place.processes(), "all processes have left", LEAVE_SECONDS)


def test_what_a_trainer_has_started_ends_with_a_worker_whose_server_dies(place: Place) -> None:
    trainer = {"entrypoint": "walk:Walk", "config": {"sleep": 0.05}}
    study = place.study("study", {"mode": ["step spawn"]}, steps=500, trainer=trainer)
    process = place.start("run", study)
    wait_until(lambda: len(place.trained()) > 5, "it has started another process")
    os.kill(place.server(process), signal.SIGKILL)
    place.finish(process, status=1)
    wait_until(lambda: not place.processes(), "all processes have left", LEAVE_SECONDS)


def test_a_trainer_that_closes_standard_output_trains_on(place: Place) -> None:
    result = place.run(place.study("study", {"mode": ["step close"]}))
    assert [trial["phase"] for trial in result["trials"]] == ["Completed"]
