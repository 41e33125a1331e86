"""Parses the specs of users in a process of its own, within limits of time and memory.

The event loop must not parse them: a few kilobytes can mean millions of pieces. Neither may a
thread, which cannot be killed and may hold the interpreter's lock. So a worker process parses each
document first. If it exceeds a limit, the system kills it, the document is refused, and another
worker parses the next one. The caller then parses again what is known to be cheap, so only JSON
passes between the processes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any, Final

from hippo.model import InvalidSpec, Sequence, Study, parse_study

MAX_SECONDS: Final = 5.0
"""Processor time for one document."""
MAX_WALL_SECONDS: Final = 60.0
"""Wall time for one document, and for the start of a worker, however busy the machine."""
MAX_BYTES: Final = 128 << 20
"""Memory for one document, beyond what a worker uses at its start."""
MAX_SEQUENCE_BYTES: Final = 64 << 20
"""Memory of a trial's sequence, once it is computed."""
MAX_GROWTH: Final = 16 << 20
"""Bytes by which a worker may grow over all its documents: beyond it, another replaces it."""
MAX_PROBLEMS, MAX_PROBLEM = 20, 500
"""Problems reported for one document, and characters of each."""

_ATTEMPTS = 2
"""Workers that must end on a document before the document is blamed."""
_KILLED_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM)
"""Exit codes of workers that others have killed, such as the kernel when memory is scarce."""


class TooCostly(InvalidSpec):
    """Parsing the document exceeds its limit of time or memory."""


class ParserFailed(Exception):
    """No worker can be started or can proceed, which is no document's fault."""


class SpecParser:
    """Parses one document at a time, taking the namespaces in turn. Safe for many threads."""

    def __init__(
        self,
        *,
        seconds: float = MAX_SECONDS,
        wall_seconds: float = MAX_WALL_SECONDS,
        memory: int = MAX_BYTES,
    ) -> None:
        self._seconds, self._wall_seconds, self._memory = seconds, wall_seconds, memory
        self._worker: _Worker | None = None
        self._worker_lock = _Queue()
        self._turns: dict[str, _Queue] = {}  # by namespace, as long as somebody waits
        self._turns_lock = threading.Lock()

    def parse_study(self, document: Mapping[str, Any], namespace: str) -> Study:
        """As ``parse_study``. Raises InvalidSpec, TooCostly, ParserFailed."""
        with self._turn(namespace), self._worker_lock:
            self._ask("study", document)
            return parse_study(document)

    def check_sequence(
        self, hyperparameters: Mapping[str, Any], steps: int, namespace: str
    ) -> None:
        """Whether ``Sequence.of`` takes them. Raises InvalidSpec, TooCostly, ParserFailed."""
        with self._turn(namespace), self._worker_lock:
            size: int = self._ask("sequence", dict(hyperparameters), steps)
        if size > MAX_SEQUENCE_BYTES:
            raise _costly(f"takes more than {MAX_SEQUENCE_BYTES >> 20} MiB once it is worked out")

    def close(self) -> None:
        """End the worker; the next document gets another one."""
        worker = self._worker
        if worker is None:
            return
        if self._worker_lock.is_taken:
            worker.kill()  # whoever waits for it notices
        else:
            self._lose()

    @property
    def pid(self) -> int | None:
        """Process ID of the worker, if there is one."""
        return self._worker.pid if self._worker is not None else None

    def _ask(self, *question: Any) -> Any:
        try:
            text = json.dumps(question).encode()
        except RecursionError:
            raise InvalidSpec.at("spec", _TOO_DEEP) from None
        kind, found = self._answer(text)
        if kind == "memory":
            raise _costly(f"needs more than {self._memory >> 20} MiB to be read")
        if kind == "invalid":
            raise InvalidSpec((path, message) for path, message in found)
        return found

    def _answer(self, question: bytes) -> tuple[str, Any]:
        for _ in range(_ATTEMPTS):
            worker = self._worker or self._begin()
            answer = worker.ask(question, self._wall_seconds)
            if answer is not None:
                kind, found, has_grown = answer
                if has_grown:
                    self._lose()
                return kind, found
            code = self._lose()
            if code == -signal.SIGPROF:
                raise _costly(f"takes more than {self._seconds:g} s to read")
            if code is None:
                break
        if code is None or code in _KILLED_BY_OTHERS:
            raise ParserFailed(f"the process that reads {_describe_end(code)}")
        raise InvalidSpec.at("spec", f"cannot be read: whatever reads it {_describe_end(code)}")

    def _begin(self) -> _Worker:
        self._worker = worker = _Worker(self._seconds, self._memory)
        if worker.answer(self._wall_seconds) != _READY:
            how = _describe_end(self._lose())
            raise ParserFailed(f"no process can be started that reads: it {how}")
        return worker

    def _lose(self) -> int | None:
        """The worker's exit code; None if it is at work, whatever it does."""
        worker, self._worker = self._worker, None
        return worker.end() if worker is not None else -signal.SIGKILL

    @contextlib.contextmanager
    def _turn(self, namespace: str) -> Iterator[None]:
        """Lets one caller of a namespace at a time wait for the worker, so that none starves."""
        with self._turns_lock:
            queue = self._turns.setdefault(namespace, _Queue())
            queue.users += 1
        try:
            with queue:
                yield
        finally:
            with self._turns_lock:
                queue.users -= 1
                if not queue.users:
                    del self._turns[namespace]


