"""Clocks of one run, all of them kept from outside, in the same way for each system."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.side_by_side.processes import Processes

LOOK_SECONDS = 0.25
TIMEOUT_SECONDS = 900.0


class RunFailed(Exception):
    """A system did not do its work. One line, with the log."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds since the process was started; CPU-seconds of all its processes."""

    output: bytes
    ready: float  # workers could begin
    done: float  # the first byte of the result
    ended: float  # the process had ended
    cpu_ready: float
    cpu_done: float
    cpu: float
    service_cpu: float
    counted_by: str


def measure(
    command: list[str],
    *,
    ready: re.Pattern[bytes],
    is_service: Callable[[list[str]], bool],
    environment: Mapping[str, str],
    log: Path,
) -> Measured:
    """Run a command that tells on standard error when it is ready, and on standard output what came
    of it. Raises RunFailed.
    """
    with Processes("hippo-side-by-side", is_service) as processes:
        watch = _Watch(processes, ready)
        process = subprocess.Popen(
            processes.wrap(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **environment},
        )
        processes.started(process.pid)
        try:
            watch.follow(process)
        finally:
            log.write_bytes(watch.errors)
            if process.poll() is None:
                process.kill()
                process.wait()
        ended = time.perf_counter() - watch.begun
        if process.returncode != 0 or watch.ready is None or watch.done is None:
            raise RunFailed(f"{' '.join(command)} ended with {process.returncode}: see {log}")
        left = processes.wait_until_gone()
        if left:
            raise RunFailed(f"{' '.join(command)} left processes {left} behind; they were killed")
        return Measured(
            output=watch.output,
            ready=watch.ready[0],
            done=watch.done[0],
            ended=ended,
            cpu_ready=watch.ready[1],
            cpu_done=watch.done[1],
            cpu=processes.cpu_seconds(),
            service_cpu=processes.service_seconds(),
            counted_by=processes.counted_by,
        )


class _Watch:
    """What a process says, and when."""

    def __init__(self, processes: Processes, ready: re.Pattern[bytes]) -> None:
        self.begun = time.perf_counter()
        self.output = b""
        self.errors = b""
        self.ready: tuple[float, float] | None = None
        self.done: tuple[float, float] | None = None
        self._processes = processes
        self._pattern = ready

    def follow(self, process: subprocess.Popen[bytes]) -> None:
        """Until it has ended. Raises RunFailed if it never does."""
        assert process.stdout is not None
        assert process.stderr is not None
        with contextlib.ExitStack() as stack:
            selector = stack.enter_context(selectors.DefaultSelector())
            end = os.pidfd_open(process.pid)
            stack.callback(os.close, end)
            selector.register(end, selectors.EVENT_READ, None)
            selector.register(process.stdout, selectors.EVENT_READ, self._hear_output)
            selector.register(process.stderr, selectors.EVENT_READ, self._hear_errors)
            while process.poll() is None:
                if time.perf_counter() - self.begun > TIMEOUT_SECONDS:
                    raise RunFailed(f"no end after {TIMEOUT_SECONDS:g} s")
                events = selector.select(LOOK_SECONDS)
                if not events:
                    self._processes.look()
                for key, _ in events:
                    if key.data is None:
                        continue
                    chunk = os.read(key.fd, 1 << 16)
                    if chunk:
                        key.data(chunk)
                    else:
                        selector.unregister(key.fileobj)
            for stream, hear in (
                (process.stdout, self._hear_output),
                (process.stderr, self._hear_errors),
            ):
                os.set_blocking(stream.fileno(), False)
                with contextlib.suppress(BlockingIOError):  # who else holds it is not waited for
                    while chunk := os.read(stream.fileno(), 1 << 16):
                        hear(chunk)

    def _hear_output(self, chunk: bytes) -> None:
        self.output += chunk
        if self.done is None:
            self.done = self._now()

    def _hear_errors(self, chunk: bytes) -> None:
        self.errors += chunk
        if self.ready is None and self._pattern.search(self.errors):
            self.ready = self._now()

    def _now(self) -> tuple[float, float]:
        now = time.perf_counter() - self.begun
        self._processes.look()
        return now, self._processes.cpu_seconds()
