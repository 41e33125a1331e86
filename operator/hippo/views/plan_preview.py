"""The analysis behind ``hippo plan``: the stage tree, its savings, and their limits."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hippo.model import External, InvalidSpec, Median, Pbt, Sequence, Study, canonical_json
from hippo.plan import (
    Node,
    SearchPlan,
    Stage,
    build_stage_tree,
    count_unique_steps,
    critical_path,
    lower_bound,
    unique_steps,
)
from hippo.tune import Result, Tuner, create_tuner

WORKER_COUNTS = (1, 2, 4, 8, 16, 32)

MAX_COMPARED = 300
"""Choices of a hyper-parameter that are compared with one another."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial as its tuner would suggest it."""

    study: str
    index: int
    hyperparameters: dict[str, Any]
    sequence: Sequence
    node: Node
    asked: tuple[int, ...]
    """Steps at which it reports, ascending."""

    @property
    def steps(self) -> int:
        """The last step that it is trained to."""
        return self.asked[-1]


@dataclass(frozen=True, slots=True)
class Rung:
    """A step at which a study compares trials."""

    study: str
    step: int
    trials: int
    distinct_prefixes: int  # trials that agree up to here have equal metrics
    remedy: str = "minSteps"  # the setting to raise if the rung comes too early


@dataclass(frozen=True, slots=True)
class Limit:
    """How much one hyper-parameter limits merging."""

    name: str
    choices: int
    alone_at_start: int  # choices that differ from all others at step 0
    parting_step: int  # step by which half of the choices differ from all others
    merge_rate_without: float  # if it were the same in all trials
    advice: str


@dataclass(slots=True)
class PlanAnalysis:
    """The analysis of a plan, without any training."""

    trials: list[PlannedTrial]
    stages: list[Stage]
    steps_requested: int
    steps_unique: int
    critical_path_steps: int
    rungs: list[Rung]
    limits: list[Limit]
    is_one_course: bool  # a tuner decides by results, so this is one possible course
    by_workers: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def merge_rate(self) -> float:
        return self.steps_requested / self.steps_unique if self.steps_unique else 1.0


def analyse(studies: list[Study]) -> PlanAnalysis:
    """Analyses studies that share a trainer.

    Tuners that decide by results are given seeded random results.
    """
    plan = SearchPlan("plan")
    trials: list[PlannedTrial] = []
    rungs: list[Rung] = []
    by_results = False
    for order, study in enumerate(studies):
        tuner, made = _play(plan, study)
        by_results = by_results or tuner.learns or len(tuner.rungs) > 1
        rungs.extend(_rungs(study, tuner, made))
        for trial in made:
            lead = (study.spec.priority, -order, study.name)
            for step in trial.asked:
                plan.want(trial.node, step, (study.name, trial.index), lead)
        trials.extend(made)
    stages = build_stage_tree(plan)
    requested = sum(trial.steps for trial in trials)
    unique = unique_steps(stages)
    durations = [trial.steps for trial in trials]
    return PlanAnalysis(
        trials=trials,
        stages=stages,
        steps_requested=requested,
        steps_unique=unique,
        critical_path_steps=critical_path(stages),
        rungs=rungs,
        limits=_limits(trials, requested / unique if unique else 1.0),
        is_one_course=by_results,
        by_workers=[(m, _trial_based(durations, m), lower_bound(stages, m)) for m in WORKER_COUNTS],
    )


def _play(plan: SearchPlan, study: Study) -> tuple[Tuner, list[PlannedTrial]]:
    """Runs a tuner to its end; results are hashes of content keys, so equal prefixes tie."""
    if isinstance(study.spec.algorithm, External):
        raise InvalidSpec.at(
            "spec.algorithm.name",
            f"{study.name} is external: its trials are made while it runs, so there is no plan yet",
        )
    tuner = create_tuner(study)
    written: list[dict[str, Any]] = []
    sequences: list[Sequence] = []
    nodes: list[Node] = []
    asked: list[list[int]] = []
    index = 0
    while not tuner.finished:
        decisions = tuner.decide(1)
        if not decisions:
            break
        for decision in decisions:
            assert decision.index == index
            index += 1
            tuner.apply(decision)
            if decision.kind == "suggest":
                assert decision.hyperparameters is not None
                written.append(decision.hyperparameters)
                sequences.append(Sequence.of(decision.hyperparameters, study.spec.steps))
                nodes.append(plan.insert(sequences[-1]))
                asked.append([])
            if decision.kind in ("suggest", "promote"):
                trial = decision.trial
                for step in (*decision.marks, decision.steps):
                    asked[trial].append(step)
                    value = _chance(sequences[trial].key(step, "plan"))
                    tuner.tell(Result(trial, step, value))
    return tuner, [
        PlannedTrial(study.name, i, written[i], sequences[i], nodes[i], tuple(asked[i]))
        for i in range(len(written))
    ]


def _chance(key: str) -> float:
    return int(hashlib.sha256(key.encode()).hexdigest()[:12], 16) / 16**12


