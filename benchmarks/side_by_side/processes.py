"""The CPU time of a run's processes, those that detached themselves included.

They are held together by a control group, which counts exactly, wherever one can be made (as root,
or in a group of one's own); elsewhere they are the descendants of the first one, and what one of
them used after it was last looked at is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


class Processes:
    """Of one run. Use as a context manager; at the end none of them is left."""

    def __init__(self, name: str, is_service: Callable[[list[str]], bool]) -> None:
        """``is_service`` tells from a command line what is to be counted apart as well."""
        self._is_service = is_service
        self._group = _make_group(name)
        self._root: int | None = None
        self._seen: dict[tuple[int, str], tuple[float, bool]] = {}  # seconds, whether a service

    @property
    def counted_by(self) -> str:
        return "samples" if self._group is None else "control group"

    def wrap(self, command: list[str]) -> list[str]:
        """A command that runs the command as the first of these processes."""
        if self._group is None:
            return command
        join = f'echo $$ > "{self._group}/cgroup.procs" && exec "$@"'
        return ["/bin/sh", "-c", join, "sh", *command]

    def started(self, pid: int) -> None:
        self._root = pid

    def look(self) -> None:
        """Bring the counts up to date."""
        for pid in self._members():
            with contextlib.suppress(OSError):  # it may be gone
                fields = _read_stat(pid)
                arguments = (PROC / str(pid) / "cmdline").read_text(errors="replace").split("\0")
                seconds = (int(fields[11]) + int(fields[12])) / TICKS
                self._seen[pid, fields[19]] = seconds, self._is_service(arguments)

    def cpu_seconds(self) -> float:
        """User and system, of all of them, up to the last look."""
        if self._group is None:
            return sum(seconds for seconds, _ in self._seen.values())
        lines = (self._group / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6

    def service_seconds(self) -> float:
        """CPU-seconds of services up to the last look."""
        return sum(seconds for seconds, is_service in self._seen.values() if is_service)

    def wait_until_gone(self, seconds: float = 20.0) -> list[int]:
        """Wait for all to end; the ids of those that had to be killed."""
        deadline = time.monotonic() + seconds
        while (left := list(self._members())) and time.monotonic() < deadline:
            self.look()
            time.sleep(0.05)
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait_until_gone(0.0)
        deadline = time.monotonic() + 5.0
        while self._group is not None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):  # busy until the last of them is reaped
                self._group.rmdir()
                self._group = None
            time.sleep(0.02)

    def _members(self) -> Iterator[int]:
        if self._group is not None:
            yield from map(int, (self._group / "cgroup.procs").read_text().split())
            return
        known = {pid for pid, _ in self._seen} | {self._root}
        parents = dict(_read_parents())
        for pid, (parent, start) in sorted(parents.items()):
            ours = pid == self._root or parent in known or (pid, start) in self._seen
            if ours:
                known.add(pid)
                yield pid


def _make_group(name: str) -> Path | None:
    """Below this process's own group, in the hierarchy of version 2."""
    with contextlib.suppress(OSError, StopIteration):
        mounts = (PROC / "mounts").read_text().splitlines()
        root = next(Path(line.split()[1]) for line in mounts if line.split()[2] == "cgroup2")
        own = (PROC / "self" / "cgroup").read_text().splitlines()
        path = next(line[len("0::") :] for line in own if line.startswith("0::"))
        group = root / path.lstrip("/") / f"{name}-{os.getpid()}"
        group.mkdir()
        return group
    return None


def _read_stat(pid: int) -> list[str]:
    """Fields from the third on: state, parent, ..."""
    return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()


def _read_parents() -> Iterator[tuple[int, tuple[int, str]]]:
    """(pid, (parent, start)) of every process that has not ended."""
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = _read_stat(int(entry.name))
                if fields[0] != "Z":
                    yield int(entry.name), (int(fields[1]), fields[19])
