"""What pieces have come to, one file each: only those that ran on the present code count."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.nightly.pieces import Piece
from tests.provenance import hash_code

Document = dict[str, Any]
PLACES = ("operator", "stage_runner", "tests", "pyproject.toml", "constraints.txt")


@dataclass(frozen=True, slots=True)
class Night:
    """Of one code and one seed."""

    folder: Path
    code: str
    seed: int

    @classmethod
    def open(cls, folder: Path, seed: int | None = None) -> Night:
        """The seed follows from the code: other code is searched elsewhere, and parts agree."""
        code = hash_code(*PLACES)
        return cls(folder, code, int(code[:8], 16) if seed is None else seed)

    def read(self, piece: Piece) -> Document | None:
        """What the piece has come to in this night."""
        try:
            found: Document = json.loads(self.file(piece).read_text())
        except FileNotFoundError:
            return None
        return found if (found["code"], found["seed"]) == (self.code, self.seed) else None

    def is_done(self, piece: Piece) -> bool:
        found = self.read(piece)
        return found is not None and found["passed"] is True

    def write(self, piece: Piece, outcome: Document) -> None:
        document = {"piece": piece.name, "code": self.code, "seed": self.seed, **outcome}
        partial = self.file(piece).with_suffix(".partial")
        partial.write_text(json.dumps(document, indent=1) + "\n")
        os.replace(partial, self.file(piece))

    def file(self, piece: Piece) -> Path:
        return self.folder / f"{piece.name}.json"
