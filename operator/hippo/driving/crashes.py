"""What Python itself writes to a worker's log when it crashes, or when its time is over: where it
was, for whoever finds no report.

The format is that of ``faulthandler``, which writes it without a lock or an allocation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_READ = 65536  # bytes from the end of a log
_BEGINNING = re.compile(
    r"^(?:Fatal Python error: (?P<error>.+)|(?P<timeout>Timeout \([\d:.]+\)!))$", re.MULTILINE
)
_THREAD = re.compile(r"^(?:Current thread|Thread) .*\(most recent call first\):$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+) in (?P<name>.+)$', re.M)
_LIBRARIES = ("/site-packages/", "/dist-packages/", "/stage_runner/", "/hippo/")
_STANDARD = re.compile(r"/lib(?:64)?/python3(?:\.\d+)?/")
_TRAINS = re.compile(r"/stage_runner/(?:chain|worker)\.py$")
"""In the stack of the thread that trains, and of no other."""


@dataclass(frozen=True, slots=True)
class Crash:
    """``what``: as Python names it. ``place``: ``trainer.py:31, in step()``, if there is one."""

    what: str
    place: str = ""
    is_timeout: bool = False


def find_crash(log: str, folder: Path | None = None) -> Crash | None:
    """The last crash that a log ends with. ``folder``: of the trainer; files are named from it."""
    beginnings = list(_BEGINNING.finditer(log))
    if not beginnings:
        return None
    last = beginnings[-1]
    place = _find_place(log[last.end() :], folder)
    if last["timeout"]:
        return Crash("its time was over", place, is_timeout=True)
    return Crash(" ".join(last["error"].split()), place)


def read_end(log: Path) -> str:
    """The last lines of a log; empty if there is none."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _READ))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _find_place(text: str, folder: Path | None) -> str:
    stacks = [list(_FRAME.finditer(stack)) for stack in _THREAD.split(text)[1:]]
    stacks = [stack for stack in stacks if stack]
    ours = [s for s in stacks if any(_TRAINS.search(frame["file"]) for frame in s)]
    for stack in ours or stacks[:1]:
        for frame in stack:
            if _is_own(frame["file"], folder):
                name = _name(frame["file"], folder)
                return f"{name}:{frame['line']}, in {frame['name']}()"
    return ""


def _is_own(file: str, folder: Path | None) -> bool:
    if file.startswith("<") or _STANDARD.search(file):
        return False
    if folder is not None and Path(file).is_relative_to(folder):
        return True
    return not any(part in file for part in _LIBRARIES)


def _name(file: str, folder: Path | None) -> str:
    path = Path(file)
    if folder is not None and path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return path.name
