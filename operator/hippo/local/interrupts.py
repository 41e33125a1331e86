"""Ctrl-C, SIGTERM and a closed terminal: the first signal stops a run cleanly, the second at
once.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType

from hippo.local.options import RunStopped
from hippo.session.stalls import describe_span

LEAVE_SECONDS = 5.0
"""After a second Ctrl-C, the run waits this long for its workers to be gone."""
INTERRUPTS_HEEDED = 2
MOST_NAMED = 3
"""Chains in one message."""
AT_ONCE = "stopped at once: steps since the last checkpoints are lost, run again to go on"


@dataclass(slots=True)
class Interrupts:
    """Signals to one run, and their consequences. Before :meth:`begin`, a signal ends the run."""

    count: int = 0
    heeded: int = 0
    leave_by: float = math.inf  # by the driver's clock; after a second signal
    given_up: list[str] = field(default_factory=list)
    """Chains that were told to stop and could not save."""
    _is_starting: bool = field(init=False, default=True)

    def begin(self) -> None:
        """Mark that training begins: from now on there is something to save."""
        self._is_starting = False

    def take(self) -> int | None:
        """Return the number, from 1 on, of the next unhandled signal; None if there is none."""
        if self.heeded >= self.count:
            return None
        self.heeded += 1
        return self.heeded

    def explain(self) -> str | None:
        """Return the message at the end of an interrupted run; None if it was not interrupted."""
        if self.heeded > 1:
            return AT_ONCE
        if self.count and self.given_up:
            names = ", ".join(self.given_up[:MOST_NAMED])
            more = len(self.given_up) - MOST_NAMED
            return (
                f"stopped; {names}{f' and {more} more' if more > 0 else ''} could not save in time:"
                " steps since the last checkpoints are lost, run again to go on"
            )
        return "stopped; everything is saved, run again to go on" if self.count else None

    @contextlib.contextmanager
    def handle_signals(self) -> Iterator[None]:
        """Replace the process's own handlers while the block runs; only in the main thread."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self._is_starting:  # nothing to save yet
            self._is_starting = False
            raise RunStopped("stopped before training began; run again to go on")
        if self.count > INTERRUPTS_HEEDED:  # the loop hangs; the store is consistent anyway
            raise RunStopped(AT_ONCE)


def describe_stopping(chains: int, grace: float) -> str:
    """Describe how long a clean stop may take, and what a second signal does. ``grace``: the
    longest grace period, in seconds, of the running chains.
    """
    if not chains:
        return "stopping"
    workers = "the worker saves at the end of its step and leaves"
    if chains > 1:
        workers = f"{chains} workers save at the end of their step and leave"
    return (
        f"stopping: {workers}; a step that lasts for more than {describe_span(grace)} from now is"
        " given up. Ctrl-C again leaves at once: steps since the last checkpoints are then lost"
    )
