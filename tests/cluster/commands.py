"""Commands that must succeed."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path


class CommandFailed(RuntimeError):
    """The message holds the command and what it said."""


def run(
    command: Sequence[str | Path],
    *,
    input: str | None = None,
    check: bool = True,
    timeout: float = 600.0,
) -> str:
    """Its standard output."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired as error:
        raise CommandFailed(f"{' '.join(words)}: no end after {timeout:g} s") from error
    if check and done.returncode:
        said = "\n".join((done.stderr.strip() or done.stdout.strip()).splitlines()[-30:])
        raise CommandFailed(f"{' '.join(words)}: exit status {done.returncode}\n{said}")
    return done.stdout
