"""Termination of a worker: exit statuses, and SIGTERM, after which it exits at the end of the step,
or in mid-step once the grace period is over.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import NoReturn

from hippo.protocol.reports import Outcome
from stage_runner.failures import print_traceback

EXIT_CODES = {
    Outcome.COMPLETED: 0,
    Outcome.STOPPED: 0,
    Outcome.PREEMPTED: 143,
    Outcome.FAILED: 1,
    Outcome.INVALID: 2,
    Outcome.REFUSED: 3,
    Outcome.CORRUPT: 3,
    Outcome.STORE: 74,
}


class Termination:
    """Watches for SIGTERM (or other given signals) in a thread.

    Python runs signal handlers only between byte codes, which a long kernel delays; so the C-level
    handler wakes the thread through a pipe. Must be constructed in the main thread.
    """

    def __init__(
        self,
        *,
        grace_seconds: float,
        on_expiry: Callable[[], None],
        signals: tuple[signal.Signals, ...] = (signal.SIGTERM,),
    ) -> None:
        self.asked = threading.Event()
        self._settled = threading.Event()
        self._grace_seconds = grace_seconds
        self._on_expiry = on_expiry
        self._numbers = frozenset(int(number) for number in signals)
        self._pipe, self._woken = os.pipe()
        os.set_blocking(self._woken, False)
        self._former_fd = signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, _do_nothing) for number in signals}
        threading.Thread(target=self._watch, name="termination", daemon=True).start()

    def renew(self) -> None:
        """Handle the signals again, in case a library replaced the handlers. Call it in the main
        thread.
        """
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        for number in self._former:
            signal.signal(number, _do_nothing)

    def settle(self) -> None:
        """Cancel the grace period: the step has ended in time."""
        self._settled.set()

    def close(self) -> None:
        """Restore the former signal handlers."""
        self._settled.set()
        signal.set_wakeup_fd(self._former_fd)
        for number, handler in self._former.items():
            signal.signal(number, handler)
        os.close(self._woken)

    def _watch(self) -> None:
        while not self._numbers.intersection(numbers := os.read(self._pipe, 64)):
            if not numbers:  # closed
                os.close(self._pipe)
                return
        self.asked.set()
        if not self._settled.wait(self._grace_seconds):
            self._on_expiry()


def _do_nothing(_number: int, _frame: object) -> None:
    """A handler, without which Python does not write to the wake-up pipe."""


def exit_fork(error: BaseException | None) -> NoReturn:
    """Exit a process that the trainer has forked, which is not a worker."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        print_traceback(error)
        status = 1
    os._exit(status & 0xFF)
