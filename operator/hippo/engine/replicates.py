"""Replicates: the best trials, trained again under other seeds.

The best of many results is partly the best by luck: it was selected for its value under one seed.
Fresh seeds draw that luck again, so the mean over replicates is an unbiased estimate, and the trial
with the best mean wins. The results that led to the selection are excluded from the mean.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from hippo.engine.state import StudyRun, TrialRun
from hippo.lifecycles import TrialState
from hippo.protocol.decisions import Decision


@dataclass(frozen=True, slots=True)
class Spread:
    """A metric over replicates."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation (n - 1); None for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True, slots=True)
class Replicated:
    """One of the best trials with its replicates, by index; some may have failed."""

    trial: TrialRun
    replicates: tuple[TrialRun, ...]

    def spread(self, metric: str) -> Spread | None:
        """Returns a metric over all replicates trained in full; None if there are none."""
        values = tuple(
            replicate.results[replicate.target][metric]
            for replicate in self.replicates
            if replicate.state is TrialState.COMPLETED
            and math.isfinite(replicate.results[replicate.target].get(metric, math.nan))
        )
        return Spread(values) if values else None


def suggest(run: StudyRun) -> list[Decision]:
    """Returns the replicates of a study whose tuner has finished.

    They are its best fully trained trials, each under the seeds that follow the trainer's.
    """
    spec = run.study.spec
    best = [trial for trial in run.leaders if trial.state is TrialState.COMPLETED]
    first = len(run.trials)
    return [
        Decision(
            index=run.decided + offset,
            kind="suggest",
            trial=first + offset,
            steps=spec.steps,
            hyperparameters=dict(trial.sequence.hyperparameters),
            parent=trial.index,
            seed=spec.trainer.seed + number,
            reason=f"replicate {number} of {spec.replicates} of trial {trial.name}, number"
            f" {place} of the best (seed {spec.trainer.seed + number})",
        )
        for offset, (place, trial, number) in enumerate(
            (place, trial, number)
            for place, trial in enumerate(best, start=1)
            for number in range(1, spec.replicates + 1)
        )
    ]


def replicated(run: StudyRun) -> list[Replicated]:
    """Returns the replicated trials, the best mean of the objective first."""
    groups: dict[int, list[TrialRun]] = {}
    for trial in run.trials:
        if trial.is_replicate and trial.parent is not None:
            groups.setdefault(trial.parent, []).append(trial)
    objective = run.study.spec.objective
    sign = 1.0 if objective.goal == "minimize" else -1.0

    def order(entry: Replicated) -> tuple[bool, float, bool, object]:
        spread = entry.spread(objective.metric)
        value = sign * spread.mean if spread is not None else 0.0
        is_unknown = entry.trial.latest is None  # a damaged store may have lost its own result
        return spread is None, value, is_unknown, () if is_unknown else run.standing(entry.trial)

    return sorted(
        (Replicated(run.trials[index], tuple(group)) for index, group in groups.items()), key=order
    )


def find_winner(run: StudyRun) -> TrialRun | None:
    """Returns the best trial: by the mean over its replicates, if any, else by its own result."""
    for entry in replicated(run):
        has_spread = entry.spread(run.study.spec.objective.metric) is not None
        if has_spread and entry.trial.latest is not None:
            return entry.trial
    return run.best


def visible_metrics(run: StudyRun, trial: TrialRun) -> dict[str, float]:
    """Returns a trial's latest metrics that may be shown.

    The test metric is shown only for the winner after the study's end, so that it is not used for
    selection.
    """
    if trial.latest is None:
        return {}
    metrics = dict(trial.latest[1])
    if not (run.state.is_final and trial is run.best):
        metrics.pop(run.study.spec.objective.test_metric or "", None)
    return metrics