class _Queue:
    """A fair lock: first come, first served, which ``threading.Lock`` does not promise."""

    def __init__(self) -> None:
        self.users = 0
        self.is_taken = False
        self._waiting: deque[threading.Event] = deque()
        self._mutex = threading.Lock()

    def __enter__(self) -> None:
        with self._mutex:
            if not self.is_taken:
                self.is_taken = True
                return
            turn = threading.Event()
            self._waiting.append(turn)
        turn.wait()

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().set()  # it stays taken
            else:
                self.is_taken = False


def _costly(what: str) -> TooCostly:
    advice = "give its schedules fewer pieces, and its lists fewer entries"
    return TooCostly([("spec", f"{what}: {advice}")])


_READY = "ready"
_TOO_DEEP = "is nested too deeply"


def _describe_end(code: int | None) -> str:
    if code is None:
        return "does not get on: the machine is too busy"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


class _Worker:
    """The parent's side of the worker process."""

    def __init__(self, seconds: float, memory: int) -> None:
        ours, theirs = socket.socketpair()
        limits = (str(theirs.fileno()), repr(seconds), str(memory))
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "hippo.kube.spec_parser", *limits],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env=_environment(),
                start_new_session=True,  # a signal of a terminal is meant for its parent
            )
        except OSError as error:
            ours.close()
            raise ParserFailed(f"no process can be started that reads: {error.strerror}") from None
        finally:
            theirs.close()
        self._connection = Connection(ours.detach())
        self._is_gone = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def ask(self, question: bytes, wall_seconds: float) -> Any:
        """Its answer; None if it has ended, or does not answer in time."""
        try:
            self._connection.send_bytes(question)
        except OSError:
            self._is_gone = True
            return None
        return self.answer(wall_seconds)

    def answer(self, wall_seconds: float) -> Any:
        try:
            if self._connection.poll(wall_seconds):
                return json.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self._is_gone = True
        return None

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> int | None:
        """Its exit code; None if it was still at work."""
        if self._is_gone:  # it has closed its end, so that its code is about to be known
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(1.0)
        code = self._process.poll()
        self._process.kill()
        self._process.wait()
        self._connection.close()
        return code


def _environment() -> dict[str, str]:
    """The variables that Python needs, without credentials."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR")
    return {n: v for n, v in os.environ.items() if n in kept or n.startswith("PYTHON")}


SHARED: Final = SpecParser()
"""The operator's parser: one worker for all callers."""

atexit.register(SHARED.close)


# -- in the worker ---------------------------------------------------------------------------------


def serve(descriptor: int, seconds: float, memory: int) -> None:
    """Answer until the parent is gone."""
    _prefer_for_oom_kill()
    connection = Connection(descriptor)
    begun_with = _measure()
    _limit_memory(begun_with + memory)
    connection.send_bytes(json.dumps(_READY).encode())
    while True:
        try:
            question = connection.recv_bytes()
        except (EOFError, OSError):
            return
        # Its default action ends the process, wherever it is.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        kind, found = _read(*json.loads(question))
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        has_grown = _measure() - begun_with > MAX_GROWTH
        connection.send_bytes(json.dumps((kind, found, has_grown)).encode())


def _read(kind: str, *question: Any) -> tuple[str, Any]:
    try:
        if kind == "study":
            parse_study(*question)
            return "read", None
        sequence = Sequence.of(*question)
        return "read", sum(sequence.runs(name).size for name in sequence.names)
    except InvalidSpec as error:
        return "invalid", _clip(error)
    except MemoryError:
        return "memory", None
    except RecursionError:
        return "invalid", [("spec", _TOO_DEEP)]
    except Exception as error:
        return "invalid", [("spec", f"cannot be read: {_in_a_line(error)}")]


def _clip(error: InvalidSpec) -> list[tuple[str, str]]:
    told = [
        (path[:MAX_PROBLEM], message[:MAX_PROBLEM]) for path, message in error.errors[:MAX_PROBLEMS]
    ]
    more = len(error.errors) - len(told)
    return [*told, ("", f"and {more} more problems")] if more else told


def _in_a_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:MAX_PROBLEM]


def _measure() -> int:
    """Bytes of address space."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:  # not Linux: then without a limit of memory that means something
        return 1 << 40


def _limit_memory(size: int) -> None:
    """Stay below a hard limit that the operator was started with."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    soft = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _prefer_for_oom_kill() -> None:
    """When memory is scarce, the kernel kills this process and not the operator."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")


if __name__ == "__main__":
    serve(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
