"""Gauges and totals of studies and plans: their statuses once more, read when Prometheus asks.

An update costs a reference, whatever the number of trials, and what is forgotten vanishes.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hippo.kube.status.models import SearchPlanStatus, StudyStatus, TrialCounts

STUDY, PLAN = ["namespace", "study"], ["namespace", "plan"]
PHASES: Final = ("Rejected", "Pending", "Running", "Suspended", "Succeeded", "Failed")
TRIAL_PHASES: Final = ("pending", "paused", "completed", "stopped", "diverged", "failed")
STAGE_STATES: Final = ("done", "running", "pending", "failed")


@dataclass(frozen=True, slots=True)
class _Study:
    status: StudyStatus
    progress: object
    last_progress: float  # Unix time


def _progress(status: StudyStatus) -> object:
    """Changes whenever the study comes nearer to its end, and when it begins to run."""
    trials = status.trials or TrialCounts()
    ended = tuple(getattr(trials, phase) for phase in TRIAL_PHASES if phase != "pending")
    return status.phase == "Running", status.steps_reached, status.worker_seconds, ended


class StatusCollector(Collector):
    """Makes samples of the latest statuses when asked."""

    def __init__(self, per_study: bool) -> None:
        self._per_study = per_study
        self.studies: dict[tuple[str, str], _Study] = {}
        self.plans: dict[tuple[str, str], SearchPlanStatus] = {}

    def update_study(self, key: tuple[str, str], status: StudyStatus, now: float) -> None:
        before, progress = self.studies.get(key), _progress(status)
        since = before.last_progress if before and before.progress == progress else now
        self.studies[key] = _Study(status.model_copy(), progress, since)

    def describe(self) -> Iterator[Metric]:
        """The names, for the registry."""
        return self.collect()

    def collect(self) -> Iterator[Metric]:
        yield self._count_studies()
        yield from self._collect_namespaces()
        if self._per_study:
            yield from self._collect_studies()
        yield from self._collect_plans()

    def _count_studies(self) -> Metric:
        family = GaugeMetricFamily(
            "hippo_studies", "Studies by phase.", None, ["namespace", "phase"]
        )
        counts = Tally(
            (namespace, study.status.phase or "Pending")
            for (namespace, _), study in self.studies.items()
        )
        for namespace in sorted({namespace for namespace, _ in self.studies}):
            for phase in PHASES:
                family.add_metric([namespace, phase], counts[namespace, phase])
        return family

    def _collect_namespaces(self) -> Iterator[Metric]:
        trials = GaugeMetricFamily(
            "hippo_trials", "Trials by phase, over all studies.", None, ["namespace", "phase"]
        )
        progress = GaugeMetricFamily(
            "hippo_studies_oldest_progress_timestamp_seconds",
            "When the running study that has waited longest last came nearer to its end.",
            labels=["namespace"],
        )
        counts: dict[str, Tally[str]] = {}
        oldest: dict[str, float] = {}
        for (namespace, _), study in self.studies.items():
            tally = counts.setdefault(namespace, Tally())
            for phase in TRIAL_PHASES if study.status.trials is not None else ():
                tally[phase] += getattr(study.status.trials, phase)
            if study.status.phase == "Running":
                before = oldest.get(namespace, study.last_progress)
                oldest[namespace] = min(before, study.last_progress)
        for namespace, tally in sorted(counts.items()):
            for phase in TRIAL_PHASES:
                trials.add_metric([namespace, phase], tally[phase])
        for namespace, since in sorted(oldest.items()):
            progress.add_metric([namespace], since)
        yield from (trials, progress)

    def _collect_studies(self) -> Iterator[Metric]:
        info = GaugeMetricFamily(
            "hippo_study_info",
            "Always 1: tells in which plan a study is, to join its metrics with the plan's.",
            labels=[*STUDY, "plan"],
        )
        trials = GaugeMetricFamily(
            "hippo_study_trials", "Trials of a study by phase.", labels=[*STUDY, "phase"]
        )
        requested = GaugeMetricFamily(
            "hippo_study_requested_steps", "Steps of all trials, each counted alone.", labels=STUDY
        )
        reached = GaugeMetricFamily(
            "hippo_study_reached_steps", "Of these, steps whose results are there.", labels=STUDY
        )
        merged = GaugeMetricFamily(
            "hippo_study_merge_ratio",
            "Steps requested / steps once merged; 1: nothing is shared.",
            labels=STUDY,
        )
        best = GaugeMetricFamily(
            "hippo_study_best_objective", "Objective of the best trial so far.", labels=STUDY
        )
        worker = CounterMetricFamily(
            "hippo_study_worker_seconds",
            "Worker-seconds charged to a study; the cost of a shared stage is split evenly.",
            labels=STUDY,
        )
        saved = GaugeMetricFamily(
            "hippo_study_saved_worker_seconds",
            "Estimate: worker-seconds that its trials would have cost one by one, less those"
            " charged.",
            labels=STUDY,
        )
        progress = GaugeMetricFamily(
            "hippo_study_last_progress_timestamp_seconds",
            "When a running study has last come nearer to its end: a result, or a report of work.",
            labels=STUDY,
        )
        for key, study in sorted(self.studies.items()):
            status = study.status
            if status.plan is not None:
                info.add_metric([*key, status.plan], 1)
            if status.trials is not None:
                for phase in TRIAL_PHASES:
                    trials.add_metric([*key, phase], getattr(status.trials, phase))
            _add(requested, key, status.steps_requested)
            _add(reached, key, status.steps_reached)
            _add(merged, key, status.merge_rate)
            _add(best, key, status.best.value if status.best is not None else None)
            _add(worker, key, status.worker_seconds)
            hours = status.saved_hours
            _add(saved, key, hours * 3600 if hours is not None else None)
            _add(progress, key, study.last_progress if status.phase == "Running" else None)
        yield from (info, trials, requested, reached, merged, best, worker, saved, progress)

    def _collect_plans(self) -> Iterator[Metric]:
        stages = GaugeMetricFamily(
            "hippo_plan_stages", "Stages of a plan's tree by state.", labels=[*PLAN, "state"]
        )
        chains = GaugeMetricFamily(
            "hippo_plan_chains", "Chains that are launched and have not ended.", labels=PLAN
        )
        requested = GaugeMetricFamily(
            "hippo_plan_requested_steps",
            "Steps of all trials of a plan's studies, each counted alone.",
            labels=PLAN,
        )
        unique = GaugeMetricFamily(
            "hippo_plan_unique_steps", "The same steps once merged.", labels=PLAN
        )
        trained = CounterMetricFamily(
            "hippo_plan_trained_steps", "Steps that workers have trained.", labels=PLAN
        )
        merged = GaugeMetricFamily(
            "hippo_plan_merge_ratio",
            "Steps requested / steps once merged, over all studies of a plan.",
            labels=PLAN,
        )
        worker = CounterMetricFamily(
            "hippo_plan_worker_seconds", "Worker-seconds that a plan has taken.", labels=PLAN
        )
        saved = GaugeMetricFamily(
            "hippo_plan_saved_worker_seconds",
            "Estimate: worker-seconds that trials would have cost one by one, less those taken.",
            labels=PLAN,
        )
        for key, status in sorted(self.plans.items()):
            if status.stages is not None:
                for state in STAGE_STATES:
                    stages.add_metric([*key, state], getattr(status.stages, state))
            chains.add_metric(key, len(status.chains))
            _add(requested, key, status.steps_requested)
            _add(unique, key, status.steps_unique)
            _add(trained, key, status.steps_trained)
            _add(merged, key, status.merge_rate)
            _add(worker, key, status.worker_seconds)
            _add(saved, key, status.saved_seconds)
        yield from (stages, chains, requested, unique, trained, merged, worker, saved)


def _add(
    family: GaugeMetricFamily | CounterMetricFamily, key: tuple[str, str], value: float | None
) -> None:
    """Add a sample, unless the value is not known."""
    if value is not None:
        family.add_metric(list(key), value)
