"""A process's clock jumps, for it alone: by a library that is loaded before the C library."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from tests.builds import Impossible
from tests.chaos.run import Run
from tests.cluster.commands import run as execute

SOURCE = Path(__file__).with_name("clock.c")


class Clock:
    """Of processes with its ``environment``. Time since boot stays as it is."""

    def __init__(self, folder: Path) -> None:
        """Raises Impossible without a C compiler."""
        if shutil.which("cc") is None:
            raise Impossible("clock jumps need a C compiler: apt-get install gcc")
        library, self._file = folder / "clock.so", folder / "clock"
        execute(["cc", "-shared", "-fPIC", "-O2", "-o", library, SOURCE, "-ldl"])
        self.set(0)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_OFFSET": str(self._file)}

    def set(self, seconds: int) -> None:
        """So many ahead of the real one."""
        new = self._file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self._file)


def jumps(run: Run) -> None:
    """By ten minutes, forth, back, and right again: less than a store minds."""
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
