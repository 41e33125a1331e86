"""Imported by a worker process of Ray's when it starts, before it has anything to do.

A task would warm it too, but Ray gives no actor to a process that has run a task.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path

FOLDER = Path(os.environ["SIDE_BY_SIDE_FOLDER"])

(FOLDER / f"started-{os.getpid()}").touch()
for module in ("trainer", f"{__package__}.trainable"):
    importlib.import_module(module)
(FOLDER / f"warm-{os.getpid()}").touch()
