"""What an event costs the engine, and how much memory it takes, by number of trials and workers.

    python -m benchmarks.engine_scale [--output build/bench/engine-scale.json] [--quick]

Random search over a space of late branches in virtual time. Each point runs in a process of its
own; the time is the processor's in ``Engine.handle`` alone, the memory the most that the process
ever held, simulated workers included.
"""

from __future__ import annotations

import resource
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import figures
from benchmarks.machine import describe_machine
from hippo.engine import Engine
from hippo.engine.commands import Command
from hippo.engine.events import Event
from hippo.model import Study, parse_study
from hippo.plan import Overheads
from hippo.simulate import Simulation, SimulationOptions, SyntheticCurves, find_bounds

TRIALS = (100, 300, 1_000, 3_000, 10_000)
WORKERS = (10, 100, 1_000)
STEPS = 400


def build_study(trials: int) -> Study:
    """25 * 20 * 20 = 10,000 points: each value changes once, at steps that differ by choice."""

    def drops(value: float, first: int, count: int) -> list[Any]:
        milestones = [first + (STEPS - first) * k // count for k in range(count)]
        return [
            {"multistep": {"initial": value, "gamma": 0.5, "milestones": [m]}} for m in milestones
        ]

    space = {
        "lr": {"choices": drops(0.1, 100, 25)},
        "momentum": {"choices": drops(0.9, 200, 20)},
        "weight_decay": {"choices": drops(0.0005, 250, 20)},
    }
    return parse_study(
        {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": "scale"},
            "spec": {
                "objective": {"metric": "accuracy", "goal": "maximize"},
                "steps": STEPS,
                "space": space,
                "algorithm": {"name": "random"},
                "maxTrials": trials,
                "trainer": {"entrypoint": "trainer:Trainer"},
            },
        }
    )


class TimedEngine(Engine):
    """Notes how long each event took."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.seconds: list[float] = []

    def handle(self, event: Event, now: float) -> list[Command]:
        begun = time.thread_time()
        commands = super().handle(event, now)
        self.seconds.append(time.thread_time() - begun)
        return commands


def measure_point(trials: int, workers: int) -> dict[str, Any]:
    study = build_study(trials)
    overheads = Overheads(start=2, load=1, save=0.5)
    options = SimulationOptions(workers, overheads=overheads)
    curves = SyntheticCurves((study.spec.objective,), STEPS)
    begun = time.perf_counter()
    simulation = Simulation([study], curves, options, create_engine=TimedEngine).run()
    assert isinstance(simulation.engine, TimedEngine)
    first, *others = simulation.engine.seconds  # the first one asks for all trials
    bounds = find_bounds(simulation.engine, workers, options.pace, overheads)
    return {
        "trials": trials,
        "workers": workers,
        "events": len(others),
        "firstSeconds": first + others[0],  # all trials are suggested, then all workers begin
        "meanMicroseconds": 1e6 * statistics.fmean(others[1:]),
        "medianMicroseconds": 1e6 * statistics.median(others[1:]),
        "seconds": time.perf_counter() - begun,
        "mebibytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "makespan": simulation.now,
        "bound": bounds.overhead_bound,
        "stepsTrained": simulation.tally.steps_trained,
        "chains": simulation.tally.chains,
    }


def measure(*, quick: bool) -> dict[str, Any]:
    points = [
        (trials, workers) for workers in WORKERS for trials in TRIALS if not quick or trials <= 300
    ]
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
        rows = [pool.submit(measure_point, *point).result() for point in points]
    return {
        "command": "python -m benchmarks.engine_scale",
        "machine": describe_machine(),
        "points": rows,
    }


def table(document: dict[str, Any]) -> str:
    lines = [
        "| trials | workers | events | an event, mean | median | all trials suggested | memory |"
        " bound / makespan | the run took |",
        "| ---: |" + " ---: |" * 8,
    ]
    lines += [
        f"| {p['trials']:,} | {p['workers']:,} | {p['events']:,} | {p['meanMicroseconds']:.0f} us"
        f" | {p['medianMicroseconds']:.0f} us | {p['firstSeconds']:.2f} s"
        f" | {p['mebibytes']:.0f} MiB | {p['bound'] / p['makespan']:.3f} | {p['seconds']:.1f} s |"
        for p in document["points"]
    ]
    return "\n".join(lines)


def plot(document: dict[str, Any], path: Path) -> None:
    """Cost of an event, and memory, by number of trials; a line for each number of workers."""
    import matplotlib.figure  # only this function needs it

    figure = matplotlib.figure.Figure(figsize=(9, 3.4), layout="constrained")
    time_panel, memory_panel = figure.subplots(1, 2)
    for workers in sorted({point["workers"] for point in document["points"]}):
        points = [point for point in document["points"] if point["workers"] == workers]
        trials = [point["trials"] for point in points]
        label = f"{workers:,} workers"
        times = [point["meanMicroseconds"] for point in points]
        time_panel.plot(trials, times, marker="o", label=label)
        memory_panel.plot(trials, [p["mebibytes"] for p in points], marker="o", label=label)
    time_panel.set_title("an event, microseconds (mean)")
    memory_panel.set_title("memory of the process, MiB")
    for panel in (time_panel, memory_panel):
        panel.set_xscale("log")
        panel.set_xlabel("trials")
        panel.set_ylim(bottom=0)
        panel.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    figures.run(__doc__, measure, table, quick="small studies only")
