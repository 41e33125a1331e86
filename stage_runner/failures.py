"""What went wrong, in one line that leads the user to the place in their own code."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path

_MAX_LENGTH = 300  # characters of the message
_LIBRARIES = tuple(
    str(Path(sysconfig.get_path(name))) for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_RUNNER = str(Path(__file__).parent)


def describe(error: BaseException, path: Path) -> str:
    """``ValueError: batch too large (trainer.py:31)``: the innermost frame below ``path``.

    Without one, the innermost frame outside of installed libraries; without one, the outermost that
    is not the runner's.
    """
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    message = " ".join(said.split())
    if len(message) > _MAX_LENGTH:
        message = message[: _MAX_LENGTH - 3] + "..."
    place = _find_place(error, path)
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return f"{text} ({place})" if place else text


def _find_place(error: BaseException, path: Path) -> str | None:
    places = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        places.append((error.filename, error.lineno))
    for filename, line in reversed(places):
        relative = _find_below(Path(filename), path)
        if relative is not None and _is_own(filename):
            return f"{relative}:{line}"
    for filename, line in reversed(places):
        if _is_own(filename) and not filename.startswith("<"):
            return f"{Path(filename).name}:{line}"
    for filename, line in places:
        if not filename.startswith(("<", _RUNNER)):
            return f"{Path(filename).name}:{line}"
    return None


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
