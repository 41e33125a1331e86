"""The operator's clock jumps, for it alone: by libfaketime, as its time is asked for."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from tests.builds import Impossible, say
from tests.chaos.run import Run
from tests.cluster.commands import CommandFailed
from tests.cluster.commands import run as execute

_LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1",)


def find_library() -> Path:
    """Installed if need be. Raises Impossible."""
    if not (found := _find()):
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            raise Impossible("clock jumps need libfaketime: install the package libfaketime")
        say("installing libfaketime")
        try:
            command = ["apt-get", "install", "-y", "--no-install-recommends", "libfaketime"]
            execute(["env", "DEBIAN_FRONTEND=noninteractive", *command])
        except CommandFailed as error:
            raise Impossible(f"clock jumps need libfaketime: {error}") from error
        found = _find()
    return found[0]


def _find() -> list[Path]:
    return [path for pattern in _LIBRARIES for path in Path("/").glob(pattern.lstrip("/"))]


class Clock:
    """Of processes with its ``environment``. Time since boot stays as it is."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(find_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
        }

    def set(self, seconds: float) -> None:
        """So many ahead of the real one."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{seconds:+d}s\n" if seconds else "+0s\n")
        new.rename(self._file)


def jumps(run: Run) -> None:
    """By ten minutes, forth, back, and back again: less than a store minds."""
    clock = Clock(run.site.log.parent)
    run.begin(**clock.environment)
    for seconds in (600, -600, 0):
        run.wait_for_steps(20)
        clock.set(seconds)
        run.injected()


def far_ahead(run: Run) -> None:
    """By three hours: the store refuses all that it signs, until the clock is set right."""
    clock = Clock(run.site.log.parent)
    run.begin(**clock.environment)
    run.wait_for_steps(20)
    clock.set(3 * 3600)
    run.injected()
    time.sleep(20.0)
    clock.set(0)
