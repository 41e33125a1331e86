"""Python processes that the tests start, talk to line by line, and kill."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def start(source: str, *arguments: str, wrapper: Sequence[str] = ()) -> subprocess.Popen[str]:
    """Runs a script; ``wrapper`` is a command line to put before it."""
    return subprocess.Popen(
        [*wrapper, sys.executable, "-c", source, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def expect(process: subprocess.Popen[str], line: str) -> None:
    """Waits until the process prints this line, which must be its next one."""
    assert process.stdout is not None
    said = process.stdout.readline()
    if said != line + "\n":
        raise AssertionError(f"expected {line!r}: {said}{process.communicate()[0]}")


def run(source: str, *arguments: str, wrapper: Sequence[str] = ()) -> str:
    """Returns the output of a script, which must succeed."""
    with start(source, *arguments, wrapper=wrapper) as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0, output
    return output
