"""The result of a run as one document, for people and other programs."""

from __future__ import annotations

import math
from typing import Any

from hippo.engine import Engine
from hippo.engine.replicates import Spread, replicated, visible_metrics
from hippo.engine.state import StudyRun, TrialRun
from hippo.views.summary import estimate_study_alone, estimate_trial_based_makespan, summarise


def build_result(
    engine: Engine, *, makespan_seconds: float, workers: int, worker_seconds_earlier: float = 0.0
) -> dict[str, Any]:
    """Returns everything known of a finished or stopped run. Non-finite numbers become null.

    ``makespan_seconds`` is this run's; ``worker_seconds_earlier`` is that of its studies' earlier
    runs.
    """
    summary = summarise(engine)
    runs = list(engine.studies.values())
    bests = {run.name: _best(run) for run in runs}
    return {
        "trials": [_trial(run, trial) for run in runs for trial in run.trials],
        "best": next(iter(bests.values())) if len(bests) == 1 else bests,
        "studies": [
            {
                "study": run.name,
                "phase": str(run.state),
                "message": run.message,
                "best": bests[run.name],
                "workerSeconds": run.worker_seconds,
                "workerSecondsAlone": estimate_study_alone(engine, run),
                "replicates": _replicates(run),
            }
            for run in runs
        ],
        "stepsRequested": summary.steps_requested,
        "stepsUnique": summary.steps_unique,
        "stepsTrained": summary.steps_trained,
        "mergeRate": summary.merge_rate,
        "makespanSeconds": makespan_seconds,
        "workerSeconds": summary.worker_seconds,  # of all runs
        "workerSecondsEarlier": worker_seconds_earlier,
        "workers": workers,
        "trialBasedEstimate": {
            "workerSeconds": summary.trial_based_seconds,
            "makespanSeconds": estimate_trial_based_makespan(engine, workers),
        },
    }


def _trial(run: StudyRun, trial: TrialRun) -> dict[str, Any]:
    latest = trial.latest
    return {
        "trial": trial.name,
        "study": run.name,
        "hyperparameters": dict(trial.sequence.hyperparameters),
        "steps": latest[0] if latest is not None else 0,
        "phase": str(trial.state),
        "metrics": _finite(visible_metrics(run, trial)),
        "reason": trial.reason,
        "parent": run.trials[trial.parent].name if trial.parent is not None else None,
        "seed": trial.seed if trial.seed is not None else run.study.spec.trainer.seed,
        "exact": run.study.spec.trainer.exactness == "strict",
    }


def _best(run: StudyRun) -> dict[str, Any] | None:
    return None if run.best is None else _trial(run, run.best)


def _replicates(run: StudyRun) -> list[dict[str, Any]]:
    """Returns the trials that were trained under other seeds as well, the best mean first."""
    objective = run.study.spec.objective
    found = []
    for entry in replicated(run):
        spread = entry.spread(objective.metric)
        row: dict[str, Any] = {
            "trial": entry.trial.name,
            "replicates": [trial.name for trial in entry.replicates],
            objective.metric: _spread(spread),
        }
        if objective.test_metric and run.state.is_final and entry.trial is run.best:
            row[objective.test_metric] = _spread(entry.spread(objective.test_metric))
        found.append(row)
    return found


def _spread(spread: Spread | None) -> dict[str, Any] | None:
    if spread is None:
        return None
    return {
        "count": len(spread.values),
        "mean": spread.mean,
        "standardDeviation": spread.deviation,
    }


def _finite(metrics: Any) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
