"""The result of a run as one document, for people and for other programs."""

from __future__ import annotations

import math
from typing import Any

from hippo.engine import Engine
from hippo.runs import StudyRun, TrialRun
from hippo.summary import estimate_trial_based_makespan, summarise


def build_result(engine: Engine, *, makespan_seconds: float, workers: int) -> dict[str, Any]:
    """Everything a finished or stopped run knows. Numbers that are not finite become null."""
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
            }
            for run in runs
        ],
        "stepsRequested": summary.steps_requested,
        "stepsUnique": summary.steps_unique,
        "stepsTrained": summary.steps_trained,
        "mergeRate": summary.merge_rate,
        "makespanSeconds": makespan_seconds,
        "workerSeconds": summary.worker_seconds,
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
        "metrics": _finite(latest[1]) if latest is not None else {},
        "reason": trial.reason,
        "exact": run.study.spec.trainer.exactness == "strict",
    }


def _best(run: StudyRun) -> dict[str, Any] | None:
    return None if run.best is None else _trial(run, run.best)


def _finite(metrics: Any) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}
