"""Options of a run on this machine, its observer, and the error that ends it early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from hippo.engine import Engine
from hippo.protocol.decisions import Decision
from hippo.session.session import Session
from hippo.session.stalls import LEAST_SECONDS, Stall


class Observer(Protocol):
    """Watches a run: the command line, a notebook, a test."""

    def started(self, engine: Engine, session: Session) -> None: ...

    def updated(self, engine: Engine) -> None: ...

    def notified(self, message: str, study: str | None) -> None: ...

    def stalled(self, stalls: Sequence[Stall]) -> None: ...  # all of them, before each update


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of a run on this machine."""

    store: str  # path or URL
    logs: Path
    workers: int | None = None  # None: GPUs if there are any, otherwise cores
    merge: bool = True  # False: trial by trial, for comparison
    followed: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)
    """Decisions of another run that this one repeats, by study."""
    retry_failed: bool = False  # trials that failed in earlier runs are tried again
    stalled_after: float = LEAST_SECONDS  # shorter calls are never reported as stalled


class RunStopped(Exception):
    """The run ended before its studies did. The message is one line that says why."""
