"""ASHA on recorded learning curves: the best accuracy by worker-seconds spent, over many seeds.

    python -m benchmarks.asha [--output build/bench/asha.json] [--seeds 20]

The points of ``benchmarks/curves/digits.json``, trained for real once, are replayed in virtual time
through a stage tree and trial by trial, with workers, tuner and seeds alike. "Best" is the best
accuracy of a trial that was trained in full; a trial that was not costs and does not count.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.figures import build_parser, leave
from benchmarks.prefix_first import Curves
from hippo.model import Sequence, Study, parse_study
from hippo.protocol.reports import MetricsReported, Report
from hippo.simulate import Pace, Simulation, SimulationOptions

WORKERS = 4
TRIALS = 120
SETTINGS = {"name": "asha", "eta": 3, "minSteps": 6}
BUDGETS = (2, 4, 6, 8, 10, 15, 20, 30)
"""In worker-seconds of so many trials that are trained in full, alone."""
WAYS = {"stage tree": True, "trial by trial": False}


@dataclass(frozen=True)
class Recorded:
    """Accuracies of the recorded points."""

    curves: Curves

    def metrics(self, sequence: Sequence, step: int, seed: int) -> dict[str, float]:
        reached = self.curves.accuracy(sequence.hyperparameters)
        return {"accuracy": reached[self.curves.rungs.index(step)]}


@dataclass(eq=False)
class WatchedSimulation(Simulation):
    """Notes (worker-seconds spent by then, accuracy) of every trial that is trained in full."""

    full: list[tuple[float, float]] = field(default_factory=list)

    def report(self, report: Report) -> None:
        if isinstance(report, MetricsReported) and report.step == self.studies[0].spec.steps:
            running = sum(self.now - chain.launched for chain in self.engine.chains.values())
            spent = self.tally.worker_seconds + running
            self.full.append((spent, report.metrics["accuracy"]))
        super().report(report)


def build_study(curves: Curves, seed: int) -> Study:
    return parse_study(
        {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": "asha"},
            "spec": {
                "objective": {"metric": "accuracy", "goal": "maximize"},
                "steps": curves.rungs[-1],
                "space": curves.recorded,
                "algorithm": {**SETTINGS, "seed": seed},
                "maxTrials": TRIALS,
                "trainer": {"entrypoint": "trainer:Trainer"},
            },
        }
    )


def run(curves: Curves, seed: int, *, merge: bool) -> dict[str, Any]:
    options = SimulationOptions(WORKERS, Pace(by_values=curves.seconds), merge=merge)
    study = build_study(curves, seed)
    simulation = WatchedSimulation([study], Recorded(curves), options).run()
    assert isinstance(simulation, WatchedSimulation)
    return {
        "full": simulation.full,
        "workerSeconds": simulation.tally.worker_seconds,
        "makespan": simulation.now,
    }


def measure(file: Path, seeds: int) -> dict[str, Any]:
    curves = Curves(file)
    return {
        "command": f"python -m benchmarks.asha --seeds {seeds}",
        "fullTraining": curves.full_training,
        "ways": {
            name: [run(curves, seed, merge=merge) for seed in range(seeds)]
            for name, merge in WAYS.items()
        },
    }


def table(document: dict[str, Any]) -> str:
    """Mean best accuracy in %, ± half of the 95 % interval, at each budget and at the end."""
    heads = " | ".join(f"at {budget}" for budget in BUDGETS)
    lines = [
        f"| ASHA | spent | {heads} | at the end |",
        "| --- |" + " ---: |" * (len(BUDGETS) + 2),
    ]
    full = document["fullTraining"]
    for name, runs in document["ways"].items():
        cells = [interval([run["workerSeconds"] / full for run in runs], 1)]
        cells += [
            interval([100 * best(run, budget * full) for run in runs], 2)
            for budget in (*BUDGETS, math.inf)
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def best(run: dict[str, Any], spent: float) -> float:
    """The best accuracy of a fully trained trial within a budget; 0 if there is none."""
    return max((accuracy for by, accuracy in run["full"] if by <= spent), default=0.0)


def interval(values: list[float], digits: int) -> str:
    mean, half = _interval(values)
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def _interval(values: list[float]) -> tuple[float, float]:
    """Mean and half of the 95 % interval (normal approximation)."""
    half = 1.96 * statistics.stdev(values) / math.sqrt(len(values))
    return statistics.mean(values), half


def plot(document: dict[str, Any], path: Path) -> None:
    """Means with their 95 % intervals."""
    import matplotlib.figure  # only this function needs it

    figure = matplotlib.figure.Figure(figsize=(7, 3.6), layout="constrained")
    axes = figure.subplots()
    full = document["fullTraining"]
    budgets = [quarter / 4 for quarter in range(4, 4 * BUDGETS[-1] + 1)]
    for name, runs in document["ways"].items():
        means, halves = zip(
            *(_interval([100 * best(run, b * full) for run in runs]) for b in budgets), strict=True
        )
        axes.plot(budgets, means, label=name)
        low = [mean - half for mean, half in zip(means, halves, strict=True)]
        high = [mean + half for mean, half in zip(means, halves, strict=True)]
        axes.fill_between(budgets, low, high, alpha=0.2)
    axes.set_xlabel("worker-seconds spent, in full trainings of one trial")
    axes.set_ylabel("best accuracy, %")
    axes.set_ylim(80, 98)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = build_parser(__doc__)
    folder = Path(__file__).resolve().parent / "curves"
    parser.add_argument("--curves", type=Path, default=folder / "digits.json")
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    document = measure(options.curves, options.seeds)
    leave(document, table(document), options.output)


if __name__ == "__main__":
    main()
