"""Hints for whoever watches a worker from nearby: they may be lost, and nothing depends on them."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping

from hippo.store.records import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Report,
)

_ATOMIC = 4096  # bytes; a pipe takes this much at once or not at all (PIPE_BUF on Linux)


class Hints:
    """To nobody."""

    def reported(self, report: Report) -> None:
        """A report was written."""

    def progressed(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """A step has ended; called a few times a second at most."""


class LogHints(Hints):
    """As lines on standard error: the log of a worker that runs by itself, as in a pod."""

    def reported(self, report: Report) -> None:
        line = describe_report(report)
        if line:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {report.chain}: {line}\n")
            sys.stderr.flush()


def describe_report(report: Report) -> str:
    """One line for people; empty if there is nothing worth a line."""
    match report:
        case Began(step=step):
            where = f"from the checkpoint at step {step}" if step else "from nothing"
            times = f"set up in {report.start_seconds:.1f} s"
            if step:
                times += f", loaded in {report.load_seconds:.1f} s"
            device = report.fingerprint.get("device", "")
            return f"training begins {where}: {times}; device {device}"
        case CheckpointSaved():
            return f"step {report.step}: checkpoint of {report.size} bytes saved"
        case MetricsReported():
            told = ", ".join(f"{name} {value:g}" for name, value in report.metrics.items())
            return f"step {report.step}: {told}"
        case Arrived():
            return f"step {report.step}: the end of the route; waiting for another"
        case ControlAnswered():
            taken = "taken" if report.accepted else "refused: it came too late"
            return f"step {report.step}: a new route is {taken}"
        case Ended():
            trained = f"{report.trained} steps in {report.worker_seconds:.1f} s"
            return f"{report.outcome} at step {report.step}: {trained}"
    return ""


class PipeHints(Hints):
    """As JSON lines into a pipe that is shared with other workers and never waited for."""

    def __init__(self, descriptor: int, chain: str) -> None:
        self._descriptor = descriptor
        self._chain = chain

    def reported(self, report: Report) -> None:
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
