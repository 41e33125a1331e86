"""Studies by ``hippo run``: what their workers reported of training, saving and loading."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from hippo.protocol.reports import Began, CheckpointSaved, Ended
from hippo.store import PlanStore, list_plans, open_blobs

Document = dict[str, Any]


def run_study(study: Document, trainer: Path, store: str, *, workers: int) -> Document:
    """Train a study whose trainer is this file, in a folder of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / trainer.name).write_bytes(trainer.read_bytes())
        (folder / "study.json").write_text(json.dumps(study))
        url = f"{store}/{study['metadata']['name']}"
        hippo = str(Path(sys.executable).with_name("hippo"))
        command = [hippo, "run", "study.json", "-o", "json"]
        command += ["--store", url, "--workers", str(workers)]
        began = time.perf_counter()
        ran = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
        wall = time.perf_counter() - began
    blobs = open_blobs(url)
    (path,) = list_plans(blobs)
    chains = PlanStore(blobs, path).load().reports
    reports = [report for chain in chains.values() for report in chain]
    saved = [report for report in reports if isinstance(report, CheckpointSaved)]
    PlanStore(blobs, path).remove()
    return {
        "wallSeconds": wall,
        "stepsTrained": json.loads(ran.stdout)["stepsTrained"],
        "chains": len(chains),
        "trainSeconds": sum(r.train_seconds for r in reports if isinstance(r, Ended)),
        "loadSeconds": [r.load_seconds for r in reports if isinstance(r, Began) and r.step],
        "size": max(report.size for report in saved),
        "copySeconds": [report.copy_seconds for report in saved],
        "writeSeconds": [report.write_seconds for report in saved],
    }
