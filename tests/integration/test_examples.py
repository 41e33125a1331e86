"""What is in ``examples/`` works as it stands: its trainers keep the law, and merge exactly."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.runs import Place, as_hex

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize(
    "study", ["digits/grid.yaml", "mnist/grid.yaml", "partial_fit/study.yaml", "plain/study.yaml"]
)
def test_the_trainer_of_an_example_keeps_the_law(place: Place, study: str) -> None:
    done = place.call("verify", EXAMPLES / study, "--steps", "2")
    assert "is exact over 2 steps" in done.stdout


@pytest.mark.parametrize(
    ("example", "entrypoint", "space"),
    [
        (
            "mnist",
            "trainer:MnistTrainer",
            {
                "lr": [{"warmup": {"from": 0.0, "steps": 2, "to": 0.1, "then": 0.1}}],
                "batch_size": [16, {"piecewise": [[0, 16], [2, 8]]}],
            },
        ),
        (
            "partial_fit",
            "trainer:PartialFitTrainer",
            {"eta0": [1.0, {"piecewise": [[0, 1.0], [2, 0.1]]}], "alpha": [0.00001]},
        ),
    ],
)
def test_an_example_gives_through_the_tree_what_it_gives_trial_by_trial(
    place: Place, example: str, entrypoint: str, space: dict[str, list[Any]]
) -> None:
    shutil.copy(EXAMPLES / example / "trainer.py", place.folder)
    objective = {"metric": "loss", "goal": "minimize"}
    study = place.study(
        "short", space, steps=3, objective=objective, trainer={"entrypoint": entrypoint}
    )
    merged = place.run(study)
    alone = place.run(study, "--no-merge", "--store", place.folder / "alone")
    assert merged["stepsTrained"] == 4
    assert alone["stepsTrained"] == 6
    assert [as_hex(trial["metrics"]) for trial in merged["trials"]] == [
        as_hex(trial["metrics"]) for trial in alone["trials"]
    ]
