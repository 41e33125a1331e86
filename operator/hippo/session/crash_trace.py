"""Finds where a worker crashed, from the stack that Python wrote to its log.

The format is that of ``faulthandler``, which needs neither Python's lock nor memory to write it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from hippo.store import folders

_READ = 65536  # bytes from the end of a log
_BEGINNING = re.compile(
    r"^(?:Fatal Python error: (?P<error>.+)|(?P<timeout>Timeout \([\d:.]+\)!))$", re.MULTILINE
)
_THREAD = re.compile(r"^(?:Current thread|Thread) .*\(most recent call first\):$", re.MULTILINE)
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]+)", line (?P<line>\d+) in (?P<name>.+)$', re.M)
_OURS = ("/stage_runner/", "/hippo/")
_LIBRARIES = ("/site-packages/", "/dist-packages/", *_OURS)
_STANDARD = re.compile(r"/lib(?:64)?/python3(?:\.\d+)?/")
_TRAINS = re.compile(r"/stage_runner/chain\.py$")
"""Occurs in the stack of the training thread only."""


@dataclass(frozen=True, slots=True)
class Crash:
    """A crash. ``what``: Python's name for it, if known. ``place``: ``trainer.py:31, in
    step()``, or empty.
    """

    what: str
    place: str = ""
    is_timeout: bool = False


def find_crash(log: str, folder: Path | None = None) -> Crash | None:
    """Return the crash with which a log ends; only its place if the beginning is cut off.

    ``folder``: of the trainer; file names are relative to it.
    """
    beginnings = list(_BEGINNING.finditer(log))
    if not beginnings:
        lines = log.rstrip().splitlines()
        is_cut = bool(lines) and _FRAME.match(lines[-1]) is not None
        return Crash("", _find_place(log, folder)) if is_cut else None
    last = beginnings[-1]
    place = _find_place(log[last.end() :], folder)
    if last["timeout"]:
        return Crash("its time was over", place, is_timeout=True)
    return Crash(" ".join(last["error"].split()), place)


def read_end(log: Path, within: Path | None = None) -> str:
    """Return the end of a log; empty if there is none. Follows no link below ``within``
    (default: the log's folder).
    """
    try:
        with open(folders.open_within(within or log.parent, log, os.O_RDONLY), "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _READ))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""


def _find_place(text: str, folder: Path | None) -> str:
    stacks = [list(_FRAME.finditer(stack)) for stack in _THREAD.split(text)]
    stacks = [stack for stack in stacks if stack]
    ours = [s for s in stacks if any(_TRAINS.search(frame["file"]) for frame in s)]
    frames = [frame for stack in ours[:1] or stacks[:1] for frame in stack]
    for libraries in (_LIBRARIES, _OURS):  # the trainer may be installed, too
        for frame in frames:
            if _is_own(frame["file"], folder, libraries):
                name = _name(frame["file"], folder)
                called = frame["name"]  # <module>, for instance
                called += "" if called.startswith("<") else "()"
                return f"{name}:{frame['line']}, in {called}"
    return ""


def _is_own(file: str, folder: Path | None, libraries: tuple[str, ...]) -> bool:
    if file.startswith("<") or (_STANDARD.search(file) and "-packages/" not in file):
        return False
    if folder is not None and Path(file).is_relative_to(folder):
        return True
    return not any(part in file for part in libraries)


def _name(file: str, folder: Path | None) -> str:
    path = Path(file)
    if folder is not None and path.is_relative_to(folder):
        return str(path.relative_to(folder))
    return path.name
