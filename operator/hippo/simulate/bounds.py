"""Lower bounds of the makespan that no schedule of a finished simulation can beat.

Limits count. Let S be some studies, p(S) the minimum of the number of workers and the sum of their
``parallelism``, and W(S, d) the work deeper than d that only studies of S want. Then no schedule
ends before

    C* = max over S and d of ( d + W(S, d) / p(S) ).

*Proof:* the lender of a worker wants what it trains, or something below it. So at most p(S) workers
train what only S wants, and nothing deeper than d begins before d.

All studies with all workers are one S. Otherwise only sets that share work need be considered, as
unions of the sets of studies that want one stage: for two sets that share nothing, the union gives
a mean of both bounds. A study counts as wanting a stage if one of its trials was ever meant to get
that far, so the sets are rather too large, and the bound rather too low.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from hippo.engine import Engine
from hippo.engine.state import StudyRun, TrialRun
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
from hippo.simulate.pace import Pace


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds in seconds, except those of steps.

    If a single study waits for all results of a rung before the next one (SHA, PBT), both bounds
    are sums over its rungs of the bounds of each rung's forest.
    """

    steps_unique: int
    critical_path_steps: int
    work_over_workers: float
    lower_bound: float
    """C*: within limits, without overheads, with free preemption."""
    overhead_bound: float
    """max(C*, (work + leaves * (start + load) + forks * save + evaluations) / workers), as if each
    path began in a worker of its own and each fork were saved once. Within limits too."""


MOST_SETS = 1000
"""Sets of studies that are considered; if there are more, the bound may be too low."""

Asked = frozenset[str]


@dataclass(frozen=True, slots=True)
class _Forest:
    """Stages to train from what is stored, and the studies that want each."""

    stages: list[Stage]
    asked: dict[str, Asked]  # by key of the stage

    def part(self, studies: Asked) -> list[Stage]:
        """Returns the stages that only these studies want."""
        return [stage for stage in self.stages if self.asked[stage.key] <= studies]


def find_bounds(engine: Engine, workers: int, pace: Pace, overheads: Overheads) -> Bounds:
    """Returns the bounds of everything that the studies' trials have reached."""
    runs = list(engine.studies.values())
    everyone = frozenset(run.name for run in runs)
    limits = {run.name: run.study.spec.parallelism or workers for run in runs}
    workers = min(workers, sum(limits.values()))
    whole = _build_tree(trial for run in runs for trial in run.trials)
    forests = [whole]
    if len(runs) == 1 and isinstance(runs[0].study.spec.algorithm, Sha | Pbt):
        forests = list(_build_rungs(runs[0]))
        if runs[0].is_replicating:
            forests.append(_build_tree(t for t in runs[0].trials if t.is_replicate))
    exact = replace(pace, noise=0.0)
    lower, with_overheads = 0.0, 0.0
    for forest in forests:
        crews = {everyone: workers} | _find_crews(forest, limits, workers)
        bound = max(_lower_bound(forest, s, crew, exact) for s, crew in crews.items())
        works = (_work(forest.part(s), exact, overheads) / crew for s, crew in crews.items())
        lower, with_overheads = lower + bound, with_overheads + max(bound, *works)
    return Bounds(
        steps_unique=unique_steps(whole.stages),
        critical_path_steps=critical_path(whole.stages),
        work_over_workers=_work(whole.stages, exact, Overheads()) / workers,
        lower_bound=lower,
        overhead_bound=with_overheads,
    )


def _find_crews(forest: _Forest, limits: dict[str, int], workers: int) -> dict[Asked, int]:
    """Returns the workers that sets of studies may have, if fewer than all."""

    def count(studies: Asked) -> int:
        return sum(limits[study] for study in studies)

    parts = {asked for asked in forest.asked.values() if count(asked) < workers}
    found = set(parts)
    queue = sorted(parts, key=sorted)
    for studies in queue:
        for other in sorted(parts, key=sorted):
            union = studies | other
            if studies & other and union not in found and count(union) < workers:
                if len(found) == MOST_SETS:
                    break
                found.add(union)
                queue.append(union)
    return {studies: count(studies) for studies in found}


def _work(stages: list[Stage], pace: Pace, overheads: Overheads) -> float:
    """Returns the worker-seconds of all stages and their overheads."""
    return (
        sum(_seconds(stage, pace) for stage in stages)
        + count_leaves(stages) * (overheads.start + overheads.load)
        + count_forks(stages) * overheads.save
        + sum(1 for stage in stages if stage.trials) * overheads.evaluate
    )


def _build_tree(trials: Iterable[TrialRun]) -> _Forest:
    plan = SearchPlan("bounds")
    nodes = [(trial, plan.insert(trial.sequence, seed=trial.seed)) for trial in trials]
    askers: dict[int, dict[str, int]] = {}  # by node: the last step that each study has asked for
    for trial, node in nodes:
        for step in trial.results:
            plan.want(node, step, trial.id, (0, 0, trial.study))
        reach = max([trial.target, *trial.results])
        for passed in node.path():
            farthest = askers.setdefault(passed.number, {})
            farthest[trial.study] = max(farthest.get(trial.study, 0), reach)
    stages = build_stage_tree(plan)
    return _Forest(
        stages,
        {
            stage.key: frozenset(
                study
                for study, reach in askers[stage.node.number].items()
                if reach > stage.start or not stage.steps
            )
            for stage in stages
        },
    )


def _build_rungs(run: StudyRun) -> Iterator[_Forest]:
    """Yields for each rung what was trained for it, from the states of the previous rung."""
    trials = [trial for trial in run.trials if not trial.is_replicate]
    for before, rung in pairwise((0, *run.tuner.rungs)):
        plan = SearchPlan("bounds")
        nodes = [(t, plan.insert(t.sequence)) for t in trials if rung in t.results]
        for trial, node in nodes:
            if before:
                plan.add_checkpoint(node.at(before), before)
            plan.want(node, rung, trial.id, (0, 0, run.name))
        stages = build_stage_tree(plan)
        yield _Forest(stages, {stage.key: frozenset({run.name}) for stage in stages})


def _lower_bound(forest: _Forest, studies: Asked, workers: int, pace: Pace) -> float:
    if pace.by_values is None:
        return lower_bound(forest.part(studies), workers) * pace.step

    def seconds(stage: Stage) -> float:
        return _seconds(stage, pace)

    def counts(stage: Stage) -> bool:
        return forest.asked[stage.key] <= studies

    return lower_bound_seconds(forest.stages, workers, seconds, counts)


def _seconds(stage: Stage, pace: Pace) -> float:
    if not stage.steps:
        return 0.0
    return pace.stretch("", stage.node.sequence, stage.start, stage.end).seconds[-1]
