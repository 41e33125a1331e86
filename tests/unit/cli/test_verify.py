"""Which point ``hippo verify`` tries, and how far."""

from __future__ import annotations

from typing import Any

from hippo.cli.verify import MOST_STEPS, choose_point, count_steps
from hippo.model import Sequence, Study


def study(space: dict[str, Any], steps: int = 200) -> Study:
    return Study.model_validate(
        {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": "s"},
            "spec": {
                "objective": {"metric": "loss", "goal": "minimize"},
                "steps": steps,
                "space": {name: {"choices": choices} for name, choices in space.items()},
                "algorithm": {"name": "grid"},
                "trainer": {"entrypoint": "trainer:T"},
            },
        }
    )


def late(step: int, to: Any = 0.5) -> dict[str, Any]:
    return {"piecewise": [[0, 0.1], [step, to]]}


def test_every_change_within_the_bound_is_trained_with() -> None:
    written = {"lr": late(40), "momentum": late(150), "x": 1}
    assert count_steps(Sequence.of(written, 200), MOST_STEPS) == 42
    assert count_steps(Sequence.of({"lr": 0.1}, 200), MOST_STEPS) == 3
    assert count_steps(Sequence.of({"lr": late(99)}, 200), MOST_STEPS) == MOST_STEPS


def test_the_point_changes_in_most_hyperparameters_and_soon() -> None:
    space = {"lr": [0.1, late(70), late(6)], "momentum": [0.9, late(20), late(150)]}
    point = choose_point(study(space), MOST_STEPS)
    assert point == {"lr": late(6), "momentum": late(20)}
    cosine = {"cosine": {"initial": 0.1, "final": 0.0, "steps": 200}}
    assert choose_point(study({"lr": [0.1, late(70), cosine]}), MOST_STEPS) == {"lr": cosine}
