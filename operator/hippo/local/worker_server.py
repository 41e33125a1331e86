"""Worker processes, forked warm from one server process (``python -m stage_runner serve``).

The server is the only process that the driver starts: it imports the trainer once and forks a
worker per chain. When the driver dies, the server's standard input ends, and the server and all
workers exit.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hippo.protocol.assignments import Assignment
from hippo.session.crash_trace import find_crash
from hippo.store import folders
from hippo.store.cache import FOLDER_VARIABLE

READY_TIMEOUT_SECONDS = 120.0
"""Importing torch and the trainer takes seconds; on a cold disk up to a minute."""
STACK_SHARE = 0.9
"""Share of that time after which the server logs where its import stands."""


class WorkersFailed(Exception):
    """The server cannot start, or has died. The message is one line."""


class WorkerServer:
    """Starts, stops and watches workers. Not thread-safe."""

    def __init__(
        self,
        *,
        store: str,
        threads: int,
        path: Path,
        entrypoint: str,
        logs: Path,
        cache: Path | None = None,
    ) -> None:
        """``cache``: folder for workers' checkpoints, unless the environment sets one."""
        self.log = logs / "server.log"
        try:
            with contextlib.suppress(
                FileExistsError
            ):  # opening it reports a file that is no folder
                logs.parent.mkdir(parents=True)
            log = folders.open_within(
                logs.parent, self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, make=True
            )
            if cache is not None:
                os.close(folders.enter(logs.parent, os.path.relpath(cache, logs.parent)))
        except OSError as error:
            raise WorkersFailed(
                f"logs cannot be kept in {logs}: {error.strerror}: use another --store"
            ) from None
        self._logs = logs
        self._buffer = b""
        self._is_ready = False
        self._running: dict[str, int] = {}  # pid of each worker
        module = entrypoint.partition(":")[0]
        environment = os.environ | {
            name: str(threads)
            for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        }
        environment["PYTHONHASHSEED"] = "0"  # workers would otherwise restart to set it
        environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # as nvidia-smi counts them
        if cache is not None and not environment.get(FOLDER_VARIABLE):
            environment[FOLDER_VARIABLE] = str(cache)
        command = [
            *(sys.executable, "-m", "stage_runner", "serve", "--store", store),
            *("--threads", str(threads), "--path", str(path), "--preload", module),
            *("--patience", str(READY_TIMEOUT_SECONDS * STACK_SHARE)),
        ]
        self._path = path
        with open(log, "ab") as stream:
            self._said_before = stream.tell()  # size of earlier servers' output
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=environment,
                start_new_session=True,  # Ctrl-C goes to the driver, which stops workers cleanly
            )
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable when there are events."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def wait_until_ready(self) -> dict[str, str]:
        """Return the fingerprint of software and hardware of future workers. Raises
        WorkersFailed.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self, selectors.EVENT_READ)
            while selector.select(READY_TIMEOUT_SECONDS):
                for event in self.events():
                    if "ready" in event:
                        self._is_ready = True
                        return dict(event["fingerprint"])
        crash = find_crash(self._read_log(), self._path)
        at = f": the import of the trainer stands at {crash.place}" if crash is not None else ""
        raise WorkersFailed(
            f"workers are not ready after {READY_TIMEOUT_SECONDS:g} s{at}: see {self.log}"
        )

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield all events so far. Raises WorkersFailed if the server has died."""
        assert self._process.stdout is not None
        try:
            while chunk := os.read(self._process.stdout.fileno(), 1 << 16):
                self._buffer += chunk
            ended = True
        except BlockingIOError:
            ended = False
        *lines, self._buffer = self._buffer.split(b"\n")
        for line in lines:
            if line.strip():
                event = json.loads(line)
                if "started" in event:
                    self._running[event["started"]] = event["pid"]
                elif "exited" in event:
                    self._running.pop(event["exited"], None)
                yield event
        if ended:
            raise self._failure()

    def launch(self, assignment: Assignment, *, plan: str, slot: int, device: str | None) -> Path:
        """Start a worker; returns the path of its log."""
        log = self._logs / plan / f"{assignment.chain}.log"  # plans may have equal chain names
        self._send(
            {
                "launch": {
                    "plan": plan,
                    "slot": slot,
                    "assignment": assignment.model_dump(mode="json", by_alias=True),
                    "device": device,
                    "log": str(log),
                    "logs": str(self._logs.parent),
                }
            }
        )
        return log

    def pid(self, chain: str) -> int | None:
        """Return the pid of a running worker, else None."""
        return self._running.get(chain)

    def terminate(self, chain: str, *, within: float) -> None:
        """Send SIGTERM: the worker saves at the end of its step and exits. The server kills it
        if it is still in a call of its trainer after ``within`` seconds.
        """
        self._send({"terminate": chain, "within": within})

    def kill(self, chain: str) -> None:
        self._send({"kill": chain})

    def close(self) -> None:
        """End all processes. Idempotent."""
        if not self._is_ready:  # while it imports, it does not read its input
            self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in self._running.values():  # children of workers, if the server was killed
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        self._running.clear()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failure() from None

    def _read_log(self) -> str:
        """Return the lines that this server has written to its log."""
        with open(folders.open_within(self._logs.parent, self.log, os.O_RDONLY), "rb") as log:
            log.seek(self._said_before)
            return log.read().decode(errors="replace")

    def _failure(self) -> WorkersFailed:
        """Return an error that says why the server has ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=1)
        how = describe_exit(self._process.returncode)
        text = self._read_log()
        lines = text.strip().splitlines()
        said = f": {lines[-1].strip()}" if lines else ""
        if (crash := find_crash(text, self._path)) is not None:  # its last line tells nothing
            said = f" at {crash.place}" if crash.place else ""
        if not self._is_ready:
            return WorkersFailed(f"the worker server {how} while it started{said} (see {self.log})")
        return WorkersFailed(
            f"the worker server {how}{said} (see {self.log}); what is saved is kept: run again to"
            " go on"
        )


def describe_exit(code: int | None) -> str:
    """Describe a process's end by its return code, in subprocess's convention."""
    if code is None:
        return "does not answer"
    if code >= 0:
        return f"ended with exit status {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = f"signal {-code}"
    return f"was killed by {name}" + (" (out of memory?)" if -code == signal.SIGKILL else "")
