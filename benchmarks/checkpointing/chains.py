"""One chain with saves, beside the same one without."""

from __future__ import annotations

import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hippo.protocol.assignments import Assignment, Route, TrainerCall
from hippo.protocol.reports import Began, CheckpointSaved, Ended, Outcome
from hippo.store import PlanStore, open_blobs

Document = dict[str, Any]


@dataclass(frozen=True)
class Course:
    """What is trained: so many steps, with a save after every few of them."""

    name: str
    trainer: TrainerCall
    path: Path
    hyperparameters: dict[str, Any]
    steps: int
    save_every: int  # steps


def run_chain(course: Course, store: str, *, saves: bool) -> Document:
    """What a worker of its own reports, in a plan of its own."""
    between_saves = range(course.save_every, course.steps, course.save_every)
    assignment = Assignment(
        chain="chain",
        signature="0" * 64,
        trainer=course.trainer,
        route=Route(
            hyperparameters=course.hyperparameters,
            steps=course.steps,
            stop_at=course.steps,
            save_at=tuple(between_saves) if saves else (),
            save_at_stop=saves,
        ),
        save_every_seconds=None,
    )
    plan = PlanStore(open_blobs(store), f"default/{uuid.uuid4().hex[:16]}")
    command = [sys.executable, "-m", "stage_runner", "run", "--assignment", "-"]
    command += ["--store", store, "--plan", plan.plan, "--path", str(course.path)]
    began = time.perf_counter()
    subprocess.run(command, input=assignment.model_dump_json(), text=True, check=True)
    wall = time.perf_counter() - began
    first, *between, last = plan.read_reports(assignment.chain)
    if not isinstance(first, Began) or not isinstance(last, Ended):
        raise SystemExit(f"the chain left {[r.kind for r in (first, *between, last)]}")
    if last.outcome is not Outcome.COMPLETED:
        raise SystemExit(f"the chain has {last.outcome}: {last.error}")
    saved = [report for report in between if isinstance(report, CheckpointSaved)]
    found = {
        "steps": last.trained,
        "trainSeconds": last.train_seconds,
        "loopSeconds": last.worker_seconds - first.worker_seconds,
        "afterSeconds": wall - last.worker_seconds,
        "size": max((report.size for report in saved), default=0),
        "copySeconds": [report.copy_seconds for report in saved],
        "writeSeconds": [report.write_seconds for report in saved],
    }
    plan.remove()
    return found


def compare(course: Course, stores: dict[str, str], repetitions: int) -> Document:
    """Runs by store, in turns; ``none``: without saves."""
    runs: dict[str, list[Document]] = {name: [] for name in ("none", *stores)}
    for number in range(repetitions):
        print(f"{course.name}, repetition {number + 1} ...", file=sys.stderr, flush=True)
        runs["none"].append(run_chain(course, next(iter(stores.values())), saves=False))
        for name, url in stores.items():
            runs[name].append(run_chain(course, url, saves=True))
    return {
        "name": course.name,
        "steps": course.steps,
        "saveEvery": course.save_every,
        "runs": runs,
    }
