"""The studies that are compared, those that share little first."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TRAINER = Path(__file__).resolve().parents[2] / "examples" / "digits" / "trainer.py"


@dataclass(frozen=True, slots=True)
class Work:
    """One or more studies over one plan, trained in one run."""

    name: str
    title: str
    studies: tuple[dict[str, Any], ...]

    def write(self, folder: Path) -> list[Path]:
        """The studies as files (JSON is YAML), with their trainer beside them."""
        folder.mkdir(parents=True)
        shutil.copy(TRAINER, folder)
        files = [folder / f"{study['metadata']['name']}.yaml" for study in self.studies]
        for file, study in zip(files, self.studies, strict=True):
            file.write_text(json.dumps(study))
        return files


def build_works(*, quick: bool = False) -> list[Work]:
    """All of them. A trial has about 8 units of so many epochs, and schedules turn between two."""
    unit, config = (1, {"iterations_per_step": 5}) if quick else (3, {})
    constant = [0.02, 0.04, 0.06, 0.08, 0.1, 0.12]
    late = [
        0.05,
        _multistep(0.1, [4 * unit]),
        _multistep(0.1, [5 * unit]),
        _multistep(0.1, [6 * unit]),
        _multistep(0.1, [5 * unit, 7 * unit]),
        _multistep(0.2, [6 * unit, 7 * unit]),
    ]
    momentum = [0.9, _turn(0.9, 5 * unit, 0.95)]
    return [
        Work(
            "apart",
            "trials that differ from step 0 on",
            (_study("apart", config, 8 * unit, {"lr": constant, "momentum": [0.8, 0.9]}),),
        ),
        Work(
            "batch",
            "changes of batch size in mid-training",
            (
                _study(
                    "batch",
                    config,
                    8 * unit,
                    {
                        "lr": [0.03, 0.05, _multistep(0.1, [6 * unit])],
                        "momentum": [0.8, 0.9],
                        "batch_size": [64, _turn(64, 4 * unit, 128)],
                    },
                ),
            ),
        ),
        Work(
            "late",
            "schedules that part late",
            (_study("late", config, 8 * unit, {"lr": late, "momentum": momentum}),),
        ),
        Work(
            "teams",
            "two studies over one plan",
            (
                _study("team-a", config, 6 * unit, {"lr": late[:3], "momentum": momentum}),
                _study("team-b", config, 10 * unit, {"lr": late[2:5], "momentum": momentum}),
            ),
        ),
    ]


def _study(
    name: str, config: Mapping[str, Any], steps: int, space: Mapping[str, list[Any]]
) -> dict[str, Any]:
    if "batch_size" not in space:
        config = {**config, "batch_size": 64}
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": name},
        "spec": {
            "objective": {"metric": "accuracy", "goal": "maximize"},
            "steps": steps,
            "space": {name: {"choices": choices} for name, choices in space.items()},
            "algorithm": {"name": "grid"},
            "trainer": {
                "entrypoint": "trainer:DigitsTrainer",
                "config": dict(config),
                "seed": 0,
                "threads": 1,
            },
            "checkpoints": {"retain": "none"},
        },
    }


def _multistep(gamma: float, milestones: list[int]) -> dict[str, Any]:
    return {"multistep": {"initial": 0.05, "gamma": gamma, "milestones": milestones}}


def _turn(first: float, step: int, then: float) -> dict[str, Any]:
    return {"piecewise": [[0, first], [step, then]]}
