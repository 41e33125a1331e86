"""The local driver: worker processes on this machine, and a store."""

from hippo.local.driver import LocalDriver
from hippo.local.options import Observer, RunOptions, RunStopped
from hippo.local.study_files import LocatedStudy
from hippo.local.worker_server import WorkersFailed
from hippo.session.session import Session
from hippo.views.results import build_result

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
