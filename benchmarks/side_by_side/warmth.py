"""Imported last by an idle worker process of Ray's, which so tells that it is warm.

A task would tell it too, but Ray gives no actor to a process that has run a task.
"""

from __future__ import annotations

import os
from pathlib import Path

Path(os.environ["SIDE_BY_SIDE_FOLDER"], f"warm-{os.getpid()}").touch()
