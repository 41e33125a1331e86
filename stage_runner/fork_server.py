"""The fork server of the local driver: a warm process that forks one worker per chain.

Importing PyTorch takes seconds, forking milliseconds. The server imports the trainer's module
once and never computes anything, so that it has a single thread and no CUDA context when it
forks. Where that is impossible (the module uses the GPU when imported, or the system is not
Linux), each worker is started afresh instead. The server reads requests from standard input and
writes events to standard output, one JSON object per line:

    {"launch": {"plan": name, "assignment": {...}, "device": "cuda:1" | null, "log": "/x/y.log",
                "logs": "/x"}}
    {"terminate": chain, "within": seconds}    {"kill": chain}
    {"ready": true, "fingerprint": {...}}    {"started": chain, "pid": n}
    {"exited": chain, "code": n, "signal": n | null, "during": what, "step": n,
     "reason": text, if it could not be started}
    {"poke": chain}    {"progress": chain, "step": n, "metrics": {...}}    (hints: some may be lost)
    {"standing": chain, "during": what, "step": n, "seconds": s, "place": where}
              (a long call of the trainer, after 1, 2, 4, ... seconds; when it ends:)
    {"standing": chain, "during": null}

When standard input ends, the driver is gone: the server kills its workers and exits. Workers die
with the server, however it dies. Each worker leads a process group, which is killed with it:
processes that a trainer leaves behind do not outlive its chain.
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from hippo.store import StoreError, folders, open_blobs
from stage_runner.entry_point import add_to_path
from stage_runner.environment import set_threads
from stage_runner.failures import print_traceback, say
from stage_runner.fingerprint import take_fingerprint
from stage_runner.pulse import OF_TRAINER, Pulse
from stage_runner.randomness import seed_imports
from stage_runner.worker import (
    die_with_parent,
    end_process,
    open_store,
    print_to_log,
    run_worker,
)

_READ = 65536  # bytes
_CHECK_SECONDS = 1.0  # how often the server looks whether its own parent still lives
_COULD_NOT_START = 71  # EX_OSERR


def serve(*, store: str, path: Path, threads: int, preload: str | None, patience: float) -> int:
    """Serve until standard input ends; return the exit status.

    ``patience``: seconds after which the log shows where an unfinished import of the module stands.
    """
    die_with_parent(os.getppid())  # also while the trainer's module is imported
    faulthandler.enable()
    faulthandler.dump_traceback_later(patience)
    server = _Server(store=store, path=path, threads=threads)
    server.prepare(preload)
    faulthandler.cancel_dump_traceback_later()
    return server.serve()


@dataclass(slots=True)
class _Worker:
    """A worker, as the server sees it."""

    chain: str
    pid: int
    pulse: Pulse
    leave_by: float | None = None  # time.monotonic() at which a hanging worker is killed
    told_since: float = 0.0  # start of the call that was checked last
    tell_at: float = _CHECK_SECONDS  # duration at which the driver is notified next


class _Server:
    def __init__(self, *, store: str, path: Path, threads: int) -> None:
        self._store = store
        self._path = path
        self._threads = threads
        self._pid = os.getpid()
        self._parent = os.getppid()
        self._workers: dict[int, _Worker] = {}  # by process id
        self._buffer = b""
        self._output = os.dup(1)
        os.dup2(2, 1)  # keeps the trainer's output out of the events
        self._life, self._life_end = os.pipe()  # closes with this process, which workers notice
        self._hints, self._hints_end = os.pipe()
        self._woken, self._wake_end = os.pipe()
        for descriptor in (self._hints, self._hints_end, self._woken, self._wake_end):
            os.set_blocking(descriptor, False)

    def prepare(self, preload: str | None) -> None:
        """Import what workers will need. If the module raises, the workers report it."""
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # keeps forks usable
        set_threads(self._threads)
        # A pool of OpenMP threads does not survive a fork: workers would hang in a parallel loop.
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
        add_to_path(self._path)
        with contextlib.suppress(StoreError):  # each worker reports it
            open_blobs(self._store)  # imports its modules; connects nowhere
        if preload is not None:
            seed_imports()
            with contextlib.suppress(BaseException):
                importlib.import_module(preload)
        if "torch" in sys.modules:  # the first optimizer would import this, which takes seconds
            with contextlib.suppress(Exception):
                importlib.import_module("torch._dynamo")
        os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(self._threads)
        self._may_fork = _is_safe_to_fork()
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.set_wakeup_fd(self._wake_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        gc.collect()
        gc.freeze()

    def serve(self) -> int:
        self._tell({"ready": True, "fingerprint": self._take_fingerprint()})
        while True:
            watched = [0, self._hints, self._woken]
            ready, _, _ = select.select(watched, [], [], _CHECK_SECONDS)
            if os.getppid() != self._parent:
                self._kill_all()
            if self._woken in ready:
                os.read(self._woken, _READ)
            if self._hints in ready:
                self._pass_hints_on()
            self._reap()
            self._look_at_pulses()
            if 0 in ready:
                data = os.read(0, _READ)
                if not data:
                    self._kill_all()
                *lines, self._buffer = (self._buffer + data).split(b"\n")
                for line in filter(None, lines):
                    self._obey(json.loads(line))

    def _take_fingerprint(self) -> dict[str, str]:
        """Return the fingerprint of future workers, as far as it is known before ``setup``.

        Taken in a separate process, because asking for the GPU's name initialises CUDA.
        """
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                torch = sys.modules.get("torch")
                device = "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
                found = take_fingerprint(threads=self._threads, device=device)
                os.write(writing, json.dumps(found).encode())
            finally:
                end_process(0)
        os.close(writing)
        with open(reading, "rb") as file:
            text = file.read()
        os.waitpid(pid, 0)
        return dict(json.loads(text or b"{}"))

    def _obey(self, request: dict[str, Any]) -> None:
        match request:
            case {"launch": launch}:
                self._launch(launch)
            case {"terminate": chain, **within}:
                self._signal(chain, signal.SIGTERM)
                self._await_leaving(chain, within.get("within"))
            case {"kill": chain}:
                self._signal(chain, signal.SIGKILL)
            case _:
                raise ValueError(f"not a request: {request}")

    def _launch(self, launch: dict[str, Any]) -> None:
        chain = launch["assignment"]["chain"]
        launched = time.monotonic()
        try:
            assignment = _as_file(launch["assignment"])
            log = _open_log(launch["log"], launch.get("logs"))
            shared = Pulse.share()
            pulse = Pulse(shared)
        except OSError as error:
            return self._tell_not_started(chain, error)
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            return self._tell_not_started(chain, error)
        finally:
            if os.getpid() == self._pid:
                for descriptor in (assignment, log, shared):
                    os.close(descriptor)
        if pid == 0:
            files = _Files(assignment, log, shared)
            self._become_worker(launch["plan"], files, launch["device"], launched)
        with contextlib.suppress(OSError):  # the worker may have done so itself
            os.setpgid(pid, pid)
        self._workers[pid] = _Worker(chain, pid, pulse)
        self._tell({"started": chain, "pid": pid})

    def _become_worker(
        self, plan: str, files: _Files, device: str | None, launched: float
    ) -> NoReturn:
        status = _COULD_NOT_START
        try:
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.dup2(files.assignment, 0)
            os.dup2(files.log, 1)
            os.dup2(files.log, 2)
            for descriptor in (
                self._output,
                self._life_end,
                self._hints,
                self._woken,
                self._wake_end,
            ):
                os.close(descriptor)
            die_with_parent(self._pid)
            os.environ["CUDA_VISIBLE_DEVICES"] = _find_visible(device)
            if not self._may_fork:
                self._start_afresh(plan, files.pulse)
            status = self._run(plan, files.pulse, launched)
        except BaseException as error:
            print_traceback(error)
        finally:
            end_process(status)

    def _run(self, plan: str, pulse: int, launched: float) -> int:
        print_to_log()
        faulthandler.enable()
        return run_worker(
            "-",
            open_store(self._store, plan),
            path=self._path,
            launched=launched,
            hints=self._hints_end,
            pulse=pulse,
            server=self._life,
        )

    def _start_afresh(self, plan: str, pulse: int) -> NoReturn:
        for descriptor in (self._hints_end, self._life, pulse):
            os.set_inheritable(descriptor, True)
        command = [sys.executable, "-u", "-m", "stage_runner", "run", "--assignment", "-"]
        command += ["--store", self._store, "--plan", plan, "--path", str(self._path)]
        command += ["--hints", str(self._hints_end), "--server", str(self._life)]
        command += ["--pulse", str(pulse)]
        os.execv(sys.executable, command)  # noqa: S606 - our own interpreter

    def _signal(self, chain: str, number: signal.Signals) -> None:
        for pid, worker in self._workers.items():
            if worker.chain == chain:
                os.kill(pid, number)  # not reaped yet, so the pid is not reused

    def _await_leaving(self, chain: str, within: float | None) -> None:
        for worker in self._workers.values():
            if worker.chain == chain and within is not None:
                worker.leave_by = time.monotonic() + within

    def _look_at_pulses(self) -> None:
        """Notify the driver of long calls, and kill workers that did not stop in time."""
        for worker in self._workers.values():
            standing = worker.pulse.read()
            if standing.since != worker.told_since:
                if worker.tell_at > _CHECK_SECONDS:
                    self._tell({"standing": worker.chain, "during": None})
                worker.told_since, worker.tell_at = standing.since, _CHECK_SECONDS
            if standing.during not in OF_TRAINER | {"import"}:
                continue
            seconds = time.perf_counter() - standing.since
            if seconds >= worker.tell_at:
                worker.tell_at = 2 * seconds
                self._tell(
                    {
                        "standing": worker.chain,
                        "during": standing.during,
                        "step": standing.step,
                        "seconds": seconds,
                        "place": standing.place,
                    }
                )
            if worker.leave_by is not None and time.monotonic() > worker.leave_by:
                os.kill(worker.pid, signal.SIGKILL)  # only in such a call: a save may take longer

    def _pass_hints_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while hints := os.read(self._hints, _READ):
                self._write(hints)

    def _reap(self) -> None:
        while self._workers:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is None:
                return
            pid = ended.si_pid
            _end_group(pid)  # not reaped yet, so the pid is not reused
            _, status = os.waitpid(pid, 0)
            worker = self._workers.pop(pid, None)
            if worker is None:
                continue
            self._pass_hints_on()
            code, standing = os.waitstatus_to_exitcode(status), worker.pulse.read()
            worker.pulse.close()
            self._tell(
                {
                    "exited": worker.chain,
                    "code": max(code, 0),
                    "signal": -code if code < 0 else None,
                    "during": standing.during,
                    "step": standing.step,
                }
            )

    def _kill_all(self) -> NoReturn:
        for pid in self._workers:
            os.kill(pid, signal.SIGKILL)
            _end_group(pid)
        for pid in self._workers:
            os.waitpid(pid, 0)
        os._exit(0)

    def _tell_not_started(self, chain: str, error: OSError) -> None:
        reason = f"the worker could not be started: {error}"
        say(f"{chain}: {reason}")
        self._tell({"exited": chain, "code": _COULD_NOT_START, "signal": None, "reason": reason})

    def _tell(self, event: dict[str, Any]) -> None:
        self._write(json.dumps(event).encode() + b"\n")

    def _write(self, data: bytes) -> None:
        try:
            while data:
                data = data[os.write(self._output, data) :]
        except BrokenPipeError:
            self._kill_all()


@dataclass(frozen=True, slots=True)
class _Files:
    """Descriptors that a worker gets from its server."""

    assignment: int
    log: int
    pulse: int


def _end_group(leader: int) -> None:
    """Kill the processes that a worker has left behind."""
    with contextlib.suppress(OSError):
        os.killpg(leader, signal.SIGKILL)


def _open_log(path: str, root: str | None) -> int:
    """Open a log, following no link below ``root`` (default: the log's folder)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    return folders.open_within(root or os.path.dirname(path), path, flags, make=True)


def _as_file(assignment: dict[str, Any]) -> int:
    """Return the descriptor of an unnamed file that holds the assignment."""
    with tempfile.TemporaryFile() as file:
        file.write(json.dumps(assignment).encode())
        file.seek(0)
        return os.dup(file.fileno())


def _find_visible(device: str | None) -> str:
    """Return ``CUDA_VISIBLE_DEVICES`` of a worker: one of the server's devices, or none."""
    if device is None:
        return ""
    index = int(device.removeprefix("cuda:"))
    own = os.environ.get("CUDA_VISIBLE_DEVICES")
    return str(index) if own is None else own.split(",")[index].strip()


def _is_safe_to_fork() -> bool:
    """Return whether forked workers can use CUDA and the system's libraries."""
    if sys.platform != "linux":
        return False
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return False
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{descriptor}").startswith("/dev/nvidia-uvm"):
                return False  # every process with a CUDA context holds it
    return True
