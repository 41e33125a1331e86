"""Output of every command: results to standard output, messages to standard error.

All untrusted text passes through this module, which escapes anything that would affect a terminal,
forge a line or be invisible (``hippo.model.foreign``). No other module writes to a stream, which a
test checks. The streams themselves are guarded as well, for the output of libraries. Characters
that a stream's encoding lacks are replaced by similar ones, or by their escapes.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import os
import sys
from collections.abc import Iterable
from enum import Enum
from itertools import accumulate
from typing import Annotated, Any, TextIO, cast

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Span, Text

from hippo.model.foreign import as_line, as_lines, hide_keys
from hippo.model.words import on_one_line

PIPE_WIDTH = 120
MIN_WIDTH = 20
_SPACE = "\N{NO-BREAK SPACE}"

_LIKE = {"━": "=", "→": ">", "±": "~", "…": "...", "–": "-", "’": "'"}
"""Drawn characters, and their replacements for encodings that lack them."""


class Output(Enum):
    """How results are written to standard output."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How results are written to standard output.")
]


def prepare_streams() -> None:
    """Make standard output and error accept any text; discard what is written to closed ones."""
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
        elif type(stream) is io.TextIOWrapper:
            guarded = _Guarded(
                stream.detach(),
                encoding=stream.encoding,
                errors="hippo",
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, guarded)
            setattr(sys, f"__{name}__", guarded)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="hippo")


class _Guarded(io.TextIOWrapper):
    """A stream that escapes control characters. It does not hide keys in URLs: callers do, since
    JSON keeps them.
    """

    def write(self, text: str) -> int:
        self.write_rendered(_spell_lines(text))
        return len(text)

    def write_rendered(self, text: str) -> None:
        """Write output of a console, whose escapes are its own."""
        super().write(text)


def _spell_lines(text: str) -> str:
    return "\n".join(on_one_line(line, but="\t") for line in text.split("\n"))


class _Rendered:
    """A stream as a console sees it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.write = stream.write_rendered if isinstance(stream, _Guarded) else stream.write

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    characters = error.object[error.start : error.end]
    text = "".join(_LIKE.get(one) or _escape(one) for one in characters)
    return text, error.end


def _escape(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode("ascii")


class _Console(Console):
    """Prints text without interpreting markup, and with control characters escaped."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Guard every printed text before it is broken into lines."""
        if isinstance(renderable, str):
            renderable = Text(renderable)
        if isinstance(renderable, Text):
            renderable = _guard(renderable)
        return super().render(renderable, options)

    def on_broken_pipe(self) -> None:
        """Re-raise; Rich would end the process, even if only progress output is lost."""
        raise  # the BrokenPipeError that is being handled


def _guard(text: Text) -> Text:
    """Return the text on one line, with its styles."""
    spelled = on_one_line(text.plain, _SPACE)
    told = hide_keys(spelled)
    if told == text.plain:
        return text
    guarded = text.blank_copy(told)
    if told == spelled:  # else styles have lost their places
        lengths = (len(on_one_line(char, _SPACE)) for char in text.plain)
        at = list(accumulate(lengths, initial=0))
        guarded.spans = [Span(at[a], at[min(b, len(text))], style) for a, b, style in text.spans]
    return guarded


def open_console(*, stderr: bool = False) -> Console:
    """Open a console as wide as COLUMNS or the terminal; else wide enough for a table row."""
    stream = sys.stderr if stderr else sys.stdout
    return _Console(
        file=cast(TextIO, _Rendered(stream)),
        width=_find_width(stream),
        markup=False,
        emoji=False,
        highlight=False,
    )


def is_live(console: Console) -> bool:
    """Return whether lines can be redrawn: FORCE_COLOR does not make a file a terminal."""
    return console.file.isatty() and console.is_terminal and not console.is_dumb_terminal


def _find_width(stream: TextIO) -> int | None:
    """Return the width that COLUMNS sets; None: the terminal's."""
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
    print_lines("\n")


def print_lines(text: str) -> None:
    """Write results that are not a table."""
    sys.stdout.write(text)
    sys.stdout.flush()  # raises here if the disk is full


def complain(line: str) -> None:
    """Write one line to standard error."""
    with contextlib.suppress(OSError):  # standard error is closed
        sys.stderr.write(f"hippo: {as_line(line)}\n")


class LogOutput:
    """Writes the output of trainers to standard output.

    A file or a pipe gets it byte for byte. On a terminal it is escaped, since escape sequences from
    a trainer, or from anyone who can write to its log, could rewrite the screen or simulate input.
    So a terminal shows no colours, and a line for each state of a progress bar; ``| cat`` shows
    both unchanged.
    """

    def __init__(self) -> None:
        self.is_terminal = sys.stdout.isatty()
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def write(self, data: bytes) -> None:
        if self.is_terminal:
            text = self._decoder.decode(data)
            print_lines(as_lines(text.replace("\r\n", "\n").replace("\r", "\n")))
        else:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()


def log_heading(name: str) -> bytes:
    """Return the line above a log, with the name of its worker or pod."""
    return f"==> {as_line(name)} <==\n".encode()
