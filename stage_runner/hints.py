"""Hints for local observers of a worker. They may be lost, and nothing depends on them."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from itertools import islice

from hippo.model.words import counted
from hippo.protocol.reports import (
    Arrived,
    Began,
    CheckpointSaved,
    ControlAnswered,
    Ended,
    MetricsReported,
    Report,
)
from stage_runner.failures import say

STEP_LOG_SECONDS = 1.0
"""Minimum seconds between two log lines with the metrics of steps."""

MOST_TOLD = 100
"""Maximum number of metrics in a log line."""

_ATOMIC = 4096  # bytes; a pipe takes this much at once or not at all (PIPE_BUF on Linux)


class Hints:
    """Discards all hints; the base of other receivers."""

    def reported(self, report: Report) -> None:
        """Called when a report was written."""

    def progressed(self, step: int, metrics: Mapping[str, float] | None) -> None:
        """Called when a step has ended, a few times a second at most."""


class StepLog:
    """Logs the metrics that steps return; only some of them if steps are short."""

    def __init__(self, chain: str) -> None:
        self.chain = chain
        self._next = -math.inf

    def tell(self, step: int, metrics: Mapping[str, float]) -> None:
        now = time.monotonic()
        if metrics and now >= self._next:
            self._next = now + STEP_LOG_SECONDS
            told = [f"{name} {value:.5g}" for name, value in islice(metrics.items(), MOST_TOLD)]
            _log(self.chain, f"step {step}: {_listed(told, len(metrics))}")


class LogHints(Hints):
    """Writes lines to standard error: the log of a worker without a driver nearby, as in a pod."""

    def __init__(self) -> None:
        self._steps = StepLog("")

    def reported(self, report: Report) -> None:
        self._steps.chain = report.chain  # the first report comes before the first step
        line = describe_report(report)
        if line:
            _log(report.chain, line)

    def progressed(self, step: int, metrics: Mapping[str, float] | None) -> None:
        self._steps.tell(step, _as_numbers(metrics))


def _log(chain: str, line: str) -> None:
    say(f"{time.strftime('%H:%M:%S')} {chain}: {line}")


def _listed(told: list[str], count: int) -> str:
    return ", ".join(told) + (f", and {count - len(told)} more" if count > len(told) else "")


def _as_numbers(metrics: object) -> dict[str, float]:
    """Return a step's metrics as floats; empty if they are not numbers by name."""
    try:
        return {str(name): float(value) for name, value in dict(metrics or {}).items()}  # type: ignore[call-overload]
    except (TypeError, ValueError, AttributeError, OverflowError, RuntimeError):
        return {}


def describe_report(report: Report) -> str:
    """Describe a report in one line; empty if it needs none."""
    match report:
        case Began(step=step):
            where = f"from the checkpoint at step {step}" if step else "from nothing"
            times = f"set up in {report.start_seconds:.1f} s"
            if step:
                times += f", loaded in {report.load_seconds:.1f} s"
            device = report.fingerprint.get("device", "")
            return f"training begins {where}: {times}; device {device}"
        case CheckpointSaved():
            return f"step {report.step}: checkpoint of {counted(report.size, 'byte')} saved"
        case MetricsReported():
            metrics = report.metrics
            told = [f"{name} {value:g}" for name, value in islice(metrics.items(), MOST_TOLD)]
            return f"step {report.step}: {_listed(told, len(metrics))}"
        case Arrived():
            return f"step {report.step}: the end of the route; waiting for another"
        case ControlAnswered():
            taken = "taken" if report.accepted else "refused: it came too late"
            return f"step {report.step}: a new route is {taken}"
        case Ended():
            trained = f"{counted(report.trained, 'step')} in {report.worker_seconds:.1f} s"
            return f"{report.outcome} at step {report.step}: {trained}"
    return ""


class PipeHints(Hints):
    """Writes JSON lines into a pipe shared with other workers, without ever blocking."""

    def __init__(self, descriptor: int, chain: str) -> None:
        self._descriptor = descriptor
        self._chain = chain
        self._steps = StepLog(chain)

    def reported(self, report: Report) -> None:
        self._write({"poke": self._chain})

    def progressed(self, step: int, metrics: Mapping[str, float] | None) -> None:
        event: dict[str, object] = {"progress": self._chain, "step": step}
        shown = _as_numbers(metrics)
        self._steps.tell(step, shown)
        if not self._write({**event, "metrics": shown} if shown else event):
            self._write(event)

    def _write(self, event: dict[str, object]) -> bool:
        line = json.dumps(event).encode() + b"\n"
        if len(line) > _ATOMIC:
            return False
        try:
            os.write(self._descriptor, line)
        except OSError:  # the pipe is full or closed: a hint is lost
            return True
        return True
