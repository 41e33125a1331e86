"""A summary of a run: what is done, shared and saved, and the best so far."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

from hippo.engine import Engine
from hippo.engine.state import ChainRun, StudyRun, TrialRun
from hippo.lifecycles import TrialState
from hippo.plan import Stage, build_stage_tree, count_leaves, count_unique_steps, unique_steps


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals over all studies of a run."""

    trials: Counter[TrialState]
    steps_requested: int  # by all trials, each counted alone
    steps_reached: int  # of the requested ones, those with results
    steps_unique: int  # after merging
    steps_trained: int  # by workers, for these studies, earlier runs included
    worker_seconds: float
    trial_based_seconds: float  # estimate: worker-seconds of training each trial alone

    @property
    def merge_rate(self) -> float:
        """Steps requested by all trials / steps trained once merged; 1.0 = nothing shared."""
        return self.steps_requested / self.steps_unique if self.steps_unique else 1.0


def summarise(engine: Engine) -> Summary:
    """Returns the totals of all studies, in time proportional to the trials."""
    runs = list(engine.studies.values())
    trials = [trial for run in runs for trial in run.trials]
    reached = [(trial, max(trial.results, default=0)) for trial in trials]
    ended = [(trial, step if trial.state.is_final else trial.target) for trial, step in reached]
    return Summary(
        trials=Counter(trial.state for trial in trials),
        steps_requested=sum(step for _, step in ended),
        steps_reached=sum(step for _, step in reached),
        steps_unique=count_unique_steps(
            engine.plan, [(trial.node, step) for trial, step in ended if step]
        ),
        steps_trained=round(sum(run.steps_trained for run in runs)),
        worker_seconds=sum(run.worker_seconds for run in runs),
        trial_based_seconds=sum(estimate_alone(engine, trial, step) for trial, step in ended),
    )


def estimate_alone(engine: Engine, trial: TrialRun, steps: int) -> float:
    """Returns estimated seconds of training a trial alone, from measured steps and overheads."""
    if not steps:
        return 0.0
    costs = engine.costs
    overheads = costs.overheads
    return (
        overheads.start
        + costs.seconds(trial.sequence, 0, steps)
        + (overheads.evaluate + overheads.save) * max(1, len(trial.results))
    )


def estimate_study_alone(engine: Engine, run: StudyRun) -> float:
    """Returns estimated worker-seconds of training a study's trials alone, as far as each came."""
    return sum(estimate_alone(engine, trial, max(trial.results, default=0)) for trial in run.trials)


def estimate_trial_based_makespan(engine: Engine, workers: int) -> float:
    """Returns estimated seconds of trial-by-trial execution, each worker taking the next trial."""
    free = [0.0] * max(1, workers)
    for run in engine.studies.values():
        for trial in run.trials:
            steps = max(trial.results, default=0)
            start = heapq.heappop(free)
            heapq.heappush(free, start + estimate_alone(engine, trial, steps))
    return max(free)


def estimate_steps_trained(engine: Engine, summary: Summary) -> int:
    """Returns the steps trained as reported, plus an estimate since the last reports."""
    since = sum(
        max(0, at - chain.origin_step - chain.trained) for chain, at, _ in running_stages(engine)
    )
    return summary.steps_trained + since


@dataclass(frozen=True, slots=True)
class Remaining:
    """The work still to do, as far as known."""

    steps: int  # from the latest checkpoints, less what was trained since
    seconds: float | None  # None: nothing was measured yet
    may_grow: bool  # future results may add or promote trials


def estimate_remaining(engine: Engine) -> Remaining:
    """Estimates the remaining work; its time is bounded by the longest path and by work per worker.

    The work is that of the stages and of the chains that train them: each starts a worker, loads a
    checkpoint, and ends a process. Work of suspended studies is left out. Takes time proportional
    to the trials.
    """
    stages = build_stage_tree(engine.plan, with_resting=False)
    running = running_stages(engine)
    steps = unique_steps(stages)
    for chain, at, stop in running:
        steps -= at - _stored_before(chain, at, stop)
    return Remaining(
        max(0, steps),
        _estimate_time(engine, stages, running) if engine.costs.is_known else None,
        any(_may_grow(run) for run in engine.studies.values()),
    )


def _estimate_time(
    engine: Engine, stages: list[Stage], running: list[tuple[ChainRun, int, int]]
) -> float:
    costs, frontier = engine.costs, engine.frontier
    overheads = costs.overheads
    work = sum(
        costs.seconds(stage.node.sequence, stage.start, stage.end)
        + overheads.save
        + (overheads.evaluate if stage.trials else 0.0)
        for stage in stages
    )
    for chain, at, stop in running:  # the tree includes what they trained until it is stored
        work -= costs.seconds(chain.claim.node.sequence, _stored_before(chain, at, stop), at)
    chains = count_leaves(stages)
    to_start = max(0, chains - len(running))
    from_nothing = sum(1 for stage in stages if stage.parent is None and stage.start == 0)
    from_nothing -= sum(1 for chain, _, _ in running if chain.origin_step == 0)
    work += chains * costs.gap + to_start * overheads.start
    work += max(0, to_start - max(0, from_nothing)) * overheads.load
    levels = [head.demand.level + costs.switch for head in frontier.ready.values()]
    levels += [frontier.remaining(chain.claim, at) for chain, at, _ in running]
    longest = max(levels, default=0.0)
    return max(longest + (costs.gap if levels else 0.0), work / max(1, _count_usable(engine)))


def _stored_before(chain: ChainRun, at: int, stop: int) -> int:
    """Returns the step of the last checkpoint that a chain has passed."""
    latest = chain.claim.node.at(stop).latest_checkpoint(max(at, 1))
    return min(at, latest.step) if latest is not None else 0


def _count_usable(engine: Engine) -> int:
    """Returns the workers that the active studies may have together."""
    limits = (run.study.spec.parallelism for run in engine.studies.values() if run.is_active)
    return min(engine.workers, sum(limit or engine.workers for limit in limits))


def _may_grow(run: StudyRun) -> bool:
    if not run.is_active or run.is_replicating:
        return False
    tuner = run.tuner
    return not tuner.exhausted or len(tuner.request_ends) > 1 or run.study.spec.replicates > 0


def running_stages(engine: Engine) -> list[tuple[ChainRun, int, int]]:
    """Returns (chain, step it has reached, step it goes to), the oldest first."""
    step = engine.costs.mean_step
    return [
        (chain, chain.position(engine.now, step), chain.claim.stop_at)
        for chain in engine.chains.values()
    ]


def best_value(run: StudyRun) -> tuple[TrialRun, int, float] | None:
    """Returns the best trial, its last step, and the objective there."""
    if run.best is None or run.best.latest is None:
        return None
    step, metrics = run.best.latest
    return run.best, step, metrics[run.study.spec.objective.metric]
