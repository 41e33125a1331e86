"""Describes errors in one line that points users to the place in their own code."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

from hippo.model.foreign import as_line, as_lines

_MAX_LENGTH = 300  # characters of the message
_MAX_READ = 100_000  # characters read of a message, and written of a traceback
_MAX_PARTS = 3  # exceptions of a group that are described
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_RUNNER = str(Path(__file__).parent)
_QUOTED = "Traceback (most recent call last):"
_NAMES_ERROR = re.compile(r"[A-Za-z_][\w.]*(: |$)")
_QUOTED_PLACE = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)

Place = tuple[str, int | None]
"""A file name, as Python reports it, and a line."""


def describe(error: BaseException, path: Path) -> str:
    """Describe an error: ``ValueError: batch too large (trainer.py:31)``.

    The place is the innermost frame below ``path``; else the innermost frame outside of installed
    libraries; else the outermost that is not the runner's. Errors from another process and groups
    of exceptions are quoted. Never raises, whatever the exception does.
    """
    if isinstance(error, BaseExceptionGroup) and error.exceptions:
        return _describe_group(error, path)
    said, quoted = _split_quotation(_read_message(error))
    message = _one_line(said)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if quoted and _NAMES_ERROR.match(message):
        text = message
    quoted = quoted or _read_remote(error)
    place = _find_own_place(quoted, path) or _find_place(_list_places(error), path)
    return f"{text} ({place})" if place else text


def describe_thread(thread: int, path: Path) -> tuple[str, str]:
    """Return where a thread is, such as ``trainer.py:31, in step()``, and its stack below the
    runner's own calls, as Python prints it. Both are empty if there is no such thread.
    """
    frame = sys._current_frames().get(thread)
    if frame is None:
        return "", ""
    frames = list(_walk(frame))
    files = [f.f_code.co_filename for f, _ in frames]
    begin = max((n + 1 for n, file in enumerate(files) if file.startswith(_RUNNER)), default=0)
    below = frames[begin:] or frames
    stack = "".join(traceback.format_list(traceback.StackSummary.extract(iter(below))))
    inner, line = frames[-1][0].f_code, frames[-1][1]
    place = _find_place([(f.f_code.co_filename, number) for f, number in frames], path)
    own = next(
        (
            f.f_code.co_name
            for f, number in reversed(frames)
            if place and f"{Path(f.f_code.co_filename).name}:{number}" == Path(place).name
        ),
        None,
    )
    told = f"{place}, in {_call(own)}" if place and own else place or ""
    if told and not _is_own(inner.co_filename):
        told += f", within {Path(inner.co_filename).name}:{line}, in {_call(inner.co_name)}"
    return told, stack


def _call(name: str) -> str:
    return name if name.startswith("<") else f"{name}()"


def print_traceback(error: BaseException) -> None:
    """Write the traceback to the log, clipped to 100,000 characters. Never raises."""
    try:
        text = "".join(traceback.format_exception(error))
    except Exception as failure:
        text = f"{type(error).__name__}, of which no traceback can be had: {failure!r}\n"
    if len(text) > _MAX_READ:
        half = _MAX_READ // 2
        text = f"{text[:half]}\n... {len(text) - 2 * half} characters more ...\n{text[-half:]}"
    say_lines(text)


def say(line: str) -> None:
    """Write a line to the log. Never raises."""
    say_lines(f"{as_line(line)}\n")


def say_lines(text: str) -> None:
    """Write to the log, even if the trainer has replaced standard error. Never raises.

    All of the runner's own output goes through here: quoted text is escaped, so it cannot affect
    the reader's terminal. The trainer's own output is not escaped.
    """
    text = as_lines(text)
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        with contextlib.suppress(OSError):
            os.write(2, text.encode("utf-8", "backslashreplace"))


def _describe_group(error: BaseExceptionGroup, path: Path) -> str:
    parts = list(_leaves(error))
    told = [describe(part, path) for part in parts[:_MAX_PARTS]]
    more = f"; {len(parts) - _MAX_PARTS} more" if len(parts) > _MAX_PARTS else ""
    return f"{type(error).__name__} ({_one_line(error.message)}): {'; '.join(told)}{more}"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if isinstance(one, BaseExceptionGroup):
            waiting.extend(reversed(one.exceptions))
        else:
            yield one


def _read_message(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return str(error.msg)
    try:
        return str(error)[:_MAX_READ]
    except BaseException as failure:
        return f"its message cannot be read ({type(failure).__name__})"


def _read_remote(error: BaseException) -> str:
    """Return the traceback of a process pool's worker, which the pool attaches as the cause."""
    cause = error.__cause__
    if type(cause).__name__ not in ("RemoteTraceback", "_RemoteTraceback"):
        return ""
    return _read_message(cause)[:_MAX_READ] if cause is not None else ""


def _split_quotation(said: str) -> tuple[str, str]:
    """Split a message that quotes a traceback, as those of data loaders do: the last line of the
    quoted error, and the quotation.
    """
    before, found, quoted = said.partition(_QUOTED)
    if not found:
        return said, ""
    lines = [line for line in quoted.splitlines() if line.strip(' "')]
    last = next((line for line in reversed(lines) if not line.startswith(" ")), "")
    return last or before, quoted


def _one_line(text: str) -> str:
    """Make text readable in a terminal and in a status, whatever it contains."""
    line = as_line(" ".join(text.split()))
    return line if len(line) <= _MAX_LENGTH else line[: _MAX_LENGTH - 3] + "..."


def _walk(frame: FrameType) -> Iterator[tuple[FrameType, int]]:
    """Yield frames from the outermost to the innermost."""
    return iter(list(traceback.walk_stack(frame))[::-1])


def _list_places(error: BaseException) -> list[Place]:
    places: list[Place] = [
        (f.f_code.co_filename, line) for f, line in traceback.walk_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError) and error.filename is not None:
        places.append((error.filename, error.lineno))
    return places


def _find_own_place(quoted: str, path: Path) -> str | None:
    places = [(found["file"], int(found["line"])) for found in _QUOTED_PLACE.finditer(quoted)]
    return next((own for place in reversed(places) if (own := _own_place(place, path))), None)


def _find_place(places: Iterable[Place], path: Path) -> str | None:
    places = list(places)
    for place in reversed(places):
        if (own := _own_place(place, path)) is not None:
            return own
    for filename, line in reversed(places):
        if _is_own(filename) and not filename.startswith("<"):
            return f"{Path(filename).name}:{line}"
    for filename, line in places:
        if not filename.startswith(("<", _RUNNER)):
            return f"{Path(filename).name}:{line}"
    return None


def _own_place(place: Place, path: Path) -> str | None:
    """Return the place relative to the trainer's folder; None if it is not in it."""
    filename, line = place
    relative = _find_below(Path(filename), path)
    return f"{relative}:{line}" if relative is not None and _is_own(filename) else None


def _find_below(file: Path, folder: Path) -> Path | None:
    """Return the file's path in the folder, preferably under the name of the import: the files
    of a ConfigMap are links to others, whose names mean nothing to users.
    """
    if not file.is_absolute():
        return None
    for found, root in ((file, folder.absolute()), (file.resolve(), folder.resolve())):
        if found.is_relative_to(root):
            return found.relative_to(root)
    return None


def _is_own(filename: str) -> bool:
    """Return whether a file is neither the runner's nor an installed library's."""
    return not filename.startswith((*_LIBRARIES, _RUNNER))
