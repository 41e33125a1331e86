"""How a benchmark is called, and how it leaves its figures."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

Document = dict[str, Any]


class Measure(Protocol):
    def __call__(self, *, quick: bool) -> Document: ...


def build_parser(description: str | None) -> argparse.ArgumentParser:
    """``--output``; ``description``: a module's docstring, of which the first line is taken."""
    parser = argparse.ArgumentParser(description=str(description).splitlines()[0])
    parser.add_argument("--output", type=Path, metavar="FILE", help="write all figures, as JSON")
    return parser


def leave(document: Document, table: str, output: Path | None) -> None:
    """Print the table; write the document, if that was asked for."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(document, indent=1) + "\n")
    print(table)


def run(
    description: str | None, measure: Measure, table: Callable[[Document], str], *, quick: str
) -> None:
    """A benchmark without options of its own; ``quick``: what is left of it with ``--quick``."""
    parser = build_parser(description)
    parser.add_argument("--quick", action="store_true", help=quick)
    options = parser.parse_args()
    document = measure(quick=options.quick)
    leave(document, table(document), options.output)