def _rungs(study: Study, tuner: Tuner, trials: list[PlannedTrial]) -> list[Rung]:
    algorithm = study.spec.algorithm
    if isinstance(algorithm, Median):  # trials that agree do not compete: none stops another
        return []
    remedy = "interval" if isinstance(algorithm, Pbt) else "minSteps"
    found = []
    for step in tuner.rungs:
        here = [trial for trial in trials if step in trial.asked]
        keys = {trial.sequence.key(step, "plan") for trial in here}
        found.append(Rung(study.name, step, len(here), len(keys), remedy))
    return found


def _trial_based(durations: Iterable[int], workers: int) -> int:
    """Returns the steps until the last trial ends, if each worker takes the next trial in order."""
    free = [0] * workers
    for duration in durations:
        first = min(range(workers), key=free.__getitem__)
        free[first] += duration
    return max(free)


def _limits(trials: list[PlannedTrial], merge_rate: float) -> list[Limit]:
    """Returns the limits by each hyper-parameter that varies, the most expensive first."""
    found: list[Limit] = []
    for name in sorted({name for trial in trials for name in trial.sequence.names}):
        written: dict[str, Any] = {}
        for trial in trials:
            if name in trial.hyperparameters:
                written.setdefault(
                    canonical_json(trial.hyperparameters[name]), trial.hyperparameters[name]
                )
        if len(written) < 2:
            continue
        without = _merge_rate_without(trials, name)
        if without <= merge_rate * 1.01:
            continue
        horizon = max(trial.sequence.steps for trial in trials)
        choices = [Sequence.of({name: value}, horizon) for value in written.values()]
        firsts = Counter(choice.key(1, "plan") for choice in choices)
        alone = sum(1 for count in firsts.values() if count == 1)
        parting = _parting_step(choices)
        advice = _advice(name, len(choices), alone, parting, len(trials))
        found.append(Limit(name, len(choices), alone, parting, without, advice))
    return sorted(found, key=lambda limit: -limit.merge_rate_without)


def _parting_step(choices: list[Sequence]) -> int:
    """Returns the median step, over choices, at which one diverges from the choice most like it."""
    few = choices[:MAX_COMPARED]
    steps = [max(one.agreement(other) for other in few if other is not one) for one in few]
    return sorted(steps)[len(steps) // 2]


def _merge_rate_without(trials: list[PlannedTrial], name: str) -> float:
    """Returns the merge rate if all trials had the same values of one hyper-parameter."""
    plan = SearchPlan("without")
    targets = []
    for trial in trials:
        rest = {other: value for other, value in trial.hyperparameters.items() if other != name}
        targets.append((plan.insert(Sequence.of(rest, trial.sequence.steps)), trial.steps))
    unique = count_unique_steps(plan, targets)
    return sum(step for _, step in targets) / unique if unique else 1.0


def _advice(name: str, choices: int, alone: int, parting: int, trials: int) -> str:
    if choices > 0.9 * trials and choices > 8:
        return (
            f"Nearly every trial draws its own {name}: quantize its domain (choices, or an int with"
            " a step), or let its values differ later (piecewise, or a warm-up to one value)."
        )
    if alone == choices:
        text = f"All of its {choices} choices differ from step 0 on"
    elif parting == 0:
        text = f"{alone} of its {choices} choices differ from all others at step 0"
    else:
        text = f"Half of its {choices} choices have diverged by step {parting}"
        if alone:
            text += f", {alone} of them at step 0"
    return f"{text}: use fewer values, or let them differ later."


def to_json(analysis: PlanAnalysis) -> dict[str, Any]:
    """Returns the document of ``hippo plan -o json``."""
    return {
        "trials": len(analysis.trials),
        "stepsRequested": analysis.steps_requested,
        "stepsUnique": analysis.steps_unique,
        "mergeRate": analysis.merge_rate,
        "criticalPathSteps": analysis.critical_path_steps,
        "oneCourseOfMany": analysis.is_one_course,
        "stages": [
            {
                "key": stage.key,
                "parent": stage.parent,
                "start": stage.start,
                "end": stage.end,
                "hyperparameters": stage.node.sequence.values(stage.start) if stage.steps else {},
                "trials": [f"{study}-{index}" for study, index in stage.trials],
            }
            for stage in analysis.stages
        ],
        "workers": [
            {"workers": m, "trialBasedSteps": alone, "lowerBoundSteps": bound}
            for m, alone, bound in analysis.by_workers
        ],
        "rungs": [
            {
                "study": rung.study,
                "step": rung.step,
                "trials": rung.trials,
                "distinctPrefixes": rung.distinct_prefixes,
            }
            for rung in analysis.rungs
        ],
        "limits": [
            {
                "hyperparameter": limit.name,
                "choices": limit.choices,
                "aloneAtStart": limit.alone_at_start,
                "partingStep": limit.parting_step,
                "mergeRateWithout": limit.merge_rate_without,
                "advice": limit.advice,
            }
            for limit in analysis.limits
        ],
    }
