"""Worker processes for tests: started, watched, and never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hippo.protocol.assignments import Assignment
from tests.unit.stage_runner.chains import TRAINERS, Lab

DEADLINE = 60.0  # seconds; processes import PyTorch on a busy machine


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)


def is_alive(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def runner_command(lab: Lab, name: str, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "stage_runner", name, "--store", str(lab.folder / "store")]
    return [*command, *arguments]


def start_run(lab: Lab, assignment: Assignment, **settings: Any) -> subprocess.Popen[str]:
    file = lab.folder / f"{assignment.chain}.json"
    file.write_text(assignment.model_dump_json())
    named = ["--plan", "plan", "--assignment", str(file), "--path", str(TRAINERS)]
    command = runner_command(lab, "run", *named)
    return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **settings)


class Server:
    """A fork server and the events it has sent so far."""

    def __init__(self, lab: Lab, *arguments: str) -> None:
        self.lab = lab
        command = runner_command(lab, "serve", "--path", str(TRAINERS), *arguments)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.events: list[dict[str, Any]] = []
        self._arriving: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Server:
        self.wait_for("ready", True)
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.wait(DEADLINE)
        self._reader.join(DEADLINE)
        self.process.stdout.close()

    def ask(self, **request: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request).encode() + b"\n")

    def launch(self, assignment: Assignment, device: str | None = None) -> Path:
        log = self.lab.folder / f"{assignment.chain}.log"
        launch = {
            "plan": "plan",
            "assignment": assignment.model_dump(mode="json"),
            "device": device,
        }
        self.ask(launch={**launch, "log": str(log)})
        return log

    def wait_for(self, kind: str, value: object) -> dict[str, Any]:
        """The first event like this, whether it has come already or not."""
        deadline = time.monotonic() + DEADLINE
        while True:
            found = [event for event in self.events if event.get(kind) == value]
            if found:
                return found[0]
            remaining = deadline - time.monotonic()
            assert remaining > 0, f"no event {kind} {value} among {self.events}"
            assert self._reader.is_alive() or not self._arriving.empty(), "the server has left"
            with contextlib.suppress(queue.Empty):
                self.events.append(self._arriving.get(timeout=min(remaining, 1.0)))

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._arriving.put(json.loads(line))


def processes_mentioning(text: str) -> list[int]:
    """Live processes with this text in their command line, except this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if text.encode() in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return [pid for pid in found if pid != os.getpid() and is_alive(pid)]
