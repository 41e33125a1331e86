"""``hippo verify``: does a trainer keep the law that a stage is a pure function?"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from hippo.local import LocatedStudy, WorkersFailed
from hippo.model import Sequence, Study
from hippo.model.words import counted

CANDIDATES = 50
"""So many points of the space are looked at for one that changes soon."""

OBJECTIVE = "objective"
"""The check whether ``evaluate`` returns the metrics that the study names."""


def verify(located: LocatedStudy, steps: int) -> dict[str, Any]:
    """Runs the check in processes of its own; returns what they found. Raises WorkersFailed."""
    spec = located.study.spec
    steps = min(steps, spec.steps)
    point = choose_point(located.study, steps)
    request = {
        "trainer": {
            "entrypoint": spec.trainer.entrypoint,
            "config": spec.trainer.config,
            "seed": spec.trainer.seed,
            "threads": spec.trainer.threads,
        },
        "hyperparameters": point,
        "variants": choose_variants(located.study, point),
        "steps": spec.steps,
        "train_steps": steps,
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        command = [sys.executable, "-m", "stage_runner", "verify", "--study-json", str(path)]
        done = subprocess.run(
            [*command, "--path", str(located.folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        lines = done.stderr.strip().splitlines() or ["the check ended without a word"]
        raise WorkersFailed(lines[-1]) from None
    _look_for_objective(located.study, found)
    found["hyperparameters"] = request["hyperparameters"]
    found["steps"] = steps
    return found


def _look_for_objective(study: Study, found: dict[str, Any]) -> None:
    """An exact trainer is of no use to a study whose metrics it does not return."""
    objective, returned = study.spec.objective, found["metrics"]
    for metric in (objective.metric, objective.test_metric):
        if metric is None or returned is None or metric in returned:
            continue
        others = ", ".join(returned) or "nothing"
        detail = f"evaluate() returns no {metric!r} (it returns: {others})"
        found["checks"].append({"name": OBJECTIVE, "ok": False, "detail": detail})
        found["ok"] = False


def choose_point(study: Study, steps: int) -> dict[str, Any]:
    """The point, of the first few, whose values change most often within ``steps``."""
    space = study.search_space()
    count = CANDIDATES if space.size is None else min(CANDIDATES, space.size)
    best: tuple[int, dict[str, Any]] | None = None
    for index in range(count):
        point = space.sample(0, index)
        sequence = Sequence.of(point, study.spec.steps)
        changes = sum(sequence.values(t) != sequence.values(t - 1) for t in range(1, steps))
        if best is None or changes > best[0]:
            best = (changes, point)
    assert best is not None
    return best[1]


def choose_variants(study: Study, point: dict[str, Any]) -> dict[str, Any]:
    """For each hyper-parameter that varies another constant than it begins with.

    It is one with which, of the first few points, one begins or ends.
    """
    space = study.search_space()
    count = CANDIDATES if space.size is None else min(CANDIDATES, space.size)
    others = [space.sample(0, index) for index in range(count)]
    first = Sequence.of(point, study.spec.steps).values(0)
    found: dict[str, Any] = {}
    for other in (point, *others):
        sequence = Sequence.of(other, study.spec.steps)
        for step in (0, study.spec.steps - 1):
            for name, value in sequence.values(step).items():
                if value != first[name]:
                    found.setdefault(name, value)
    return found


def print_findings(console: Console, study: Study, found: dict[str, Any]) -> None:
    """A line a check, then the verdict."""
    steps = counted(found["steps"], "step")
    for check in found["checks"]:
        bad = "missing " if check["name"] == OBJECTIVE else "differs "
        mark = Text("ok    ", style="green") if check["ok"] else Text(bad, style="red")
        detail = f": {check['detail']}" if check.get("detail") else ""
        console.print(Text.assemble(mark, f"{check['name']}{detail}"), soft_wrap=True)
    for name in found.get("unused", ()):
        detail = f"{name} changed nothing over {steps}: does the trainer read it?"
        console.print(Text.assemble(("warning ", "yellow"), detail), soft_wrap=True)
    if found["checkpoint_bytes"]:
        console.print(
            f"{found['seconds_per_step']:.3g} s a step, {found['save_seconds']:.3g} s a save,"
            f" {found['checkpoint_bytes']:,} bytes a checkpoint",
            highlight=False,
        )
    entrypoint = study.spec.trainer.entrypoint
    failed = [check["name"] for check in found["checks"] if not check["ok"]]
    if not failed:
        console.print(f"{entrypoint} is exact over {steps}", highlight=False)
    elif set(failed) == {OBJECTIVE}:
        verdict = f"{entrypoint} is exact, but does not suit the study's objective"
        console.print(Text(verdict, style="red"))
    elif not any(check["ok"] for check in found["checks"]):
        console.print(Text(f"{entrypoint} does not train at all", style="red"))
    else:
        console.print(
            Text(
                f"{entrypoint} is not exact: results through the stage tree"
                " would differ from training each trial alone",
                style="red",
            )
        )
