"""What prefix-first draws change: accuracy by worker-seconds, on recorded curves, in virtual time.

    python -m benchmarks.prefix_first [--seeds 24] [--only TABLE]

Real engine, real tuners, four workers whose training is a look-up in what ``record_curves.py``
recorded by training. Two spaces: the recorded points, and the same with the initial learning rate
drawn from the whole range, where accuracy is interpolated between the two recorded rates around it
(linear in log rate). A worker starts, loads, saves and evaluates in no time. Prints Markdown tables
and is deterministic.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hippo.engine.state import StudyRun
from hippo.model import Sequence, canonical_json
from hippo.plan import count_unique_steps
from tests.world import World, build_study, train

WORKERS = 4
BUDGETS = (5, 10, 15, 20)
"""In worker-seconds of so many trials that are trained in full, alone."""

ALGORITHMS: dict[str, tuple[dict[str, Any], int]] = {
    "random": ({"name": "random"}, 40),
    "asha": ({"name": "asha", "eta": 3, "minSteps": 6}, 120),
    "tpe": ({"name": "optuna", "sampler": "tpe"}, 40),
}
"""By name: settings, and maxTrials."""

DRAWS: dict[str, tuple[dict[str, Any] | None, float]] = {
    "plain": (None, 1),
    "late 0, weight 1": ({"late": 0}, 1),
    "late 0.5, weight 0": ({"weight": 0}, 1),
    "late 0.5, weight 1": ({}, 1),
    "late 0.5, weight 2": ({"weight": 2}, 1),
    "late 0.8, weight 2": ({"late": 0.8, "weight": 2}, 1),
    "late 0.5, weight 1, half as many more": ({}, 1.5),
}
"""By name: prefixFirst, and how many times as many trials."""


class Curves:
    """Recorded accuracies, and what a step costs."""

    def __init__(self, file: Path) -> None:
        document = json.loads(file.read_text())
        self.recorded: dict[str, Any] = document["space"]
        self.rungs: list[int] = document["steps"]
        self._rates = {int(size): rate for size, rate in document["seconds per step"].items()}
        self._initial: list[float] = sorted(self.recorded["lr"]["choices"][0]["choices"])
        points = build_study(space=self.recorded, steps=self.rungs[-1]).search_space().enumerate()
        self._accuracy: dict[str, list[float]] = {}
        seconds = []
        for point, right in zip(points, document["right"], strict=True):
            accuracy = [count / document["held out"] for count in right]
            self._accuracy[canonical_json(point)] = accuracy
            values = map(Sequence.of(point, self.rungs[-1]).values, range(self.rungs[-1]))
            seconds.append(sum(map(self.seconds, values)))
        self.finals = sorted(accuracy[-1] for accuracy in self._accuracy.values())
        self.full_training = statistics.mean(seconds)

    @property
    def continuous(self) -> dict[str, Any]:
        """The recorded space with the initial learning rate from the whole range."""
        bounds = {"low": self._initial[0], "high": self._initial[-1], "log": True}
        return {**self.recorded, "lr": _replaced(self.recorded["lr"], {"uniform": bounds})}

    def seconds(self, values: Mapping[str, Any]) -> float:
        """Of one training step."""
        return self._rates[values["batch_size"]]

    def accuracy(self, point: Mapping[str, Any]) -> list[float]:
        """At each recorded step."""
        lr = point["lr"]
        initial = lr if isinstance(lr, float) else lr["multistep"]["initial"]
        last = len(self._initial) - 1
        after = min(max(bisect_right(self._initial, initial), 1), last)
        low, high = self._initial[after - 1], self._initial[after]
        way = math.log(initial / low) / math.log(high / low)
        below, above = (
            self._accuracy[canonical_json({**point, "lr": _with_initial(lr, rate)})]
            for rate in (low, high)
        )
        return [one * (1 - way) + other * way for one, other in zip(below, above, strict=True)]


def _with_initial(lr: Any, rate: float) -> Any:
    return rate if isinstance(lr, float) else {"multistep": {**lr["multistep"], "initial": rate}}


def _replaced(lr: dict[str, Any], domain: dict[str, Any]) -> dict[str, Any]:
    _, decayed = lr["choices"]
    return {"choices": [domain, {"multistep": {**decayed["multistep"], "initial": domain}}]}


@dataclass(frozen=True)
class Outcome:
    """One run: (worker-seconds spent, accuracy) of every trial that was trained in full."""

    ends: list[tuple[float, float]]
    spent: float
    merge_rate: float

    def best(self, budget: float) -> float:
        """The best accuracy of a fully trained trial within a budget; 0 if there is none."""
        return max((accuracy for spent, accuracy in self.ends if spent <= budget), default=0.0)


def replay(curves: Curves, space: dict[str, Any], settings: dict[str, Any], trials: int) -> Outcome:
    """One study from beginning to end."""
    steps = curves.rungs[-1]
    objective = {"metric": "accuracy", "goal": "maximize"}
    study = build_study(
        space=space, steps=steps, objective=objective, algorithm=settings, maxTrials=trials
    )
    runs: list[StudyRun] = []
    score = look_up(curves, runs)
    world = World([study], workers=WORKERS, step_seconds=curves.seconds, score=score)
    runs += world.engine.studies.values()
    ends: list[tuple[float, float]] = []
    ended: set[int] = set()
    spent = 0.0
    while not world.engine.is_finished:
        before, busy = world.now, len(world.running)
        if not world.advance():
            break
        spent += (world.now - before) * busy
        if world.now == before:  # results come while time stands still
            for trial in runs[0].trials:
                if trial.index not in ended and steps in trial.results:
                    ended.add(trial.index)
                    ends.append((spent, trial.results[steps]["accuracy"]))
    assert world.engine.is_finished
    reached = [(trial.node, max(trial.results)) for trial in runs[0].trials]
    unique = count_unique_steps(world.engine.plan, reached)
    return Outcome(ends, spent, sum(step for _, step in reached) / unique)


def look_up(curves: Curves, runs: list[StudyRun]) -> Callable[[str], dict[str, float]]:
    """Accuracy by what a worker of ``tests.world`` holds: a hash of all values it has seen."""
    known: dict[str, float] = {}
    seen = 0

    def evaluate(state: str) -> dict[str, float]:
        nonlocal seen
        for trial in runs[0].trials[seen:]:
            seen += 1
            accuracy = dict(
                zip(curves.rungs, curves.accuracy(trial.sequence.hyperparameters), strict=True)
            )
            holds = ""
            for step in range(curves.rungs[-1]):
                holds = train(holds, step, trial.sequence.values(step))
                if step + 1 in accuracy:
                    known[holds] = accuracy[step + 1]
        return {"accuracy": known[state]}

    return evaluate


def interval(values: list[float], digits: int) -> str:
    """Mean and half of the 95 % interval (normal approximation)."""
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.{digits}f} ± {half:.{digits}f}"


def table(curves: Curves, name: str, space: dict[str, Any], seeds: int) -> None:
    algorithm, trials = ALGORITHMS[name]
    heads = " | ".join(f"at {budget}" for budget in BUDGETS)
    print(f"| draws | trials | merge rate | spent | trained in full | {heads} | at the end |")
    print("| --- |" + " --- |" * (5 + len(BUDGETS)))
    for label, (prefix_first, times) in DRAWS.items():
        count = round(trials * times)
        written = {} if prefix_first is None else {"prefixFirst": prefix_first}
        outcomes = [
            replay(curves, space, {**algorithm, "seed": seed, **written}, count)
            for seed in range(seeds)
        ]
        cells = [
            str(count),
            interval([outcome.merge_rate for outcome in outcomes], 2),
            interval([outcome.spent / curves.full_training for outcome in outcomes], 1),
            interval([float(len(outcome.ends)) for outcome in outcomes], 1),
        ]
        for budget in (*BUDGETS, math.inf):
            bests = [outcome.best(budget * curves.full_training) for outcome in outcomes]
            cells.append(interval([100 * best for best in bests], 2))
        print(f"| {label} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    folder = Path(__file__).resolve().parent / "curves"
    parser.add_argument("--curves", type=Path, default=folder / "digits.json")
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--only", help="print one table, such as 'asha, range'")
    options = parser.parse_args()
    curves = Curves(options.curves)
    print(
        f"{len(curves.finals)} points recorded; final accuracy: best {curves.finals[-1]:.1%},"
        f" median {statistics.median(curves.finals):.1%}, worst {curves.finals[0]:.1%}."
        f" Budgets and 'spent' are in full trainings ({curves.full_training:.3f} worker-seconds)."
    )
    for title, space in (("range", curves.continuous), ("recorded points", curves.recorded)):
        for name in ALGORITHMS:
            if options.only in (None, f"{name}, {title}"):
                print(f"\n{name}, {title}:\n")
                table(curves, name, space, options.seeds)


if __name__ == "__main__":
    main()
