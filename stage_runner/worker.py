"""A worker process: everything around one chain, forked by the server or started by itself."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

from hippo.protocol.assignments import TIMED_ASSIGNMENT_VERSION, Assignment
from hippo.protocol.compatibility import EXIT_INCOMPATIBLE, MARK
from hippo.protocol.reports import Outcome
from hippo.store import NewerFormat, PlanStore, StoreError, open_blobs
from hippo.store.bounds import MAX_BYTES, Kind, check_record
from hippo.store.cache import find_cache
from hippo.store.encoding import decode
from stage_runner.chain import Chain
from stage_runner.failures import say
from stage_runner.hints import LogHints, PipeHints
from stage_runner.pulse import Pulse
from stage_runner.termination import EXIT_CODES

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def run_worker(
    assignment_file: str,
    store: PlanStore,
    *,
    path: Path,
    launched: float,  # time.monotonic()
    hints: int | None = None,  # file descriptor
    pulse: int | None = None,  # file descriptor
    server: int | None = None,  # file descriptor
) -> int:
    """Carry out the assignment in a file (``-``: standard input), and return the exit status.

    Ctrl-C acts like SIGTERM, unless there is a server, which then decides.
    """
    signals: tuple[signal.Signals, ...] = (signal.SIGTERM, signal.SIGINT)
    if server is not None:
        leave_with(server)
        signals = (signal.SIGTERM,)
    try:
        data = _read_bounded(assignment_file)
        assignment = decode(
            Assignment.model_validate_json,
            data,
            f"the assignment ({assignment_file})",
            newest=TIMED_ASSIGNMENT_VERSION,
        )
    except OSError as error:
        return _refuse(f"--assignment {assignment_file}: {error.strerror}")
    except NewerFormat:
        return _refuse(f"--assignment {assignment_file} was written by a newer Hippo")
    except StoreError as error:
        return _refuse(f"--assignment: {error}")
    chain = Chain(
        assignment,
        store,
        path=path,
        launched=launched,
        hints=LogHints() if hints is None else PipeHints(hints, assignment.chain),
        pulse=Pulse(pulse),
        signals=signals,
    )
    return chain.run()


def _refuse(reason: str) -> int:
    """Return the exit status of a worker that is incompatible with its driver."""
    say(f"{MARK}{reason}")
    return EXIT_INCOMPATIBLE


def _read_bounded(file: str) -> bytes:
    """Raise OSError, or Unreadable for a file that is too large for an assignment."""
    with contextlib.nullcontext(sys.stdin.buffer) if file == "-" else open(file, "rb") as stream:
        data = stream.read(MAX_BYTES[Kind.ASSIGNMENT] + 1)
    check_record(f"the assignment ({file})", data, Kind.ASSIGNMENT)
    return data


def open_store(url: str, plan: str) -> PlanStore:
    """Open the plan, with this machine's cache if there is one and the store is not a folder.
    Raises StoreError.
    """
    blobs = open_blobs(url)
    cache = find_cache(tell=say) if blobs.is_remote else None
    return PlanStore(blobs, plan, cache=cache)


class _Log(io.RawIOBase):
    """A file that drops what it cannot write: a full disk must not fail the caller of ``print``."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        size = len(rest)
        with contextlib.suppress(OSError):
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        return size


def print_to_log() -> None:
    """Redirect standard output and error to copies of descriptors 1 and 2 that never fail: a full
    disk is ignored, and the trainer may close the originals.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        log = io.BufferedWriter(_Log(os.dup(descriptor)))
        setattr(
            sys,
            name,
            io.TextIOWrapper(log, encoding="utf-8", errors="backslashreplace", line_buffering=True),
        )


def die_with_parent(parent: int) -> None:
    """Have this process killed when its parent dies (Linux; elsewhere ``leave_with`` does it)."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the call above
        os._exit(EXIT_CODES[Outcome.PREEMPTED])


def leave_with(descriptor: int) -> None:
    """Exit, from a thread, when the other end of this pipe is closed: its process has died."""

    def watch() -> None:
        while os.read(descriptor, 1):
            pass
        os._exit(EXIT_CODES[Outcome.PREEMPTED])

    threading.Thread(target=watch, name="server", daemon=True).start()


def end_process(status: int) -> NoReturn:
    """Exit at once: threads of the trainer's libraries must not delay a finished worker."""
    try:
        processes = sys.modules.get("multiprocessing")
        if processes is not None:  # those of a data loader, for instance
            for process in processes.active_children():
                process.terminate()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # the trainer may have replaced it
                stream.flush()
    finally:
        os._exit(status)
