"""The contract of drivers: whoever drives the engine, studies come to the same results.

Inherit from :class:`DriverContract` and say how your driver runs studies to their end. Its trainers
have to reach what ``tests.world.train_alone`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from hippo.model import Sequence, canonical_json
from hippo.protocol.decisions import Decision
from tests.world import SIGNATURE, World, build_study, train_alone

Document = dict[str, Any]

STEPS = 12
SPACE: Document = {
    "lr": {
        "choices": [
            0.1,
            {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [6]}},
            {"multistep": {"initial": 0.1, "gamma": 0.1, "milestones": [9]}},
            {"warmup": {"from": 0, "steps": 2, "to": 0.1, "then": 0.1}},
        ]
    },
    "momentum": {"choices": [0.8, 0.9]},
}
FREE_OF_ORDER: dict[str, Document] = {
    "grid": {"algorithm": {"name": "grid"}},
    "random": {"algorithm": {"name": "random", "seed": 3}, "maxTrials": 6},
    "sha": {"algorithm": {"name": "sha", "seed": 1, "eta": 2, "minSteps": 3}, "maxTrials": 8},
    "hyperband": {"algorithm": {"name": "hyperband", "eta": 2, "minSteps": 3}},
    "pbt": {"algorithm": {"name": "pbt", "population": 4, "interval": 4, "quantile": 0.25}},
}
"""Algorithms whose decisions do not depend on the order in which results come."""
BY_ORDER: dict[str, Document] = {
    "asha": {"algorithm": {"name": "asha", "seed": 2, "eta": 2, "minSteps": 3}, "maxTrials": 8},
    "median": {"algorithm": {"name": "median", "every": 3, "minTrials": 2}, "maxTrials": 8},
}
ALL = FREE_OF_ORDER | BY_ORDER


@dataclass(frozen=True)
class Run:
    """What came of some studies that share a plan."""

    phases: Mapping[str, str]
    decisions: Mapping[str, list[Decision]]
    results: Mapping[str, dict[tuple[int, int], float]]
    """By study: the score of each trial, by its index and the last step it reports."""
    steps_trained: int


def study(name: str, **spec: Any) -> Document:
    """The document of a study, without its trainer."""
    return {
        "apiVersion": "hippo.dev/v1alpha1",
        "kind": "Study",
        "metadata": {"name": name},
        "spec": {
            "objective": {"metric": "score", "goal": "maximize"},
            "steps": STEPS,
            "space": SPACE,
            **spec,
        },
    }


def verdicts(decisions: list[Decision]) -> set[tuple[Any, ...]]:
    """What was decided, in whatever order."""
    return {
        (d.kind, d.trial, d.steps, canonical_json(d.hyperparameters), d.parent, d.seed)
        for d in decisions
    }


def decide(name: str) -> list[Decision]:
    """What the engine decides in a world without a driver."""
    return World([build_study(steps=STEPS, space=SPACE, **ALL[name])]).run().decisions["s"]


class DriverContract:
    """Tests that every driver has to pass."""

    def run(self, *studies: Document) -> Run:
        """Run studies, which share a trainer, to their end, on two workers."""
        raise NotImplementedError

    def score(self, hyperparameters: Document, step: int, seed: int) -> float:
        """What a trial reaches that is trained alone, of a study of ``STEPS`` steps."""
        return train_alone(hyperparameters, STEPS, step, seed)[1]["score"]

    def check_results(self, run: Run, name: str) -> None:
        """Each trial has reached what training it alone reaches, to the last bit."""
        suggested = {d.trial: d for d in run.decisions[name] if d.kind == "suggest"}
        assert run.results[name].keys() == {(t, s) for t, s in reported(run.decisions[name])}
        for (trial, step), score in run.results[name].items():
            decision = suggested[trial]
            assert decision.hyperparameters is not None
            alone = self.score(decision.hyperparameters, step, decision.seed or 0)
            assert score == alone, f"trial {trial} at step {step}"

    @pytest.mark.parametrize("name", ALL)
    def test_results_are_those_of_training_alone(self, name: str) -> None:
        run = self.run(study("s", **ALL[name]))
        assert run.phases == {"s": "Succeeded"}
        self.check_results(run, "s")

    @pytest.mark.parametrize("name", ["grid", "pbt"])
    def test_equal_beginnings_are_trained_once(self, name: str) -> None:
        run = self.run(study("s", **ALL[name]))
        assert run.steps_trained == count_unique(run)

    @pytest.mark.parametrize("name", FREE_OF_ORDER)
    def test_decisions_follow_from_results_alone(self, name: str) -> None:
        run = self.run(study("s", **ALL[name]))
        assert verdicts(run.decisions["s"]) == verdicts(decide(name))

    def test_studies_share_what_they_have_in_common(self) -> None:
        run = self.run(study("a", **ALL["grid"]), study("b", **ALL["random"]))
        alone = self.run(study("a", **ALL["grid"]))
        assert run.phases == {"a": "Succeeded", "b": "Succeeded"}
        assert run.results["a"] == alone.results["a"]
        self.check_results(run, "b")
        assert run.steps_trained == count_unique(run) == alone.steps_trained

    def test_a_longer_study_goes_on_from_a_shorter_one(self) -> None:
        run = self.run(study("short", steps=10, **ALL["grid"]), study("long", **ALL["grid"]))
        self.check_results(run, "short")
        self.check_results(run, "long")
        assert run.steps_trained == count_unique(run)

    def test_replicates_are_trained_under_seeds_of_their_own(self) -> None:
        run = self.run(study("s", replicates=3, **ALL["random"]))
        self.check_results(run, "s")
        seeds = {d.seed for d in run.decisions["s"] if d.seed is not None}
        assert len(seeds) == 3
        assert run.steps_trained == count_unique(run)


def reported(decisions: list[Decision]) -> set[tuple[int, int]]:
    """The last report of each trial: its index and the step."""
    last: dict[int, int] = {}
    for decision in decisions:
        if decision.kind in ("suggest", "promote", "stop"):
            last[decision.trial] = decision.steps
    return set(last.items())


def count_unique(run: Run) -> int:
    """Steps that differ in what was trained before them or in their values."""
    keys = set()
    for decisions in run.decisions.values():
        reached: dict[int, int] = {}
        for decision in decisions:
            if decision.kind in ("suggest", "promote"):
                reached[decision.trial] = max(decision.steps, reached.get(decision.trial, 0))
        for decision in decisions:
            if decision.kind == "suggest":
                steps = reached[decision.trial]
                assert decision.hyperparameters is not None
                sequence = Sequence.of(decision.hyperparameters, steps)
                keys |= {
                    (decision.seed, sequence.key(step, SIGNATURE)) for step in range(1, steps + 1)
                }
    return len(keys)
