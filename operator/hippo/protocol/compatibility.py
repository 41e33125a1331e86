"""How a worker reports that its Hippo is incompatible with its driver's, which is no failure of its
trainer.

The worker exits before it begins, with a status of its own and a marked last line in its log.
Earlier runners exited with 2, as a trainer may as well, and are recognised by their message.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

EXIT_INCOMPATIBLE = 76
"""EX_PROTOCOL of sysexits.h."""
MARK = "hippo-incompatible: "

_SAID_BEFORE = re.compile(
    r"--assignment[ :].+|python3? -m stage_runner.*: error: (argument|unrecognized|the following).+"
)
_NOT_THERE = re.compile(
    r"(\S*python[\d.]*: )(?P<runner>No module named .?stage_runner\b.*)"
    r"|ModuleNotFoundError: (?P<module>No module named .?(hippo|stage_runner)\b.*)"
    r"|ImportError: (?P<name>cannot import name .+ from '(hippo|stage_runner)\b.*)"
)


def own_version() -> str | None:
    """Version of this Hippo; None if it runs from its sources without being installed."""
    try:
        return version("hippo-tuner")
    except PackageNotFoundError:
        return None


def find_incompatibility(code: int | None, last_line: str) -> str | None:
    """Why a worker that left no report found its Hippo incompatible; None if it ended for another
    reason. ``last_line``: the last line of its log.
    """
    line = last_line.strip()
    if code == EXIT_INCOMPATIBLE and line.startswith(MARK):
        return line.removeprefix(MARK)
    if code == 2 and _SAID_BEFORE.fullmatch(line):
        return line.partition(": build the trainer's image")[0]
    missing = _NOT_THERE.fullmatch(line) if code == 1 else None
    if missing is None:
        return None
    return missing["runner"] or missing["module"] or missing["name"]
