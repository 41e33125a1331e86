"""How every command writes: results to standard output, messages to standard error.

All consoles are made here. Whatever the encoding of a stream, all that is written gets there: what
the encoding lacks is replaced by something like it, or by its escape.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from enum import Enum
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

PIPE_WIDTH = 120
MIN_WIDTH = 20

_LIKE = {"━": "=", "→": ">", "±": "~", "…": "...", "–": "-", "’": "'"}
"""What is drawn, and what stands for it where the encoding has no such character."""


class Output(Enum):
    """How results are written to standard output."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How results are written to standard output.")
]


def prepare_streams() -> None:
    """Standard output and error take any text; what is written to closed ones goes nowhere."""
    codecs.register_error("hippo", _replace)
    for number in (0, 1, 2):  # a file opened later must not take the number of a closed stream
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="hippo")


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    text = "".join(_LIKE.get(one) or _escape(one) for one in characters)
    return text, error.end


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would end the process, also where only progress is told to nobody."""
        raise  # the BrokenPipeError that is being handled


def open_console(*, stderr: bool = False) -> Console:
    """As wide as COLUMNS says, or the terminal; else wide enough for a table row."""
    stream = sys.stderr if stderr else sys.stdout
    return _Console(file=stream, width=_find_width(stream))


def is_live(console: Console) -> bool:
    """Whether lines can be drawn again: FORCE_COLOR makes no terminal of a file."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


def _find_width(stream: TextIO) -> int | None:
    """None: the terminal's."""
    told = os.environ.get("COLUMNS", "").strip()
    if told.isdecimal() and told.isascii() and int(told[:6]) > 0:
        return max(MIN_WIDTH, int(told[:6]))
    if not stream.isatty():
        return PIPE_WIDTH
    with contextlib.suppress(OSError):
        columns = os.get_terminal_size(stream.fileno()).columns
        return max(MIN_WIDTH, columns) if columns else None
    return None


def print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()  # so that a full disk is told of here
