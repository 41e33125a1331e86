"""The local driver: worker processes on this machine, and a store."""

from hippo.driving.results import build_result
from hippo.driving.sessions import LocatedStudy, Session
from hippo.local.driver import LocalDriver, Observer, RunOptions, RunStopped
from hippo.local.workers import WorkersFailed

__all__ = [
    "LocalDriver",
    "LocatedStudy",
    "Observer",
    "RunOptions",
    "RunStopped",
    "Session",
    "WorkersFailed",
    "build_result",
]
