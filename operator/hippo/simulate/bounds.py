"""What no schedule could have beaten, of a simulation that has ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from hippo.engine import Engine
from hippo.model import Pbt, Sha
from hippo.plan import (
    Overheads,
    SearchPlan,
    Stage,
    build_stage_tree,
    count_forks,
    count_leaves,
    critical_path,
    lower_bound,
    lower_bound_seconds,
    unique_steps,
)
from hippo.runs import StudyRun, TrialRun
from hippo.simulate.pace import Pace


@dataclass(frozen=True, slots=True)
class Bounds:
    """In seconds but for the steps.

    Where a single study waits for all results of a rung before the next (SHA, PBT), both bounds are
    sums over its rungs, of the bounds of each rung's forest.
    """

    steps_unique: int
    critical_path_steps: int
    work_over_workers: float
    lower_bound: float
    """C*: without overheads, with free preemption."""
    overhead_bound: float
    """max(C*, (work + leaves * (start + load) + forks * save + evaluations) / workers): as if each
    path began in a worker of its own, and each fork were saved once."""


def find_bounds(engine: Engine, workers: int, pace: Pace, overheads: Overheads) -> Bounds:
    """Of all that the studies' trials have reached."""
    runs = list(engine.studies.values())
    whole = _build_tree(trial for run in runs for trial in run.trials)
    forests = [whole]
    if len(runs) == 1 and isinstance(runs[0].study.spec.algorithm, Sha | Pbt):
        forests = list(_build_rungs(runs[0]))
        if runs[0].is_replicating:
            forests.append(_build_tree(t for t in runs[0].trials if t.is_replicate))
    exact = replace(pace, noise=0.0)
    bounds = [_lower_bound(forest, workers, exact) for forest in forests]
    works = [_work(forest, exact, overheads) / workers for forest in forests]
    return Bounds(
        steps_unique=unique_steps(whole),
        critical_path_steps=critical_path(whole),
        work_over_workers=_work(whole, exact, Overheads()) / workers,
        lower_bound=sum(bounds),
        overhead_bound=sum(map(max, bounds, works)),
    )


def _work(stages: list[Stage], pace: Pace, overheads: Overheads) -> float:
    """Worker-seconds of all stages, and of what is due beside them."""
    return (
        sum(_seconds(stage, pace) for stage in stages)
        + count_leaves(stages) * (overheads.start + overheads.load)
        + count_forks(stages) * overheads.save
        + sum(1 for stage in stages if stage.trials) * overheads.evaluate
    )


def _build_tree(trials: Iterable[TrialRun]) -> list[Stage]:
    plan = SearchPlan("bounds")
    for trial in trials:
        node = plan.insert(trial.sequence, seed=trial.seed)
        for step in trial.results:
            plan.want(node, step, trial.id, (0, 0, trial.study))
    return build_stage_tree(plan)


def _build_rungs(run: StudyRun) -> Iterator[list[Stage]]:
    """For each rung what was trained for it, from the states of the rung before."""
    trials = [trial for trial in run.trials if not trial.is_replicate]
    for before, rung in pairwise((0, *run.tuner.rungs)):
        plan = SearchPlan("bounds")
        nodes = [(t, plan.insert(t.sequence)) for t in trials if rung in t.results]
        for trial, node in nodes:
            if before:
                plan.add_checkpoint(node.at(before), before)
            plan.want(node, rung, trial.id, (0, 0, run.name))
        yield build_stage_tree(plan)


def _lower_bound(stages: list[Stage], workers: int, pace: Pace) -> float:
    if pace.by_values is None:
        return lower_bound(stages, workers) * pace.step
    return lower_bound_seconds(stages, workers, lambda stage: _seconds(stage, pace))


def _seconds(stage: Stage, pace: Pace) -> float:
    if not stage.steps:
        return 0.0
    return pace.stretch("", stage.node.sequence, stage.start, stage.end).seconds[-1]
