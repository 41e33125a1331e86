"""Records real learning curves: every point of a finite space, trained for benchmarks to replay.

    python benchmarks/record_curves.py [--output benchmarks/curves/digits.json] [--workers 2]

Trains the model of ``examples/digits`` by ``hippo run``: one grid study for each step at which
accuracy is to be known, all over one plan, so that every distinct prefix is trained once. A few
minutes on two cores. The result holds, per point in the grid's order, the right answers among the
held-out pictures at each of those steps, and the seconds of a training step by batch size.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from hippo.model import canonical_json, parse_study

HERE = Path(__file__).resolve().parent
TRAINER = HERE.parent / "examples" / "digits" / "trainer.py"
HELD_OUT = 500
RUNGS = (6, 18, 54)
CONFIG = {"width": 8, "iterations_per_step": 5}
INITIAL = {"choices": [round(0.005 * 120 ** (k / 13), 6) for k in range(14)]}  # 0.005 ... 0.6
SPACE: dict[str, Any] = {
    "lr": {
        "choices": [
            INITIAL,
            {
                "multistep": {
                    "initial": INITIAL,
                    "gamma": 0.1,
                    "milestones": {"choices": [[27], [36], [45]]},
                }
            },
        ]
    },
    "momentum": {"choices": [0.5, 0.8, 0.9, {"piecewise": [[0, 0.9], [30, 0.97]]}]},
    "batch_size": {"choices": [32, {"piecewise": [[0, 32], [24, 64]]}]},
}


def grid(steps: int) -> dict[str, Any]:
    """A study of all points, each trained for so many steps."""
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": f"curves-{steps}"},
        "spec": {
            "objective": {"metric": "accuracy", "goal": "maximize"},
            "steps": steps,
            "space": SPACE,
            "algorithm": {"name": "grid"},
            "trainer": {"entrypoint": "trainer:DigitsTrainer", "config": CONFIG},
            "checkpoints": {"retain": "none"},
        },
    }


def record(folder: Path, workers: int) -> dict[str, Any]:
    """What ``hippo run`` prints for all studies."""
    shutil.copy(TRAINER, folder)
    files = []
    for steps in RUNGS:
        files.append(folder / f"curves-{steps}.yaml")
        files[-1].write_text(json.dumps(grid(steps)))
    command = [
        sys.executable,
        "-c",
        "from hippo.cli import main; main()",
        "run",
        *map(str, files),
        "-o",
        "json",
    ]
    ran = subprocess.run(
        [*command, "--workers", str(workers)], stdout=subprocess.PIPE, check=True, env=os.environ
    )
    result: dict[str, Any] = json.loads(ran.stdout)
    return result


def measure_step(batch_size: int, rounds: int = 20) -> float:
    """Seconds of a training step: the least of some, as other work on the machine only adds."""
    specification = importlib.util.spec_from_file_location("trainer", TRAINER)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    torch.set_num_threads(1)
    values = {"lr": 0.1, "momentum": 0.9, "batch_size": batch_size}
    trainer = module.DigitsTrainer()
    trainer.setup(CONFIG, values)
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        trainer.step(values)
        times.append(time.perf_counter() - begun)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=HERE / "curves" / "digits.json")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="keep checkpoints here, to go on after a stop")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = record(options.folder or Path(folder), options.workers)
    right: dict[str, dict[str, int]] = {}
    for trial in result["trials"]:
        step = str(trial["steps"])
        accuracy = trial["metrics"]["accuracy"]
        right.setdefault(canonical_json(trial["hyperparameters"]), {})[step] = round(
            accuracy * HELD_OUT
        )
    points = parse_study(grid(RUNGS[-1])).search_space().enumerate()
    document = {
        "made by": "python benchmarks/record_curves.py",
        "software": f"Python {platform.python_version()}, PyTorch {torch.__version__}",
        "processor": platform.processor() or platform.machine(),
        "steps trained": result["stepsTrained"],
        "worker seconds": round(result["workerSeconds"], 1),
        "steps": RUNGS,
        "held out": HELD_OUT,
        "space": SPACE,
        "seconds per step": {str(size): round(measure_step(size), 5) for size in (32, 64, 128)},
        "right": [[right[canonical_json(point)][str(s)] for s in RUNGS] for point in points],
    }
    rows = json.dumps(document.pop("right")).replace("], [", "],\n[")
    text = json.dumps(document, indent=1)[:-2] + ',\n "right": ' + rows + "\n}\n"
    options.output.write_text(text)
    print(f"{options.output}: {rows.count('[') - 1} points, {result['stepsTrained']} steps")


if __name__ == "__main__":
    main()
