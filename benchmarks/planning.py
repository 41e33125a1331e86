"""How fast plans are made: insertion, the stage tree, and the next-chain decision.

    python benchmarks/planning.py [--trials 10000]

Prints medians over several rounds. Absolute seconds depend on the machine; the ratio of a
million-step trial to a hundred-step one does not.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

from hippo.engine import Engine
from hippo.engine.commands import Launch
from hippo.engine.events import StudyAdded, WorkerGone, WorkersChanged
from hippo.engine.options import EngineOptions
from hippo.model import Sequence, parse_study
from hippo.plan import SearchPlan, build_stage_tree
from hippo.protocol.reports import Outcome


def written_trials(count: int, steps: int, dice: random.Random) -> list[dict[str, Any]]:
    """Two thirds from choices that branch late, one third with sampled numbers."""
    scale = steps // 100
    schedules: list[Any] = [
        {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [a * scale, b * scale]}}
        for a in range(30, 60, 3)
        for b in range(60, 90, 3)
    ]
    schedules += [{"cosine": {"initial": 0.1, "final": 0.0, "steps": steps}}, 0.1]
    trials = []
    for index in range(count):
        lr: Any = dice.choice(schedules)
        if index % 3 == 0:
            lr = {
                "warmup": {
                    "from": 0.0,
                    "to": 0.1,
                    "steps": 5,
                    "then": round(dice.uniform(0.01, 0.1), 6),
                }
            }
        batch = [[0, 64], [dice.randrange(20, 90, 5) * scale, 128]]
        trials.append(
            {"lr": lr, "momentum": dice.choice([0.9, 0.95]), "batch_size": {"piecewise": batch}}
        )
    return trials


def timed(action: Callable[[], object], rounds: int) -> float:
    """Median seconds."""
    times = []
    for _ in range(rounds):
        begun = time.perf_counter()
        action()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def insert(trials: list[dict[str, Any]], steps: int) -> SearchPlan:
    plan = SearchPlan("benchmark")
    for index, hyperparameters in enumerate(trials):
        node = plan.insert(Sequence.of(hyperparameters, steps))
        plan.want(node, steps, ("s", index), (0, 0, "s"))
    return plan


def measure_decisions(count: int) -> list[float]:
    """Seconds of each "next chain" decision, with ``count`` trials pending all the time."""
    study = parse_study(
        {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": "decisions"},
            "spec": {
                "objective": {"metric": "m", "goal": "maximize"},
                "steps": 100,
                "space": {
                    "lr": {"uniform": {"low": 0.001, "high": 0.1, "log": True}},
                    "momentum": {"choices": [0.9, {"piecewise": [[0, 0.9], [50, 0.95]]}]},
                },
                "algorithm": {"name": "random"},
                "maxTrials": count,
                "trainer": {"entrypoint": "t:T"},
            },
        }
    )
    engine = Engine(SearchPlan("benchmark"), EngineOptions())
    engine.handle(StudyAdded(study), 0.0)
    engine.handle(WorkersChanged(8), 0.0)
    times: list[float] = []
    now = 0.0
    for _ in range(300):
        chain = next(iter(engine.chains))
        now += 1.0
        begun = time.perf_counter()
        commands = engine.handle(WorkerGone(chain, Outcome.PREEMPTED), now)
        times.append(time.perf_counter() - begun)
        assert any(isinstance(command, Launch) for command in commands)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    count, rounds = arguments.trials, arguments.rounds
    trials = written_trials(count, 100, random.Random(1))
    plans: list[SearchPlan] = []
    inserting = timed(lambda: plans.append(insert(trials, 100)), rounds)
    stages = build_stage_tree(plans[-1])
    building = timed(lambda: build_stage_tree(plans[-1]), rounds)
    print(
        f"{count} trials of 100 steps: insert {inserting:.3f} s, stage tree {building:.3f} s"
        f" ({len(stages)} stages), together {inserting + building:.3f} s"
    )
    few = min(count, 2000)
    short = timed(lambda: insert(written_trials(few, 100, random.Random(2)), 100), rounds)
    long = timed(
        lambda: insert(written_trials(few, 1_000_000, random.Random(2)), 1_000_000), rounds
    )
    print(f"{few} trials of 1,000,000 steps against 100 steps: {long / short:.2f} times as long")
    times = sorted(measure_decisions(count))
    print(
        f"next-chain decision with {count} trials pending: median"
        f" {statistics.median(times) * 1e3:.3f} ms, 99th percentile"
        f" {times[int(len(times) * 0.99)] * 1e3:.3f} ms"
    )


if __name__ == "__main__":
    main()
