"""What a person asks of a run: how much is done, shared and saved, and what is best so far."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass

from hippo.engine import Engine
from hippo.lifecycles import TrialState
from hippo.plan import build_stage_tree, count_unique_steps, unique_steps
from hippo.runs import ChainRun, StudyRun, TrialRun


@dataclass(frozen=True, slots=True)
class Summary:
    """Totals over all studies of a run."""

    trials: Counter[TrialState]
    steps_requested: int  # by all trials, each counted alone
    steps_reached: int  # of these: the results are there
    steps_unique: int  # once merged
    steps_trained: int  # by workers, for these studies, earlier runs included
    worker_seconds: float
    trial_based_seconds: float  # estimate: worker-seconds of training each trial alone

    @property
    def merge_rate(self) -> float:
        """Steps requested by all trials / steps trained once merged; 1.0 = nothing shared."""
        return self.steps_requested / self.steps_unique if self.steps_unique else 1.0


def summarise(engine: Engine) -> Summary:
    """Totals of all studies; in proportion to the number of trials."""
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
    """Estimated seconds of training a trial alone, from measured steps and overheads."""
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
    """Estimated worker-seconds of training each of a study's trials alone, as far as it came."""
    return sum(estimate_alone(engine, trial, max(trial.results, default=0)) for trial in run.trials)


def estimate_trial_based_makespan(engine: Engine, workers: int) -> float:
    """Estimated seconds of trial-by-trial execution, each worker taking the next trial."""
    free = [0.0] * max(1, workers)
    for run in engine.studies.values():
        for trial in run.trials:
            steps = max(trial.results, default=0)
            start = heapq.heappop(free)
            heapq.heappush(free, start + estimate_alone(engine, trial, steps))
    return max(free)


def count_steps_left(engine: Engine) -> int:
    """Steps still to train: from the latest checkpoints, less what has run since. What studies at
    rest ask for is left out.
    """
    left = unique_steps(build_stage_tree(engine.plan, with_resting=False))
    for chain, at, stop in running_stages(engine):
        latest = chain.claim.node.at(stop).latest_checkpoint(max(at, 1))
        left -= max(0, at - (latest.step if latest is not None else 0))
    return max(0, left)


def estimate_steps_trained(engine: Engine, summary: Summary) -> int:
    """Steps trained as far as reported, and by estimate since."""
    since = sum(
        max(0, at - chain.origin_step - chain.trained) for chain, at, _ in running_stages(engine)
    )
    return summary.steps_trained + since


def estimate_time_left(engine: Engine) -> float | None:
    """Seconds: no less than the longest path, nor than all work over all workers."""
    if not engine.costs.is_known:
        return None
    step = engine.costs.mean_step
    running = [
        engine.frontier.remaining(chain.claim, chain.position(engine.now, step))
        for chain in engine.chains.values()
    ]
    heads = engine.frontier.ready.values()
    longest = max([*running, *(head.demand.level for head in heads)], default=0.0)
    work = engine.frontier.ready_work + sum(running)
    return max(longest, work / max(1, engine.workers))


def running_stages(engine: Engine) -> list[tuple[ChainRun, int, int]]:
    """(chain, step it has reached, step it goes to), the oldest first."""
    step = engine.costs.mean_step
    return [
        (chain, chain.position(engine.now, step), chain.claim.stop_at)
        for chain in engine.chains.values()
    ]


def best_value(run: StudyRun) -> tuple[TrialRun, int, float] | None:
    """The best trial, its last step, and the objective there."""
    if run.best is None or run.best.latest is None:
        return None
    step, metrics = run.best.latest
    return run.best, step, metrics[run.study.spec.objective.metric]
