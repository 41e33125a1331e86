"""How many workers this machine has room for: one per GPU, or else one per core."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that workers may use; ``position`` counts within CUDA_VISIBLE_DEVICES."""

    position: int
    model: str  # "" if unknown


def find_gpus() -> list[Gpu]:
    """All GPUs that workers may use, found without importing torch."""
    listed = _ask_driver()
    restricted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if restricted is None:
        return [Gpu(position, model) for position, (_, _, model) in enumerate(listed)]
    names = [name.strip() for name in restricted.split(",")]
    models = [
        next((m for index, uuid, m in listed if name == index or uuid.startswith(name)), "")
        for name in names
        if name not in ("", "-1")
    ]
    return [Gpu(position, model) for position, model in enumerate(models)]


def find_equal_gpus() -> list[Gpu]:
    """Return the GPUs of the first one's model: other models give different last bits."""
    gpus = find_gpus()
    return [gpu for gpu in gpus if gpu.model == gpus[0].model]


def _ask_driver() -> list[tuple[str, str, str]]:
    """(index, UUID, model) of every GPU, in the order of the bus."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return []
    try:
        listing = subprocess.run(
            [tool, "--query-gpu=index,uuid,name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",", 2)] for line in listing.stdout.splitlines()]
    return [(row[0], row[1], row[2]) for row in rows if len(row) == 3]


def count_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_workers(threads: int, gpus: int) -> int:
    """GPUs if there are any, otherwise cores divided by the threads of a trainer; at least one."""
    return gpus or max(1, count_cores() // max(1, threads))
