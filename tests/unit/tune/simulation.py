"""Runs a tuner without training anything: requests finish in any order, with any values."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any

from hippo.model import Study, parse_study
from hippo.protocol.decisions import Decision
from hippo.tune import Result, Tuner, create_tuner

Request = tuple[int, tuple[int, ...]]
"""(trial, the steps at which it is still to report, the last one being where it ends)."""

Values = Callable[[int, int], float | None]
"""(trial, step) -> the objective there, or None for a failure."""

FINITE: dict[str, Any] = {
    "lr": {"choices": [0.1, 0.2, {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [3]}}]},
    "momentum": {"choices": [0.7, 0.8, 0.9]},
    "width": {"choices": [1, 2, 3, 4]},
}
CONTINUOUS: dict[str, Any] = {"lr": {"uniform": {"low": 1e-4, "high": 1.0, "log": True}}}


def make_study(
    algorithm: dict[str, Any],
    *,
    max_trials: int | None = None,
    steps: int = 27,
    space: dict[str, Any] | None = None,
    goal: str = "maximize",
) -> Study:
    spec: dict[str, Any] = {
        "objective": {"metric": "accuracy", "goal": goal},
        "steps": steps,
        "space": FINITE if space is None else space,
        "algorithm": algorithm,
        "trainer": {"entrypoint": "trainer:T"},
    }
    if max_trials is not None:
        spec["maxTrials"] = max_trials
    return parse_study(
        {
            "apiVersion": "hippo.dev/v1alpha1",
            "kind": "Study",
            "metadata": {"name": "study"},
            "spec": spec,
        }
    )


def distinct(trial: int, step: int) -> float:
    """Values without ties: the ranking differs from rung to rung, but not wildly."""
    return random.Random(trial).random() + 0.1 * random.Random(trial * 1000 + step).random()


class Simulation:
    """One run: a history of decisions and results, and pending requests."""

    def __init__(self, study: Study, values: Values = distinct, *, workers: int = 3, seed: int = 0):
        self.study = study
        self.tuner: Tuner = create_tuner(study)
        self.values = values
        self.workers = workers
        self.random = random.Random(seed)
        self.history: list[Decision | Result] = []
        self.queue: list[Request] = []  # waiting for a worker
        self.running: list[Request] = []

    @property
    def decisions(self) -> list[Decision]:
        return [entry for entry in self.history if isinstance(entry, Decision)]

    @property
    def results(self) -> list[Result]:
        return [entry for entry in self.history if isinstance(entry, Result)]

    @property
    def idle(self) -> int:
        return max(0, self.workers - len(self.running) - len(self.queue))

    def decide(self) -> None:
        """Lets the tuner decide until it has nothing to add."""
        while decisions := self.tuner.decide(self.idle):
            for decision in decisions:
                self.history.append(decision)
                self.tuner.apply(decision)
                if decision.kind in ("suggest", "promote"):
                    self.queue.append((decision.trial, (*decision.marks, decision.steps)))
                elif decision.kind == "stop":
                    self.drop(decision.trial)
            self.start()

    def drop(self, trial: int) -> None:
        """Stops the trial, perhaps before its target."""
        self.queue = [request for request in self.queue if request[0] != trial]
        self.running = [request for request in self.running if request[0] != trial]

    def start(self) -> None:
        while self.queue and len(self.running) < self.workers:
            self.running.append(self.queue.pop(0))

    def finish_one(self) -> None:
        """Advances one request to its next report."""
        trial, (step, *rest) = self.running.pop(self.random.randrange(len(self.running)))
        result = Result(trial, step, self.values(trial, step))
        self.history.append(result)
        self.tuner.tell(result)
        if rest and result.value is not None and math.isfinite(result.value):
            self.running.append((trial, tuple(rest)))
        self.start()

    def run(self, most: int = 100_000) -> Simulation:
        """Runs until nothing is pending; AssertionError if that never happens."""
        for _ in range(most):
            self.decide()
            if not self.running:
                assert self.tuner.finished
                return self
            assert not self.tuner.finished
            self.finish_one()
        raise AssertionError("the tuner does not come to an end")

    def tried_again(self, values: Values, retried: Callable[[Simulation], set[int]]) -> Simulation:
        """The study goes on after its end: these failed trials may have results after all.

        As after a restart: the tuner is told nothing of what was taken back.
        """
        again = Simulation(self.study, values, workers=self.workers, seed=1)
        trials = retried(self)
        again.history = [
            entry
            for entry in self.history
            if not (isinstance(entry, Result) and entry.value is None and entry.trial in trials)
        ]
        again.tuner = replay(self.study, again.history)
        told = {(result.trial, result.step) for result in again.results}
        marks = {d.trial: d.marks for d in self.decisions if d.kind == "suggest"}
        for trial in sorted(trials):
            steps = (*marks[trial], self.asked()[trial][-1])
            again.queue.append((trial, tuple(s for s in steps if (trial, s) not in told)))
        again.start()
        return again

    def failed(self) -> set[int]:
        """Returns trials that have failed; not those that have diverged."""
        return {result.trial for result in self.results if result.value is None}

    def asked(self) -> dict[int, list[int]]:
        """Returns the steps that each trial was asked to reach."""
        steps: dict[int, list[int]] = {}
        for decision in self.decisions:
            if decision.kind in ("suggest", "promote"):
                steps.setdefault(decision.trial, []).append(decision.steps)
        return steps

    def count_at(self, step: int) -> int:
        """Returns how many trials were asked to reach exactly this rung."""
        return sum(step in steps for steps in self.asked().values())

    def stopped(self) -> set[int]:
        return {decision.trial for decision in self.decisions if decision.kind == "stop"}


def replay(study: Study, history: list[Decision | Result]) -> Tuner:
    """Returns a fresh tuner that is told a history."""
    tuner = create_tuner(study)
    for entry in history:
        if isinstance(entry, Decision):
            tuner.apply(entry)
        else:
            tuner.tell(entry)
    return tuner


def replay_grouped(study: Study, history: list[Decision | Result], seed: int) -> Tuner:
    """Like ``replay``, with the results shuffled after the decisions, and some repeated."""
    generator = random.Random(seed)
    decisions = [entry for entry in history if isinstance(entry, Decision)]
    results = [entry for entry in history if isinstance(entry, Result)]
    results += generator.sample(results, len(results) // 2)
    generator.shuffle(results)
    return replay(study, [*decisions, *results])
