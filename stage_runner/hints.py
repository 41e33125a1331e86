"""Hints for whoever watches a worker from nearby: they may be lost, and nothing depends on them."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping

_ATOMIC = 4096  # bytes; a pipe takes this much at once or not at all (PIPE_BUF on Linux)


class Hints:
    """To nobody."""

    def reported(self) -> None:
        """A report was written."""

    def progressed(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """A step has ended; called a few times a second at most."""


class PipeHints(Hints):
    """As JSON lines into a pipe that is shared with other workers and never waited for."""

    def __init__(self, descriptor: int, chain: str) -> None:
        self._descriptor = descriptor
        self._chain = chain

    def reported(self) -> None:
        self._write({"poke": self._chain})

    def progressed(self, step: int, metrics: Mapping[str, float] | None) -> None:
        event: dict[str, object] = {"progress": self._chain, "step": step}
        try:
            shown = {str(name): float(value) for name, value in (metrics or {}).items()}
        except (TypeError, ValueError, AttributeError, OverflowError):
            shown = {}
        if not self._write({**event, "metrics": shown} if shown else event):
            self._write(event)

    def _write(self, event: dict[str, object]) -> bool:
        line = json.dumps(event).encode() + b"\n"
        if len(line) > _ATOMIC:
            return False
        try:
            os.write(self._descriptor, line)
        except OSError:  # full, or nobody is there: a hint is lost
            return True
        return True
