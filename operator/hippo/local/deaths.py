"""Describes in one line how a worker died without a report."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from hippo.local.worker_server import describe_exit
from hippo.protocol.compatibility import find_incompatibility
from hippo.session.crash_trace import find_crash, read_end
from hippo.session.stalls import describe_call


def find_version_trouble(code: int | None, log: Path) -> str | None:
    """Return how a worker's Hippo is incompatible with its driver's; None if it died otherwise."""
    lines = read_end(log).rstrip().splitlines()
    problem = find_incompatibility(code, lines[-1]) if lines else None
    if problem is None:
        return None
    return f"Hippo was upgraded meanwhile, and its workers do not fit this run: {problem}"


def describe_death(
    news: dict[str, Any], log: Path, folder: Path, *, logs: Path | None = None
) -> str:
    """How a worker ended. ``news``: the server's message of the exit; ``folder``: the trainer's;
    ``logs``: the folder of all logs.

    ``the worker was killed by SIGSEGV in step 3 (trainer.py:31, in step()); its log: ...``.
    """
    number, code = news.get("signal"), news.get("code")
    crash = find_crash(read_end(log, logs), folder)
    where = _describe_where(news, crash.place if crash is not None else "")
    if crash is not None and crash.is_timeout:
        at = f": it stands at {crash.place}" if crash.place else ""
        said = (
            f"{_name_call(news)} has not ended within trainer.stepTimeout{at}, in code that holds"
        )
        said += " Python's lock"
    elif number:
        said = f"the worker {describe_exit(-number)}{where}"
    elif code == 0:  # only os._exit() ends a process like that
        said = f"the trainer ended its process, with exit status 0 and no report{where}"
    else:
        said = f"the worker {describe_exit(code)} and no report{where}"
    if number == signal.SIGTERM:
        said += ": something else has told it to leave"
    return f"{said}; its log: {log}"


def _describe_where(news: dict[str, Any], place: str) -> str:
    if news.get("during", "start") in ("start", "store"):
        return f" ({place})" if place else ""
    return f" in {_name_call(news)}" + (f" ({place})" if place else "")


def _name_call(news: dict[str, Any]) -> str:
    during, step = news.get("during", "step"), news.get("step", 0)
    if during == "step":
        return f"step {step}"
    return f"{describe_call(during)} at step {step}" if step else describe_call(during)
