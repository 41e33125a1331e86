"""How much memory this process may take."""

from __future__ import annotations

import contextlib
import os
from functools import cache
from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
"""Of the container: control groups of version 2 and 1."""


@cache
def find_memory() -> int:
    """Bytes that the machine has, or the container may take."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _LIMITS:
        with contextlib.suppress(OSError, ValueError):  # "max": no limit
            found = min(found, int(Path(path).read_text()))
    return found
