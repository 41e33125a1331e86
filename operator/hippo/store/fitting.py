"""How a worker says that its Hippo does not fit its driver's, which is no fault of its trainer's.

It ends with a status of its own and a marked line, the last of its log, before it has begun.
Earlier runners ended with 2, as a trainer may as well, and are told by what they said.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

EXIT_MISFIT = 76
"""EX_PROTOCOL of sysexits.h."""
MARK = "hippo-misfit: "

_SAID_BEFORE = re.compile(
    r"--assignment[ :].+|python3? -m stage_runner.*: error: (argument|unrecognized|the following).+"
)
_NOT_THERE = re.compile(
    r"(\S*python[\d.]*: )(?P<runner>No module named .?stage_runner\b.*)"
    r"|ModuleNotFoundError: (?P<module>No module named .?(hippo|stage_runner)\b.*)"
    r"|ImportError: (?P<name>cannot import name .+ from '(hippo|stage_runner)\b.*)"
)


def own_version() -> str | None:
    """Of the Hippo that runs here; None if it runs from its sources alone."""
    try:
        return version("hippo-tuner")
    except PackageNotFoundError:
        return None


def find_misfit(code: int | None, last_line: str) -> str | None:
    """What a worker that left no report said of a Hippo that does not fit; None if it ended for
    another reason. ``last_line``: of its log.
    """
    line = last_line.strip()
    if code == EXIT_MISFIT and line.startswith(MARK):
        return line.removeprefix(MARK)
    if code == 2 and _SAID_BEFORE.fullmatch(line):
        return line.partition(": build the trainer's image")[0]
    missing = _NOT_THERE.fullmatch(line) if code == 1 else None
    if missing is None:
        return None
    return missing["runner"] or missing["module"] or missing["name"]
