"""Processes that outlive whoever started them, and are found again by their pid files.

A pid file says more than a pid: when the process started, and since which boot, so that another
process with the same pid is never taken for it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.places import LOGS, RUN


@dataclass(frozen=True)
class Process:
    name: str

    @property
    def pid_file(self) -> Path:
        return RUN / "pids" / self.name

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"

    def start(self, command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> None:
        """In a session of its own, with its output in the log. ``env`` is added to ours."""
        self.pid_file.parent.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        writing = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        pid = os.posix_spawnp(
            str(command[0]),
            [str(part) for part in command],
            {**os.environ, **(env or {})},
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_OPEN, 1, str(self.log), writing, 0o644),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsid=True,
            setsigdef=[signal.SIGPIPE],
        )
        self.pid_file.write_text(f"{pid} {_birth(pid)}")

    def find_pid(self) -> int | None:
        """Of the running process."""
        try:
            pid, _, birth = self.pid_file.read_text().partition(" ")
        except FileNotFoundError:
            return None
        with contextlib.suppress(ChildProcessError):
            os.waitpid(int(pid), os.WNOHANG)  # a child of ours that has ended is no process
        return int(pid) if birth and _birth(int(pid)) == birth else None

    @property
    def is_running(self) -> bool:
        return self.find_pid() is not None

    def stop(self, patience: float = 10.0) -> None:
        """Politely first. Idempotent."""
        deadline = time.monotonic() + patience
        sent: int = signal.SIGTERM
        while (pid := self.find_pid()) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
            sent = signal.SIGKILL if time.monotonic() > deadline else 0
            time.sleep(0.05)
        self.pid_file.unlink(missing_ok=True)

    def read_log(self, lines: int = 15) -> str:
        """Its end."""
        if not self.log.exists():
            return "(no log)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def wait_until(
    what: str, is_true: Callable[[], bool], *, timeout: float, processes: Sequence[Process] = ()
) -> None:
    """Raises RuntimeError with the logs of processes: at the deadline, or when one has ended."""
    deadline = time.monotonic() + timeout
    while not is_true():
        ended = [process for process in processes if not process.is_running]
        if ended or time.monotonic() > deadline:
            reason = f"{ended[0].name} has ended" if ended else f"{timeout:g} s have passed"
            logs = [f"-- {process.log}\n{process.read_log()}" for process in ended or processes]
            raise RuntimeError("\n".join([f"waiting until {what}: {reason}", *logs]))
        time.sleep(0.1)


def _birth(pid: int) -> str:
    """Differs for each process that ever had this pid; empty if there is none."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    if status[0] in "ZX":
        return ""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{status[19]} {boot}"
