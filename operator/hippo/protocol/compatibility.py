"""Reports that the Hippo of a worker is incompatible with that of its driver.

The worker exits before it begins, with a dedicated status and a marked last line in its log. Older
runners exit with 2, as a trainer may do too, and are recognised by their message.
"""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

EXIT_INCOMPATIBLE = 76
"""Exit status: EX_PROTOCOL of sysexits.h."""
MARK = "hippo-incompatible: "

_OLD_MESSAGE = re.compile(
    r"--assignment[ :].+|python3? -m stage_runner.*: error: (argument|unrecognized|the following).+"
)
_MISSING_MODULE = re.compile(
    r"(\S*python[\d.]*: )(?P<runner>No module named .?stage_runner\b.*)"
    r"|ModuleNotFoundError: (?P<module>No module named .?(hippo|stage_runner)\b.*)"
    r"|ImportError: (?P<name>cannot import name .+ from '(hippo|stage_runner)\b.*)"
)


def own_version() -> str | None:
    """Returns the version of this Hippo; None if it runs from sources without being installed."""
    try:
        return version("hippo-tuner")
    except PackageNotFoundError:
        return None


def find_incompatibility(code: int | None, last_line: str) -> str | None:
    """Returns why a worker found its Hippo incompatible; None if it ended otherwise.

    ``last_line`` is the last line of its log.
    """
    line = last_line.strip()
    if code == EXIT_INCOMPATIBLE and line.startswith(MARK):
        return line.removeprefix(MARK)
    if code == 2 and _OLD_MESSAGE.fullmatch(line):
        return line.partition(": build the trainer's image")[0]
    missing = _MISSING_MODULE.fullmatch(line) if code == 1 else None
    if missing is None:
        return None
    return missing["runner"] or missing["module"] or missing["name"]
