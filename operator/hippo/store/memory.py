"""Memory available to this process."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Files with the container's limit, for control groups of version 2 and 1."""


@cache
def find_memory() -> int:
    """Returns the bytes of memory of the machine, or of the container if it is limited to less."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            found = min(found, int(Path(path).read_text()))
    return found
