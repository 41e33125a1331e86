"""How every command writes: results to standard output, messages to standard error."""

from __future__ import annotations

import json
import sys
from enum import Enum
from typing import Annotated, Any

import typer
from rich.console import Console

PIPE_WIDTH = 120


class Output(Enum):
    """How results are written to standard output."""

    TABLE = "table"
    JSON = "json"


OutputOption = Annotated[
    Output, typer.Option("--output", "-o", help="How results are written to standard output.")
]


def open_console(*, stderr: bool = False) -> Console:
    """As wide as the terminal; files and pipes get lines that hold a table row."""
    stream = sys.stderr if stderr else sys.stdout
    is_terminal = stream is not None and stream.isatty()  # None: it was closed
    return Console(stderr=stderr, width=None if is_terminal else PIPE_WIDTH)


def print_json(document: Any) -> None:
    json.dump(document, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")
    sys.stdout.flush()  # so that a full disk is told of here


def count(number: int, word: str) -> str:
    """``1 trial``, ``2 trials``."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
