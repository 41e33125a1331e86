"""``hippo verify``: checks that a trainer is exact, so that a stage is a pure function."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from hippo.cli.arguments import locate_studies
from hippo.cli.render.output import Output, OutputOption, open_console, print_json
from hippo.local import LocatedStudy, WorkersFailed
from hippo.model import Sequence, Study
from hippo.model.words import counted

CANDIDATES = 50
"""Number of points of the space among which one that changes early is chosen."""

FEWEST_STEPS = 3
MOST_STEPS = 100
"""Bounds of the steps trained without --steps. Within them, the changes of hyper-parameters and the
end of an epoch decide."""

MOST_COMPARED = 1000
"""Maximum number of steps by which points are compared."""

MOST_SECONDS = 20.0
"""Maximum seconds of training in each way without --steps."""

OBJECTIVE = "objective"
"""Name of the check that ``evaluate`` returns the metrics that the study names."""

MARKS = {
    "ok": ("ok      ", "green"),
    "differs": ("differs ", "red"),
    "failed": ("failed  ", "red"),
    "missing": ("missing ", "red"),
}
"""The word that introduces a check, and its style, by the check's outcome."""


def verify(
    study: Annotated[Path, typer.Argument(help="Study file (YAML), or -.", show_default=False)],
    steps: Annotated[
        int | None,
        typer.Option(
            min=2,
            help="Steps to train in each way. Default: up to 100, or 20 s, to meet every change"
            " of a hyper-parameter and the end of an epoch.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check that a trainer is exact, and reads the hyper-parameters that the study varies."""
    located = locate_studies([study])[0]
    found = check_trainer(located, steps)
    if output is Output.JSON:
        print_json(found)
    else:
        print_findings(open_console(), located.study, found)
    if not found["ok"]:
        raise typer.Exit(1)


def check_trainer(located: LocatedStudy, steps: int | None) -> dict[str, Any]:
    """Run the checks in separate processes and return the findings. Raises WorkersFailed.

    ``steps``: train exactly this many; None: as many as needed, within the bounds above.
    """
    spec = located.study.spec
    bound = min(steps or MOST_STEPS, spec.steps)
    point = choose_point(located.study, min(bound, MOST_COMPARED))
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
        "train_steps": bound if steps else count_steps(Sequence.of(point, spec.steps), bound),
        "most_steps": bound,
    }
    if not steps:
        request["most_seconds"] = MOST_SECONDS
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "request.json"
        path.write_text(json.dumps(request))
        command = [sys.executable, "-m", "stage_runner", "verify", "--study-json", str(path)]
        done = subprocess.run(
            [*command, "--path", str(located.folder)], capture_output=True, check=False
        )
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise WorkersFailed(_tell_end(done)) from None
    _look_for_objective(located.study, found)
    found["hyperparameters"] = request["hyperparameters"]
    return found


def _tell_end(done: subprocess.CompletedProcess[bytes]) -> str:
    """Describe the end of a check without a result; a trainer may write any bytes."""
    if done.returncode < 0:
        number = -done.returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        return f"the check was ended by {name} while it ran the trainer"
    lines = done.stderr.decode("utf-8", "backslashreplace").strip().splitlines()
    return lines[-1] if lines else f"the check ended with status {done.returncode}, without a word"


def count_steps(sequence: Sequence, most: int) -> int:
    """Return the steps that train with every change of a hyper-parameter within ``most`` steps."""
    changes = [change for change in sequence.changes() if change < most]
    return min(most, max(FEWEST_STEPS, *(change + 2 for change in changes), 0))


def _look_for_objective(study: Study, found: dict[str, Any]) -> None:
    """Add a failed check for each metric of the study that ``evaluate`` does not return."""
    objective, returned = study.spec.objective, found["metrics"]
    for metric in (objective.metric, objective.test_metric):
        if metric is None or returned is None or metric in returned:
            continue
        others = ", ".join(returned) or "nothing"
        detail = f"evaluate() returns no {metric!r} (it returns: {others})"
        missing = {"name": OBJECTIVE, "kind": "missing", "ok": False, "detail": detail}
        found["checks"].append(missing)
        found["ok"] = False


def choose_point(study: Study, steps: int) -> dict[str, Any]:
    """The point, among the first few, most of whose hyper-parameters change within ``steps``; among
    equals the one that meets all its changes soonest, then the one that changes most.
    """
    space = study.search_space()
    count = CANDIDATES if space.size is None else min(CANDIDATES, space.size)

    def rank(point: dict[str, Any]) -> tuple[int, int, int]:
        sequence = Sequence.of(point, study.spec.steps)
        values = [sequence.values(step) for step in range(steps)]
        pairs = list(pairwise(values))
        changing = sum(any(a[name] != b[name] for a, b in pairs) for name in sequence.names)
        return changing, -count_steps(sequence, steps), sum(a != b for a, b in pairs)

    return max((space.sample(0, index) for index in range(count)), key=rank)


def choose_variants(study: Study, point: dict[str, Any]) -> dict[str, Any]:
    """For each hyper-parameter that varies, a constant other than its first value.

    One of the first few points begins or ends with it.
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
    """Print a line for each check, then the verdict."""
    steps = counted(found["steps"], "step")
    for check in found["checks"]:
        word, style = MARKS[check["kind"]]
        mark = Text(word, style=style)
        detail = f": {check['detail']}" if check.get("detail") else ""
        console.print(Text.assemble(mark, f"{check['name']}{detail}"), soft_wrap=True)
    for name in found.get("unused", ()):
        unused = counted(found["unused_steps"], "step")
        detail = f"{name} changed nothing over {unused}: does the trainer read it?"
        console.print(Text.assemble(("warning ", "yellow"), detail), soft_wrap=True)
    for what in found["unmet"]:
        detail = f"not tried: {what}, which is more than {steps} away: --steps"
        console.print(Text.assemble(("warning ", "yellow"), detail), soft_wrap=True)
    if found["checkpoint_bytes"]:
        console.print(
            f"{found['seconds_per_step']:.3g} s a step, {found['save_seconds']:.3g} s a save,"
            f" {found['checkpoint_bytes']:,} bytes a checkpoint",
        )
    entrypoint = study.spec.trainer.entrypoint
    failed = [check["name"] for check in found["checks"] if not check["ok"]]
    if not failed:
        console.print(f"{entrypoint} is exact over {steps}")
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
