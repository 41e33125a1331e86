"""Watches the trainer's calls from a thread: logs calls that hang, and ends the worker if a call
exceeds the limit.

A call that never releases Python's lock (``while True`` in a C extension) stops this thread too.
Then a timer of ``faulthandler``, which needs no lock, writes the stacks to the log and ends the
process; the thread resets the timer as long as it runs.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from stage_runner.failures import describe, describe_thread, say, say_lines
from stage_runner.pulse import OF_TRAINER, Pulse, Standing

_LOOK_SECONDS = 1.0
_LOOKS_PER_LIMIT = 4
_LEAST_PAUSE = 0.01
_TOLD_AFTER_SECONDS = 120.0
_TOLD_AFTER_TIMES = 10.0  # multiple of the longest call of its kind so far
_MARGIN_SECONDS = 5.0  # lets the thread act before the timer does


class Watch:
    """Watches after ``start``. Must be constructed in the thread that trains."""

    def __init__(
        self,
        pulse: Pulse,
        *,
        path: Path,
        limit: float | None,  # maximum seconds of a call
        on_overdue: Callable[[Standing, str], None],  # one line; called once, from the thread
    ) -> None:
        self._pulse = pulse
        self._path = path
        self._limit = limit
        self._on_overdue = on_overdue
        self._trains = threading.get_ident()
        self._log = _find_log()
        self._closed = threading.Event()
        self._before = pulse.read()
        self._longest: dict[str, float] = {}
        self._tell_at = 0.0
        self._place_at = 0.0
        self._failed_threads: list[str] = []
        self._former_hook = threading.excepthook

    def start(self) -> None:
        threading.excepthook = self._note_failed_thread
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def close(self) -> None:
        self._closed.set()
        threading.excepthook = self._former_hook
        if self._limit is not None:
            faulthandler.cancel_dump_traceback_later()

    def _watch(self) -> None:
        pause = 0.0
        while not self._closed.wait(pause):
            if self._limit is not None:
                self._wind_up(self._limit)
            standing = self._pulse.read()
            seconds = time.perf_counter() - standing.since
            if self._limit is not None and seconds >= self._limit and _is_limited(standing):
                if self._end(standing, self._limit):
                    return
                seconds = 0.0
            self._look(standing, seconds)
            pause = self._pause(standing, seconds)

    def _pause(self, standing: Standing, seconds: float) -> float:
        if self._limit is None:
            return _LOOK_SECONDS
        pause = max(_LEAST_PAUSE, min(_LOOK_SECONDS, self._limit / _LOOKS_PER_LIMIT))
        if _is_limited(standing):
            pause = min(pause, max(0.0, self._limit - seconds))
        return pause

    def _wind_up(self, limit: float) -> None:
        """Reset the timer. If this thread does not run again, the call that blocks it began at most
        one pause from now.
        """
        seconds = limit + _LOOK_SECONDS + _MARGIN_SECONDS
        faulthandler.dump_traceback_later(seconds, exit=True, file=self._log)

    def _look(self, standing: Standing, seconds: float) -> None:
        """Record where a long call stands, and log it if it is unusually long."""
        if (standing.during, standing.since) != (self._before.during, self._before.since):
            if self._before.during == standing.during == "step":
                steps = max(1, standing.step - self._before.step)
                lasted = (standing.since - self._before.since) / steps
            else:
                lasted = standing.since - self._before.since
            kind = self._before.during
            self._longest[kind] = max(self._longest.get(kind, 0.0), lasted)
            self._place_at, self._before = _LOOK_SECONDS, standing
            longest = self._longest.get(standing.during, 0.0)
            self._tell_at = max(_TOLD_AFTER_SECONDS, _TOLD_AFTER_TIMES * longest)
        if standing.during not in OF_TRAINER | {"import"}:
            return
        if seconds >= self._place_at:
            self._place_at = 2 * seconds
            place, _ = describe_thread(self._trains, self._path)
            self._pulse.note_place(standing, place)
        if seconds >= self._tell_at:
            self._tell_at = 2 * seconds
            place, _ = describe_thread(self._trains, self._path)
            at = f": {place}" if place else ""
            say(f"{_name(standing)} has not ended for {seconds:.0f} s{at}")

    def _end(self, standing: Standing, limit: float) -> bool:
        """End the worker unless the call has ended meanwhile. Returns whether it was ended."""
        place, stack = describe_thread(self._trains, self._path)
        if self._pulse.read().since != standing.since:
            return False
        text = f"{_name(standing)} has not ended within trainer.stepTimeout ({limit:g} s)"
        if place:
            text += f": it stands at {place}"
        text += "".join(f"; before, {failed}" for failed in self._failed_threads[-1:])
        say_lines(f"{text}; its calls, the outermost first:\n{stack}")
        self._on_overdue(standing, text)
        return True

    def _note_failed_thread(self, failed: threading.ExceptHookArgs) -> None:
        """Remember the exception: a call that waits for a failed thread may wait for ever."""
        if failed.exc_value is not None and failed.exc_type is not SystemExit:
            name = failed.thread.name if failed.thread is not None else "?"
            said = describe(failed.exc_value, self._path)
            self._failed_threads.append(f"thread {name} ended with {said}")
        self._former_hook(failed)


def _find_log() -> int:
    try:
        return sys.stderr.fileno()
    except (OSError, ValueError, AttributeError):
        return 2


def _is_limited(standing: Standing) -> bool:
    return standing.during in OF_TRAINER


def _name(standing: Standing) -> str:
    match standing.during:
        case "step":
            return f"step {standing.step}"
        case "setup" | "evaluate":
            return (
                f"{standing.during}() at step {standing.step}"
                if standing.step
                else (f"{standing.during}()")
            )
        case "load":
            return f"load_state_dict() at step {standing.step}"
        case "save":
            return f"state_dict() at step {standing.step}"
        case during:
            return during
