"""The three systems: how each is started, and how its result is read."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.measuring import Measured, measure
from benchmarks.side_by_side.studies import Work
from hippo.model import canonical_json

ROOT = Path(__file__).resolve().parents[2]

Metrics = dict[str, dict[str, float | None]]
"""By configuration: its study and its hyper-parameters."""


class System(StrEnum):
    HIPPO = "hippo"
    NO_MERGE = "hippo --no-merge"
    RAY = "ray tune"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one run of one system."""

    measured: Measured
    metrics: Metrics
    steps_trained: int
    worker_seconds: float
    worker_processes: int | None  # of Ray's; more than workers if actors were not reused


def run(system: System, work: Work, workers: int, folder: Path) -> Outcome:
    """Train it with nothing stored before, in a folder that is not there yet."""
    files = work.write(folder)
    measured = measure(
        [sys.executable, *_arguments(system, files, workers, folder)],
        ready=re.compile(rb"^ready$" if system is System.RAY else rb"steps requested", re.M),
        is_service=_is_ray_service,
        environment=_environment(folder) if system is System.RAY else {},
        log=folder / "stderr.log",
    )
    result = json.loads(measured.output)
    return Outcome(
        measured=measured,
        metrics=read_metrics(result),
        steps_trained=result["stepsTrained"],
        worker_seconds=result["workerSeconds"],
        worker_processes=result.get("workerProcesses"),
    )


def read_metrics(result: dict[str, Any]) -> Metrics:
    """From what a system printed; JSON keeps every bit of a float."""
    return {
        f"{trial['study']}: {canonical_json(trial['hyperparameters'])}": trial["metrics"]
        for trial in result["trials"]
    }


def _arguments(system: System, files: list[Path], workers: int, folder: Path) -> list[str]:
    studies = [*map(str, files), "--workers", str(workers)]
    if system is System.RAY:
        return ["-m", "benchmarks.side_by_side.ray_program", *studies, "--folder", str(folder)]
    hippo = ["-c", "from hippo.cli import main; main()", "run", *studies]
    hippo += ["--store", str(folder / "store"), "-o", "json"]
    return [*hippo, "--no-merge"] if system is System.NO_MERGE else hippo


def _environment(folder: Path) -> dict[str, str]:
    """Ray at its best, with nothing in it that is not needed; and as quiet."""
    return {
        "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
        "RAY_preload_python_modules": f"{__package__}.warmth",
        "SIDE_BY_SIDE_FOLDER": str(folder),
        "RAY_idle_worker_killing_time_threshold_ms": "3600000",  # warm ones wait for their actors
        "RAY_worker_niceness": "0",  # 15 by default; Hippo's workers are not nice
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # then it keeps to loopback, on Linux too
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a GPU stays visible, as it does to Hippo
        "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
        "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    }


def _is_ray_service(arguments: list[str]) -> bool:
    """Daemons of Ray's: neither the program nor a worker."""
    head = arguments[:3]
    return any("/ray/" in part for part in head) and not any(
        part.endswith("default_worker.py") for part in head
    )
