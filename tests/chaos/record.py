"""What campaigns have found so far, in one file: a campaign that was stopped goes on.

A row is one run of one fault: ``repetition`` counts from 1, ``code`` tells what it ran on. Rows on
other code give way once the same repetition has run on the present code. A run that went wrong is
tried again by the next call and stays on record all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.provenance import describe_commit, hash_code

Document = dict[str, Any]
PLACES = ("operator", "stage_runner", "tests/chaos", "tests/e2e/trainers")
"""What the verdicts depend on."""


@dataclass(slots=True)
class Record:
    """Kept in ``path`` (nowhere if None) after each run."""

    path: Path | None
    rows: list[Document]
    code: str
    commit: str

    @classmethod
    def open(cls, path: Path | None) -> Record:
        rows: list[Document] = []
        if path is not None and path.exists():
            rows = json.loads(path.read_text())["rows"]
        return cls(path, rows, hash_code(*PLACES), describe_commit())

    def missing(self, names: Sequence[str], times: int) -> list[tuple[str, int]]:
        """Runs that are still to be made: each fault once, then each twice, and so on."""
        done = {
            (row["fault"], row.get("repetition", 1))
            for row in self.rows
            if row.get("code") == self.code and not row["problems"]
        }
        wanted = [(name, number) for number in range(1, times + 1) for name in names]
        return [run for run in wanted if run not in done]

    def add(self, row: Document, repetition: int, machine: Document) -> Document:
        """Keep what one run has come to; returns its row."""
        made = {**row, "repetition": repetition, "code": self.code, "commit": self.commit}
        self.rows = [
            old
            for old in self.rows
            if (old["fault"], old.get("repetition", 1)) != (row["fault"], repetition)
            or old.get("code") == self.code
        ]
        self.rows.append(made)
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            document = {"command": "make chaos", "machine": machine, "rows": self.rows}
            partial = self.path.with_suffix(".partial")
            partial.write_text(json.dumps(document, indent=1) + "\n")
            os.replace(partial, self.path)
        return made
