"""What went wrong, in one line that leads the user to the place in their own code."""

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
_MAX_READ = 100_000  # characters of a message that are looked at, and of a traceback in the log
_MAX_PARTS = 3  # of a group of exceptions, told one by one
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_RUNNER = str(Path(__file__).parent)
_QUOTED = "Traceback (most recent call last):"
_NAMES_ERROR = re.compile(r"[A-Za-z_][\w.]*(: |$)")
_QUOTED_PLACE = re.compile(r'^\s*File "(?P<file>[^"\n]+)", line (?P<line>\d+)', re.MULTILINE)

Place = tuple[str, int | None]
"""A file, as Python names it, and a line."""


def describe(error: BaseException, path: Path) -> str:
    """``ValueError: batch too large (trainer.py:31)``: the innermost frame below ``path``.

    Without one, the innermost frame outside of installed libraries; without one, the outermost that
    is not the runner's. What another process or several exceptions have said is told as they said
    it. Never raises, whatever the exception does.
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
    """Where a thread is: ``trainer.py:31, in step()``, and its stack below the runner's own calls,
    as Python prints it. Empty if there is no such thread.
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
    """To the log, at its full length unless that is absurd. Never raises."""
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
    """Write to the log, whatever the trainer has made of standard error. Never raises.

    All that the runner itself says goes through here: what it quotes of others does nothing to the
    terminal on which somebody reads the log. The trainer's own output is the trainer's.
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
    """The traceback of a process pool's worker, which such a pool sends along."""
    cause = error.__cause__
    if type(cause).__name__ not in ("RemoteTraceback", "_RemoteTraceback"):
        return ""
    return _read_message(cause)[:_MAX_READ] if cause is not None else ""


def _split_quotation(said: str) -> tuple[str, str]:
    """A message that quotes a traceback, as a data loader's does of its workers: what was said at
    the end of it, and the quotation.
    """
    before, found, quoted = said.partition(_QUOTED)
    if not found:
        return said, ""
    lines = [line for line in quoted.splitlines() if line.strip(' "')]
    last = next((line for line in reversed(lines) if not line.startswith(" ")), "")
    return last or before, quoted


def _one_line(text: str) -> str:
    """Readable in a terminal and in a status, whatever was in it."""
    line = as_line(" ".join(text.split()))
    return line if len(line) <= _MAX_LENGTH else line[: _MAX_LENGTH - 3] + "..."


def _walk(frame: FrameType) -> Iterator[tuple[FrameType, int]]:
    """From the outermost to the innermost."""
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
    """The place by the name that the trainer's folder gives it, if it lies there."""
    filename, line = place
    relative = _find_below(Path(filename), path)
    return f"{relative}:{line}" if relative is not None and _is_own(filename) else None


def _find_below(file: Path, folder: Path) -> Path | None:
    """The file's place in the folder, by the name it was imported under if that lies there: the
    files of a ConfigMap are links to others, whose names tell nothing.
    """
    if not file.is_absolute():
        return None
    for found, root in ((file, folder.absolute()), (file.resolve(), folder.resolve())):
        if found.is_relative_to(root):
            return found.relative_to(root)
    return None


def _is_own(filename: str) -> bool:
    """Whether this is neither the runner's nor an installed library's."""
    return not filename.startswith((*_LIBRARIES, _RUNNER))
