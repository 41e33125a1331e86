"""What the operator tells Prometheus of its studies, its plans and itself.

Gauges and totals of studies and plans are their statuses once more, read when Prometheus asks: an
update costs a reference, whatever the number of trials, and what is forgotten vanishes. What
happens and passes by (reports, pods, rounds of the operator) is counted when it is noted. Labels
name a namespace or a plan, or are one of few words; never a trial, a chain or a pod. Whoever can
reach the port reads all of it, so names and best values of studies are told on request only.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from hippo.kube.status.models import SearchPlanStatus, StudyStatus, TrialCounts
from hippo.protocol.reports import Began, CheckpointSaved, MetricsReported, Outcome, Report

STUDY, PLAN = ["namespace", "study"], ["namespace", "plan"]
PHASES: Final = ("Rejected", "Pending", "Running", "Suspended", "Succeeded", "Failed")
TRIAL_PHASES: Final = ("pending", "paused", "completed", "stopped", "diverged", "failed")
STAGE_STATES: Final = ("done", "running", "pending", "failed")

_BYTES = tuple(float(4**exponent) for exponent in range(5, 20))  # 1 KiB to 256 GiB
_SHORT = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_LONG = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3600.0, 14400.0, 86400.0)

_CAUSES = {
    # Of chains that told how they ended: nothing has to be found out about their pods.
    Outcome.FAILED: "trainer_error",
    Outcome.INVALID: "invalid_trainer",
    Outcome.REFUSED: "foreign_checkpoint",
    Outcome.CORRUPT: "corrupt_checkpoint",
    Outcome.STORE: "store",
    Outcome.PREEMPTED: "preempted",
}
_NO_CAUSE = ("", "none")


class Metrics:
    """All metrics of one operator. To be used from one thread; ``clock`` gives Unix time.

    ``per_study``: with series of each study, which hold its name and its best value.
    """

    def __init__(
        self,
        registry: CollectorRegistry | None = None,
        *,
        clock: Callable[[], float] = time.time,
        per_study: bool = False,
    ) -> None:
        # Series that would double what is stored, for nothing here.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        if registry is None:
            registry = CollectorRegistry()
            prometheus_client.ProcessCollector(registry=registry)
            prometheus_client.PlatformCollector(registry=registry)
            prometheus_client.GCCollector(registry=registry)
        self.registry = registry
        self._clock = clock
        self._statuses = _Statuses(per_study)
        registry.register(self._statuses)
        self._of_plans: list[Counter | Histogram] = []

        self._checkpoint_size = self._histogram(
            "hippo_checkpoint_size_bytes", "Sizes of the checkpoints that were saved.", _BYTES
        )
        self._copy = self._histogram(
            "hippo_checkpoint_copy_duration_seconds",
            "For how long training stood still, so that a checkpoint could be copied.",
        )
        self._write = self._histogram(
            "hippo_checkpoint_write_duration_seconds",
            "Writing a checkpoint to the store, beside training.",
        )
        self._load = self._histogram(
            "hippo_checkpoint_load_duration_seconds",
            "Reading and restoring the checkpoint that a chain starts from.",
        )
        self._start = self._histogram(
            "hippo_chain_start_duration_seconds",
            "From a worker's launch until its trainer was set up.",
        )
        self._evaluate = self._histogram(
            "hippo_evaluation_duration_seconds", "Evaluations of trainers."
        )
        self._stage = self._histogram(
            "hippo_stage_duration_seconds", "Training a stage from its beginning to its end.", _LONG
        )
        self._lag = self._histogram(
            "hippo_report_lag_seconds", "From a worker's report until the operator has taken it in."
        )
        self._queue = self._histogram(
            "hippo_pod_queue_duration_seconds", "From a pod's creation until it had a node.", _LONG
        )
        self._pod_start = self._histogram(
            "hippo_pod_start_duration_seconds",
            "From the moment that a pod had a node until its trainer's container ran.",
            _LONG,
        )
        self._gap = self._histogram(
            "hippo_chain_gap_seconds",
            "From the last step of a chain to the creation of the pod in its place.",
        )
        self._reconcile = self._histogram(
            "hippo_reconcile_duration_seconds", "Rounds of the operator over a plan."
        )
        self._reconcile_errors = self._counter(
            "hippo_reconcile_errors_total", "Rounds over a plan that failed, and are tried again."
        )
        self._store_errors = self._counter(
            "hippo_store_errors_total", "Rounds over a plan that failed because of the store."
        )
        self._ends = self._counter(
            "hippo_chain_ends_total", "Chains that have ended, by outcome.", "outcome"
        )
        self._failures = self._counter(
            "hippo_chain_failures_total",
            "Chains that have failed, by cause. Those that only had to leave are no failures.",
            "cause",
        )
        self._disruptions = self._counter(
            "hippo_chain_disruptions_total",
            "Chains that had to leave before their end, by cause: preemption, eviction, a lost"
            " node. Their work goes on from what was saved.",
            "cause",
        )
        self._last_reconcile = Gauge(
            "hippo_last_reconcile_timestamp_seconds",
            "When a round over any plan has last succeeded, or there was none to make.",
            registry=registry,
        )
        self._last_reconcile.set(clock())
        self._store_up = Gauge(
            "hippo_store_up", "Whether the store has answered the last time.", registry=registry
        )
        self._store_up.set(1)
        self._unswept = Gauge(
            "hippo_unswept_plans",
            "Plans that the last clean-up of the store could not read, and has left as they are.",
            registry=registry,
        )

    def expose(self, accept: str = "") -> tuple[bytes, str]:
        """All of it as text, and the type of that text; ``accept`` is what the reader accepts."""
        try:
            encode, content_type = choose_encoder(accept)
        except (TypeError, ValueError):  # of a version that is none
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type

    # -- studies and plans -------------------------------------------------------------------------

    def update_study(self, namespace: str, name: str, status: StudyStatus) -> None:
        """How a study stands, whether or not anything has changed."""
        self._statuses.update_study((namespace, name), status, self._clock())

    def forget_study(self, namespace: str, name: str) -> None:
        """It was deleted: its series vanish."""
        self._statuses.studies.pop((namespace, name), None)

    def keep_studies(self, there: Collection[tuple[str, str]]) -> None:
        """Of all others, by namespace and name, nobody has told that they were deleted."""
        for key in self._statuses.studies.keys() - set(there):
            del self._statuses.studies[key]

    def update_plan(self, namespace: str, plan: str, status: SearchPlanStatus) -> None:
        """How a plan stands."""
        self._statuses.plans[namespace, plan] = status.model_copy()

    def forget_plan_status(self, namespace: str, plan: str) -> None:
        """Its object was deleted."""
        self._statuses.plans.pop((namespace, plan), None)

    def forget_plan(self, namespace: str, plan: str) -> None:
        """Nobody works on it any more: its series vanish."""
        self.forget_plan_status(namespace, plan)
        for metric in self._of_plans:
            metric.remove_by_labels({"namespace": namespace, "plan": plan})

    # -- what happens ------------------------------------------------------------------------------

    def note_report(
        self, namespace: str, plan: str, report: Report, lag_seconds: float | None = None
    ) -> None:
        """A worker's report was taken in, so long after it was written."""
        labels = (namespace, plan)
        if lag_seconds is not None:
            self._lag.labels(*labels).observe(max(0.0, lag_seconds))
        match report:
            case Began():
                self._start.labels(*labels).observe(report.start_seconds)
                if report.step > 0:
                    self._load.labels(*labels).observe(report.load_seconds)
            case CheckpointSaved():
                self._checkpoint_size.labels(*labels).observe(report.size)
                self._copy.labels(*labels).observe(report.copy_seconds)
                if not report.existed:
                    self._write.labels(*labels).observe(report.write_seconds)
            case MetricsReported():
                self._evaluate.labels(*labels).observe(report.evaluate_seconds)
            case _:
                pass

    def note_stage(self, namespace: str, plan: str, seconds: float) -> None:
        """A stage was trained from its beginning to its end."""
        self._stage.labels(namespace, plan).observe(seconds)

    def note_pod(
        self,
        namespace: str,
        plan: str,
        *,
        queue_seconds: float | None = None,
        startup_seconds: float | None = None,
    ) -> None:
        """A pod has got its node, or its container runs."""
        if queue_seconds is not None:
            self._queue.labels(namespace, plan).observe(queue_seconds)
        if startup_seconds is not None:
            self._pod_start.labels(namespace, plan).observe(startup_seconds)

    def note_gap(self, namespace: str, plan: str, seconds: float) -> None:
        """A pod was created, so long after a chain that has ended had trained its last step."""
        self._gap.labels(namespace, plan).observe(seconds)

    def note_chain_end(
        self, namespace: str, plan: str, outcome: Outcome, cause: str | None = None
    ) -> None:
        """A chain has ended; ``cause`` is what its pod says (``pods.Cause``), if that is known."""
        self._ends.labels(namespace, plan, str(outcome)).inc()
        if outcome in (Outcome.COMPLETED, Outcome.STOPPED):
            return
        known = str(cause) if cause not in (None, *_NO_CAUSE) else _CAUSES.get(outcome, "unknown")
        counter = self._disruptions if outcome is Outcome.PREEMPTED else self._failures
        counter.labels(namespace, plan, known).inc()

    def note_store_error(self, namespace: str, plan: str) -> None:
        """The store has failed for a plan."""
        self._store_errors.labels(namespace, plan).inc()
        self.note_store_down()

    def note_store_down(self) -> None:
        """The store does not answer."""
        self._store_up.set(0)

    def note_unswept(self, plans: int) -> None:
        """The store was cleaned up, but for so many plans."""
        self._unswept.set(plans)

    def note_store_up(self) -> None:
        """The store has answered."""
        self._store_up.set(1)

    def reconciled(self, namespace: str, plan: str, seconds: float, error: bool) -> None:
        """A round over a plan is over. One without an error has had answers of the store."""
        self._reconcile.labels(namespace, plan).observe(seconds)
        errors = self._reconcile_errors.labels(namespace, plan)
        if error:
            errors.inc()
        else:
            self.note_idle()
            self.note_store_up()

    def note_idle(self) -> None:
        """The operator is alive; perhaps there is nothing to make a round over."""
        self._last_reconcile.set(self._clock())

    # -- making them -------------------------------------------------------------------------------

    def _histogram(self, name: str, text: str, buckets: Iterable[float] = _SHORT) -> Histogram:
        metric = Histogram(name, text, PLAN, buckets=tuple(buckets), registry=self.registry)
        self._of_plans.append(metric)
        return metric

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        metric = Counter(name, text, [*PLAN, *labels], registry=self.registry)
        self._of_plans.append(metric)
        return metric


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


class _Statuses(Collector):
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
    """What is not known has no sample."""
    if value is not None:
        family.add_metric(list(key), value)
