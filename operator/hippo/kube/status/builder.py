"""What statuses say, from the engine; rounded, so that they change only when it matters."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

from hippo.engine import Engine
from hippo.engine.replicates import visible_metrics
from hippo.engine.state import StudyRun, TrialRun
from hippo.kube.status.models import (
    BestTrial,
    SearchPlanStatus,
    StudyStatus,
    TrialCounts,
    TrialStatus,
)
from hippo.kube.status.stage_tree import build_tree, count_stages, fold_tree
from hippo.lifecycles import StudyState, TrialState
from hippo.plan import Node, count_unique_steps
from hippo.views.summary import estimate_study_alone

MOST_STUDIES = 100
MOST_STAGES = 50
"""Of a trial's way, in its status."""


def fill_study_status(status: StudyStatus, engine: Engine, run: StudyRun) -> StudyStatus:
    """The status with all that the engine knows of a study; times and conditions stay."""
    trials = run.trials
    ended = [(trial, _asked(trial)) for trial in trials]
    requested = sum(step for _, step in ended)
    unique = count_unique_steps(engine.plan, [(t.node, step) for t, step in ended if step])
    alone = estimate_study_alone(engine, run)
    counts = count_trials([run], engine)
    saved = max(0.0, alone - run.worker_seconds)
    return status.model_copy(
        update={
            "phase": str(run.state),
            "message": _message(run),
            "trials": counts,
            "progress": f"{_count_ended(counts)}/{counts.total}",
            "underway": _describe_underway(counts),
            "best": _best(run),
            "steps_requested": requested,
            "steps_reached": sum(max(trial.results, default=0) for trial in trials),
            "steps_trained": math.ceil(run.steps_trained),
            "merge_rate": round(requested / unique, 3) if unique else None,
            "worker_seconds": round(run.worker_seconds, 1),
            "worker_hours": round(run.worker_seconds / 3600, 4),
            "saved_hours": round(saved / 3600, 4),
            "saved": f"{saved / alone:.0%}" if alone > 0 else None,
        }
    )


def fill_plan_status(
    status: SearchPlanStatus, engine: Engine, live: Iterable[str]
) -> SearchPlanStatus:
    """The status with all that the engine knows of a plan; records and conditions stay."""
    runs = list(engine.studies.values())
    trials = [trial for run in runs for trial in run.trials]
    ended = [(trial, _asked(trial)) for trial in trials]
    requested = sum(step for _, step in ended)
    unique = count_unique_steps(engine.plan, [(t.node, step) for t, step in ended if step])
    tree = build_tree(engine.plan, trials, engine.chains.values())
    stages = count_stages(tree)
    spent = sum(run.worker_seconds for run in runs)
    alone = sum(estimate_study_alone(engine, run) for run in runs)
    names = sorted(live)
    return status.model_copy(
        update={
            "studies": names[:MOST_STUDIES],
            "studies_count": len(names),
            "trials": count_trials(runs, engine),
            "stages": stages,
            "stages_summary": f"{stages.done}/{stages.running}/{stages.pending}",
            "steps_requested": requested,
            "steps_unique": unique,
            "steps_trained": round(sum(run.steps_trained for run in runs)),
            "merge_rate": round(requested / unique, 3) if unique else None,
            "worker_seconds": round(spent, 1),
            "saved_seconds": round(max(0.0, alone - spent), 1),
            "tree": fold_tree(tree),
        }
    )


def build_trial_status(run: StudyRun, trial: TrialRun) -> TrialStatus:
    latest = trial.latest
    value = run.objective(latest[1]) if latest is not None else None
    return TrialStatus(
        phase=str(trial.state),
        step=latest[0] if latest is not None else None,
        value=value,
        metrics=_show_metrics(run, trial),
        stages=_stages(trial),
        reason=trial.reason,
        exact=run.study.spec.trainer.exactness == "strict",
    )


def count_trials(runs: Iterable[StudyRun], engine: Engine) -> TrialCounts:
    """By phase; the total is what there will be, if the tuner knows."""
    counts: Counter[TrialState] = Counter()
    total = running = 0
    at_work = _find_nodes_at_work(engine)
    for run in runs:
        counts.update(trial.state for trial in run.trials)
        running += sum(_is_running(trial, at_work) for trial in run.trials)
        total += _expected(run)
    phases = {str(state).lower(): counts[state] for state in TrialState}
    return TrialCounts(total=total, running=running, **phases)


def _find_nodes_at_work(engine: Engine) -> set[Node]:
    """Where workers are, or soon will be, on the ways that they have promised."""
    return {
        node
        for chain in engine.chains.values()
        if chain.begun and not chain.is_leaving
        for node in chain.claim.nodes()
        if node.end > chain.step
    }


def _is_running(trial: TrialRun, at_work: set[Node]) -> bool:
    if trial.state is not TrialState.PENDING:
        return False
    return any(node in at_work for node in trial.node.at(trial.target).path())


def _describe_underway(counts: TrialCounts) -> str | None:
    parts = {
        "running": counts.running,
        "waiting": counts.pending - counts.running,
        "paused": counts.paused,
    }
    return ", ".join(f"{number} {name}" for name, number in parts.items() if number) or None


def _expected(run: StudyRun) -> int:
    if run.state.is_final or run.is_replicating:
        return len(run.trials)
    space, most = run.study.search_space(), run.study.spec.max_trials
    known = [limit for limit in (most, space.size) if limit is not None]
    if not run.study.spec.algorithm.samples or run.study.spec.algorithm.name == "random":
        return max(len(run.trials), min(known, default=0))
    return max(len(run.trials), most or 0)


def _count_ended(counts: TrialCounts) -> int:
    return counts.completed + counts.stopped + counts.diverged + counts.failed


def _asked(trial: TrialRun) -> int:
    """The step that a trial was asked to reach; once it has ended, the one it has reached."""
    return max(trial.results, default=0) if trial.state.is_final else trial.target


def _message(run: StudyRun) -> str:
    if run.message or run.state is not StudyState.RUNNING:
        return run.message
    return "the best trials are trained again under other seeds" if run.is_replicating else ""


def _best(run: StudyRun) -> BestTrial | None:
    best = run.best
    if best is None or best.latest is None:
        return None
    value = run.objective(best.latest[1])
    return BestTrial(
        trial=best.name,
        value=value,
        shown=show(value),
        step=best.latest[0],
        hyperparameters=dict(best.sequence.hyperparameters),
        metrics=_show_metrics(run, best),
    )


def show(value: float | None) -> str | None:
    """In six digits."""
    return None if value is None else f"{value:.6g}"


def _stages(trial: TrialRun) -> list[str]:
    end = _asked(trial) or trial.target
    ranges = [
        f"{node.start}-{min(node.end, end)}" for node in trial.node.path() if node.start < end
    ]
    return ranges if len(ranges) <= MOST_STAGES else [*ranges[: MOST_STAGES - 1], "..."]


def _show_metrics(run: StudyRun, trial: TrialRun) -> dict[str, float | None]:
    """The objective first: of very many, the last are left out."""
    metrics = visible_metrics(run, trial)
    own = run.study.spec.objective
    order = {name: None for name in (own.metric, own.test_metric) if name in metrics} | metrics
    return {name: metrics[name] if math.isfinite(metrics[name]) else None for name in order}
